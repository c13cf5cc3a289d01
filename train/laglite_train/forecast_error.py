"""How good a network's forecasts are while it is trained: its paths, decoded and measured.

The likelihood of the next value says little about a whole horizon: it may improve while errors
that feed back on themselves grow. So what is kept is decided by the metric of the backtest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laglite.errors import LagliteError
from laglite.evaluation.backtest import from_samples
from laglite.evaluation.metrics import DECILES, combine, levels_needed, window_errors
from laglite.forecast import Forecast
from laglite.heads import HEADS
from laglite.randomness import LatticeNoise
from laglite.window import Window
from laglite_train.model import LagLlama
from laglite_train.rollout import PathDecoder
from laglite_train.windows import Batch

PATHS = 32


@torch.no_grad()
def forecast_wql(
    model: LagLlama,
    batches: Sequence[tuple[Batch, Sequence[Window]]],
    horizon: int,
    *,
    seed: int = 0,
    paths: int = PATHS,
) -> float:
    """Weighted quantile loss of `model` over the `horizon` values after each window's prompt.

    Each batch comes with the windows that it was encoded from. Paths and quantiles are those of
    `Forecaster.predict` with the same seed. Infinite where a forecast is not finite.
    """
    device = next(model.parameters()).device
    errors = []
    for batch, windows in batches:
        moved = Batch(*(part.to(device) for part in batch))
        try:
            scaled, fine = _decode(model, moved, windows, horizon, seed, paths)
        except LagliteError:  # counts beyond all bounds
            return math.inf
        ahead = batch.prompts[:, None] - 1 + torch.arange(horizon)
        truth = batch.values.gather(1, ahead).double().numpy()
        truth[batch.weights.gather(1, ahead).numpy() == 0] = np.nan
        for row, window in enumerate(windows):
            samples = window.to_data(scaled[row])
            if not np.isfinite(samples).all():
                return math.inf
            marginals = window.to_data(fine[row]) if fine[row].size else None
            forecast = Forecast(samples, None, None, marginals=marginals)
            found = from_samples(forecast, levels_needed(DECILES))
            errors.append(window_errors(found, truth[row], math.nan))
    wql = combine(errors).wql
    return wql if math.isfinite(wql) else math.inf


def _decode(
    model: LagLlama,
    batch: Batch,
    windows: Sequence[Window],
    horizon: int,
    seed: int,
    paths: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """In scaled units: paths [windows, paths, horizon], marginals [windows, horizon, draws]."""
    head, whole = HEADS[model.spec.head], slice(0, paths)
    noises = [LatticeNoise(seed, each, horizon, paths, head.fine_draws) for each in windows]
    states: list[NDArray[np.float64] | None] = [None] * len(windows)
    fine: list[NDArray[np.float32]] = []

    def draw(arguments: dict[str, Tensor], step: int) -> Tensor:
        """One value a path, [windows, paths], by the runtime's closed forms."""
        known = {name: value.cpu().numpy() for name, value in arguments.items()}
        shown = []
        for row, (window, noise) in enumerate(zip(windows, noises, strict=True)):
            own = {name: value[row] for name, value in known.items()}
            uniforms = noise.fine(step, whole)
            if uniforms is not None:
                each = {name: value[None] for name, value in own.items()}
                shown.append(head.sample(each, uniforms, window).ravel())
            states[row] = head.sample(own, noise.uniforms(step, whole, states[row]), window)
        fine.append(np.array(shown, np.float32).reshape(len(windows), -1))
        return torch.from_numpy(np.array(states, np.float32)).to(batch.tokens)

    first, caches = model.with_caches(batch.tokens)
    rows = torch.arange(len(windows), device=batch.tokens.device)
    arguments = {
        name: value[rows, batch.prompts - 1][:, None].expand(-1, paths)
        for name, value in first.items()
    }
    decoder = PathDecoder(model, batch, caches, paths)
    draws = [draw(arguments, 0)]
    for step in range(1, horizon):
        draws.append(draw(decoder.step(step - 1, draws), step))
    return torch.stack(draws, -1).cpu().numpy(), np.stack(fine, axis=1)
