"""Training windows: raw draws, augmented and encoded by the runtime's features, in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from laglite.errors import InputError
from laglite.regression import Regression
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_train.corpus import SeriesSet
from laglite_train.draws import Draws, SamplingConfig, held_out
from laglite_train.synthetic import SyntheticConfig
from laglite_train.window_augmentation import AugmentationConfig, augment

MOST_DRAWS = 100


class Batch(NamedTuple):
    """Encoded windows of one size, shorter ones filled on the right with weight 0.

    tokens [batch, tokens, features]; values (the next value at each position, data units) and
    weights [batch, tokens]; loc and scale [batch, 1]. All float32. int64 [batch]: `prompts`, how
    many of the tokens are history, and `sources`, the place of each window's stratum, -1 for a
    synthetic one. `lags` int64 [batch, lags] are those of each window's tokens, -1 for none.
    `regressions` float32 [batch, lags + 2] are the weights, the lowest and the highest forecast of
    each window's regression (see `laglite.regression`); [batch, 0] for models without.
    """

    tokens: Tensor
    values: Tensor
    weights: Tensor
    loc: Tensor
    scale: Tensor
    prompts: Tensor
    lags: Tensor
    sources: Tensor
    regressions: Tensor


class TrainingBatches(Dataset[Batch]):
    """Window `j` of batch `i` depends on the seed, `i` and `j` alone.

    So a resumed run repeats the uninterrupted one, and `world` processes that each take every
    `world`-th window (from `rank` on) together see the batches of a single one.
    """

    def __init__(
        self,
        corpus: Sequence[SeriesSet],
        spec: ModelSpec,
        config: SamplingConfig,
        *,
        batch_size: int,
        steps: range,
        seed: int,
        synthetic: SyntheticConfig | None = None,
        augmentation: AugmentationConfig | None = None,
        hold_out: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.draws = Draws(
            corpus,
            config,
            synthetic or SyntheticConfig(),
            max_lag=spec.max_lag,
            num_covariates=spec.num_covariates,
            hold_out=hold_out,
        )
        self.spec, self.config = spec, config
        self.augmentation = augmentation or AugmentationConfig()
        self.steps, self.seed = steps, seed
        self.rows = range(rank, batch_size, world)

    @property
    def names(self) -> list[str]:
        """The strata that `Batch.sources` refers to."""
        return [group.name for group in self.draws.strata]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Batch:
        step = self.steps[index]
        context = int(np.random.default_rng([self.seed, step]).choice(self.config.context_lengths))
        windows = [
            self._window(np.random.default_rng([self.seed, step, row]), context)
            for row in self.rows
        ]
        return collate(windows, context + self.config.horizon - 1)

    def _window(self, random: np.random.Generator, context: int) -> EncodedWindow:
        for _ in range(MOST_DRAWS):
            raw = self.draws.draw(random, context)
            raw = augment(raw, lambda: self.draws.draw(random, context), self.augmentation, random)
            window = encode_window(
                self.spec,
                raw.values[: raw.past],
                raw.axis,
                raw.values[raw.past :],
                context,
                raw.source,
                raw.covariates,
            )
            if window is not None and window.largest <= self.config.largest_value:
                return window
        raise InputError(
            "hardly any window can be trained on: the series are nearly empty, or reach "
            f"beyond sampling.largest_value {self.config.largest_value:g}"
            + (", or are negative, as counts cannot be" if self.spec.head == "neg_bin" else "")
        )


class ValidationBatches(Dataset[Batch]):
    """The held-out end of series, the same windows in every run: at most `per_set` a stratum.

    `world` processes that each take every `world`-th window have equally many batches; windows of
    weight 0 fill up the last. Raises InputError if no held-out end can be validated on.
    """

    def __init__(
        self,
        strata: Sequence[SeriesSet],
        spec: ModelSpec,
        config: SamplingConfig,
        *,
        batch_size: int,
        per_set: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        context = config.context_lengths[0]
        self.length = context + config.horizon - 1
        windows: list[EncodedWindow] = []
        for source, group in enumerate(strata):
            step = max(1, len(group.series) // per_set)
            for place in range(0, len(group.series), step)[:per_set]:
                series = group.series[place]
                end = len(series.values) - held_out(len(series.values), config.horizon)
                begin = max(0, end - spec.max_lag - context)
                axis = series.axis.shifted(begin) if begin else series.axis
                future = series.values[end:]
                covariates = None
                if spec.num_covariates and series.covariates is not None:
                    covariates = series.covariates[:, begin:]
                window = encode_window(
                    spec, series.values[begin:end], axis, future, context, source, covariates
                )
                if window is not None and window.largest <= config.largest_value:
                    window.weights[: len(window.weights) - len(future)] = 0.0
                    windows.append(window)
        if not any(window.weights.any() for window in windows):
            raise InputError(
                "no series has an observed value in its held-out end to validate on, within "
                f"sampling.largest_value {config.largest_value:g}"
            )
        blank = dataclasses.replace(windows[0], weights=np.zeros_like(windows[0].weights))
        windows += [blank] * (-len(windows) % world)
        windows = windows[rank::world]
        self.batches = [windows[i : i + batch_size] for i in range(0, len(windows), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return collate(self.batches[index], self.length)


@dataclass(frozen=True)
class EncodedWindow:
    """One window before collation: tokens [n, features], next values and weights [n].

    The first `prompt` tokens are those of its history.
    """

    tokens: NDArray[np.float32]
    values: NDArray[np.float32]
    weights: NDArray[np.float32]
    loc: float
    scale: float
    prompt: int
    lags: NDArray[np.int64]
    source: int
    regression: NDArray[np.float32]

    @property
    def largest(self) -> float:
        """Largest magnitude of the values read and predicted, in scaled units."""
        ahead = np.abs((self.values - self.loc) / self.scale) * self.weights
        return max(float(np.abs(self.tokens).max()), float(ahead.max()))


def encode_window(
    spec: ModelSpec,
    history: NDArray[np.float32],
    axis: TimeAxis,
    future: NDArray[np.float32],
    context: int,
    source: int = 0,
    covariates: NDArray[np.float32] | None = None,
) -> EncodedWindow | None:
    """Tokens, next values and weights of `history` [past] and the `future` after it.

    `axis` is the time of the history's first value; `covariates` [num, past + future] begin there
    too. None where the history, as far as the model looks back, holds no value, and for negative
    values where the head is one of counts: their likelihood has no bound.
    """
    if spec.head == "neg_bin" and (np.concatenate([history, future]) < 0).any():
        return None
    if np.isnan(history[-(spec.max_lag + context) :]).all():
        return None
    prompt = encode(
        spec,
        history.astype(np.float64),
        axis,
        context,
        future[:-1].astype(np.float64),
        None if covariates is None else covariates.T.astype(np.float64),
    )
    known = np.concatenate([history, future])
    following = np.full(len(prompt.tokens), np.nan, np.float32)
    available = known[-len(prompt.tokens) :]
    following[-len(available) :] = available
    return EncodedWindow(
        prompt.tokens,
        np.nan_to_num(following),
        (~np.isnan(following)).astype(np.float32),
        prompt.window.loc,
        prompt.window.scale,
        prompt.window.tokens,
        prompt.lags,
        source,
        _regression_row(prompt.regression),
    )


def _regression_row(regression: Regression | None) -> NDArray[np.float32]:
    if regression is None:
        return np.zeros(0, np.float32)
    return np.append(regression.weights, [regression.low, regression.high]).astype(np.float32)


def collate(windows: Sequence[EncodedWindow], length: int) -> Batch:
    """Stack windows of up to `length` tokens; what is missing on the right has weight 0."""
    count, features = len(windows), windows[0].tokens.shape[1]
    tokens = np.zeros((count, length, features), np.float32)
    values = np.zeros((count, length), np.float32)
    weights = np.zeros((count, length), np.float32)
    for row, window in enumerate(windows):
        used = len(window.tokens)
        tokens[row, :used] = window.tokens
        values[row, :used] = window.values
        weights[row, :used] = window.weights
    columns = np.array([[w.loc, w.scale] for w in windows], np.float32)
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(values),
        torch.from_numpy(weights),
        torch.from_numpy(columns[:, :1].copy()),
        torch.from_numpy(columns[:, 1:].copy()),
        torch.tensor([w.prompt for w in windows]),
        torch.from_numpy(np.stack([w.lags for w in windows])),
        torch.tensor([w.source for w in windows]),
        torch.from_numpy(np.stack([w.regression for w in windows])),
    )
