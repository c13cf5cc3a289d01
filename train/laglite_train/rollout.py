"""Rollouts: sample paths drawn in training, as in forecasting, and scored at every step ahead.

The likelihood of the next value hardly notices a feedback that is a few per cent too strong, but
over a horizon such errors multiply. So part of the windows are decoded on: paths are drawn from
the model's own distributions, with gradients through every draw, and the continuous ranked
probability score of their marginal distributions joins the loss. The score is proper
(Gneiting & Raftery 2007): the expected minimum is the true distribution, so spread stays honest,
which it would not if true values were mixed with noise or with samples as inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from laglite.rope import rotary_tables
from laglite_train.distributions import sample
from laglite_train.model import KeysValues, LagLlama, rotate
from laglite_train.windows import Batch

SMALLEST_MOVE = 0.05  # of a window's scale, in the unit of the score


HEADS = ("studentT", "normal")  # whose draws have gradients


@dataclass(frozen=True)
class RolloutConfig:
    """Sample paths in the training loss.

    From the share `begin` of the run on, `windows` windows of each batch (over all processes) are
    decoded for up to `steps` steps along `paths` paths; their score joins the loss with `weight`
    (0: none).
    """

    weight: float = 0.0
    begin: float = 0.5
    steps: int = 24
    paths: int = 8
    windows: int = 16


def rollout_uniforms(config: RolloutConfig, seed: int, step: int) -> Tensor:
    """What decides the draws of a training step: [steps, 2, windows, paths] in (0, 1]."""
    shape = (config.steps, 2, config.windows, config.paths)
    drawn = np.random.default_rng([seed, step]).random(shape, np.float32)
    return torch.from_numpy(1 - drawn)


def rollout_losses(
    model: LagLlama,
    batch: Batch,
    caches: Sequence[KeysValues],
    first: Mapping[str, Tensor],
    uniforms: Tensor,
) -> tuple[Tensor, Tensor]:
    """Losses of sample paths and weights, both [windows]; weight 0 without any true value.

    `caches` and `first` are what `model.with_caches` gave for `batch.tokens`, `uniforms`
    [steps, 2, windows, paths] decide the draws. A score is the CRPS of a step's marginal
    distribution over the distance by which the true values move from the last known one on
    average, so that lively and quiet windows count alike; a window's loss is log(1 + mean score),
    so that those whose paths run away do not drown all others.
    """
    last = batch.prompts - 1
    rows = torch.arange(len(last), device=last.device)
    steps = min(len(uniforms), batch.tokens.shape[1] - int(last.max()))
    paths = uniforms.shape[-1]
    arguments = {
        name: value[rows, last][:, None].expand(-1, paths) for name, value in first.items()
    }
    decoder = PathDecoder(model, batch, caches, paths)
    draws: list[Tensor] = []
    for step in range(steps):
        if step:
            arguments = decoder.step(step - 1, draws)
        draws.append(sample(model.spec.head, arguments, uniforms[step]))
    ahead = last[:, None] + torch.arange(steps, device=last.device)  # [windows, steps]
    truth = (batch.values.gather(1, ahead) - batch.loc) / batch.scale
    weights = batch.weights.gather(1, ahead)
    origin = batch.tokens[rows, last, 0][:, None]  # lag 0: the last known value
    known = weights.sum(1)
    moves = ((truth - origin).abs() * weights).sum(1) / known.clamp_min(1.0)
    scores = (crps(torch.stack(draws, -1), truth) * weights).sum(1) / known.clamp_min(1.0)
    seen = (known > 0).to(scores)
    # The unbiased spread may exceed the distance by chance, but not by more than the distance.
    return (scores / (moves + SMALLEST_MOVE)).clamp_min(-0.5).log1p() * seen, seen


def crps(paths: Tensor, truth: Tensor) -> Tensor:
    """CRPS of an ensemble, unbiased in its size (Zamo & Naveau 2018, eq. 3, "fair").

    `paths` is [batch, paths, steps], `truth` [batch, steps]; so is the result.
    """
    count = paths.shape[1]
    distance = (paths - truth[:, None]).abs().mean(1)
    ordered = paths.sort(dim=1).values
    ranks = 2 * torch.arange(1, count + 1, device=paths.device) - count - 1
    spread = (ordered * ranks[:, None]).sum(1) / (count * (count - 1))
    return distance - spread


class PathDecoder:
    """Decodes paths behind prompts of any length, keeping everything that gradients need."""

    def __init__(
        self, model: LagLlama, batch: Batch, caches: Sequence[KeysValues], paths: int
    ) -> None:
        self.model, self.paths = model, paths
        self.tokens, self.prompts, self.lags = batch.tokens, batch.prompts, batch.lags
        self.caches = caches
        self.weights, self.bounds = batch.regressions.tensor_split([batch.lags.shape[1]], dim=1)
        self.rows = torch.arange(len(batch.tokens), device=batch.tokens.device)
        places = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        beyond = places >= batch.prompts[:, None]
        self.mask = torch.zeros_like(beyond, dtype=torch.float32).masked_fill(beyond, -math.inf)
        tables = rotary_tables(model.spec, batch.tokens.shape[1])
        self.cos, self.sin = (torch.from_numpy(table).to(batch.tokens) for table in tables)
        self.own: list[list[KeysValues]] = [[] for _ in caches]

    def step(self, step: int, draws: Sequence[Tensor]) -> dict[str, Tensor]:
        """Arguments [batch, paths] after each path's last draw, its token being number `step`."""
        place = self.prompts + step
        tokens = self._tokens(place, draws)
        x = self.model.embed(tokens)
        cos, sin = (table[place][:, None, None] for table in (self.cos, self.sin))
        for layer, block in enumerate(self.model.transformer["h"]):
            normed = block.rms_1(x)
            query, key, value = block.attn.heads(normed)  # [batch, paths, heads, dim]
            query, key = rotate(query, cos, sin), rotate(key, cos, sin)
            self.own[layer].append((key, value))
            x = x + block.attn.c_proj(self._attend(layer, query).flatten(-2))
            x = x + block.mlp(block.rms_2(x))
        return self.model.head(x, tokens)

    def _tokens(self, place: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """The known tokens at `place` with lags that reach the draws taken from them."""
        tokens = self.tokens[self.rows, place][:, None].expand(-1, self.paths, -1)
        reached = (self.lags >= 0) & (self.lags < len(draws))
        number = (len(draws) - 1 - self.lags).clamp_min(0) * reached  # of the draw, [batch, lags]
        drawn = torch.stack(list(draws), -1)  # [batch, paths, draws]
        drawn = drawn.gather(2, number[:, None].expand(-1, self.paths, -1))
        lagged = torch.where(reached[:, None], drawn, tokens[..., : number.shape[1]])
        past = [lagged]
        if self.model.spec.regression:
            low, high = self.bounds[:, None].unbind(-1)
            sums = (lagged * self.weights[:, None]).sum(-1)  # [batch, paths]
            past.append(sums.clamp(low, high)[..., None])
        return torch.cat([*past, tokens[..., self.model.spec.num_past :]], -1)

    def _attend(self, layer: int, query: Tensor) -> Tensor:
        """One softmax over the prompt, shared by the paths, and over each path's own tokens."""
        keys, values = self.caches[layer]  # [batch, heads, tokens, dim]
        own_keys = torch.stack([key for key, _ in self.own[layer]], 3)
        own_values = torch.stack([value for _, value in self.own[layer]], 3)
        query = query / math.sqrt(query.shape[-1])
        shared = torch.einsum("bphd,bhtd->bpht", query, keys) + self.mask[:, None, None]
        own = torch.einsum("bphd,bphsd->bphs", query, own_keys)
        share = torch.cat([shared, own], -1).softmax(-1)
        length = keys.shape[2]
        return torch.einsum("bpht,bhtd->bphd", share[..., :length], values) + torch.einsum(
            "bphs,bphsd->bphd", share[..., length:], own_values
        )
