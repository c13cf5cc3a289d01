"""Lag-Llama decoding as PyTorch programs do it, on any device: peers of laglite.

For networks whose tokens hold lags, static features and the calendar, as published.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from laglite.benchmarking.workload import FREQ, START
from laglite.rope import rotary_tables
from laglite.tokens import TimeAxis, encode
from laglite_train.distributions import sample
from laglite_train.model import KeysValues, LagLlama, rotate


class Peer:
    """The PyTorch network around series; every method yields [series x paths, horizon] scaled."""

    def __init__(
        self, model: LagLlama, values: np.ndarray, context: int, horizon: int, paths: int
    ) -> None:
        """`values` [series, length]; runs where `model` lies."""
        self.model, self.context, self.horizon, self.paths = model, context, horizon, paths
        self.axis = TimeAxis.of(START, FREQ)
        self.values, self.rows = values, len(values) * paths
        self.device = next(model.parameters()).device

    def forecast(self, run: Callable[[Peer], torch.Tensor]) -> torch.Tensor:
        """Features, network and draws of one forecast."""
        spec = self.model.spec
        prompts = [encode(spec, one, self.axis, self.context) for one in self.values]
        self.windows = [prompt.window for prompt in prompts]
        self.prompt = self._put(np.stack([prompt.tokens for prompt in prompts]))
        static = self.prompt[:, -1, spec.num_past :][:, : spec.num_static]
        self.static = static.repeat_interleave(self.paths, dim=0)
        self.calendar = self._put(self.axis.calendar(self.values.shape[1], self.horizon - 1))
        scaled = self._put(np.stack([window.scaled for window in self.windows]))
        self.history = scaled.repeat_interleave(self.paths, dim=0)
        with torch.inference_mode():
            return run(self)

    def draw(self, arguments: dict[str, torch.Tensor]) -> None:
        """Draw the next value of each path from arguments of [series] or [series x paths]."""
        uniforms = 1 - torch.rand(2, self.rows, device=self.device)
        last = {
            name: value.float().repeat_interleave(self.rows // len(value))
            for name, value in arguments.items()
        }
        drawn = sample(self.model.spec.head, last, uniforms)
        self.history = torch.cat([self.history, drawn[:, None]], dim=1)

    def token(self, step: int) -> torch.Tensor:
        """The token of each path's last value, [series x paths, 1, features]."""
        places = self.history.shape[1] - 1 - torch.tensor(self.model.spec.lags, device=self.device)
        lagged = self.history[:, places]
        calendar = self.calendar[step].expand(self.rows, -1)
        return torch.cat([lagged, self.static, calendar], dim=1)[:, None]

    def result(self) -> torch.Tensor:
        return self.history[:, -self.horizon :]

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def recomputed(peer: Peer) -> torch.Tensor:
    """The published default: every path's whole sequence through the network at each step."""
    tokens = peer.prompt.repeat_interleave(peer.paths, dim=0)
    for step in range(peer.horizon):
        arguments = peer.model(tokens)
        peer.draw({name: value[:, -1] for name, value in arguments.items()})
        if step + 1 < peer.horizon:
            tokens = torch.cat([tokens, peer.token(step)], dim=1)
    return peer.result()


def cached(peer: Peer) -> torch.Tensor:
    """Keys and values kept; the prompt computed for every path, as published."""
    return _with_cache(peer, peer.prompt.repeat_interleave(peer.paths, dim=0))


def shared_prompt(peer: Peer) -> torch.Tensor:
    """Keys and values kept, the prompt computed once and copied to every path."""
    return _with_cache(peer, peer.prompt)


def compiled(peer: Peer) -> torch.Tensor:
    """As `shared_prompt`, with layers compiled for any length of the cache."""
    return _with_cache(peer, peer.prompt, _compiled_block)


def compiler() -> str | None:
    """The C++ compiler that `torch.compile` would use; None if there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def _with_cache(peer: Peer, prompt: torch.Tensor, layer: Any = None) -> torch.Tensor:
    model, layer = peer.model, layer or _block
    arguments, caches = model.with_caches(prompt)
    arguments = {name: value[:, -1] for name, value in arguments.items()}
    # Rotated keys are float32 under autocast, which would convert all of them again at each step.
    caches = [(key.to(value.dtype), value) for key, value in caches]
    copies = peer.rows // len(prompt)
    if copies > 1:
        caches = [
            tuple(part.repeat_interleave(copies, dim=0) for part in cache) for cache in caches
        ]
    tables = rotary_tables(model.spec, peer.context + peer.horizon - 1)
    cos, sin = (torch.from_numpy(table).to(peer.device) for table in tables)
    for step in range(peer.horizon):
        peer.draw(arguments)
        if step + 1 == peer.horizon:
            break
        tokens, place = peer.token(step), peer.context + step
        x = model.embed(tokens)
        for number, block in enumerate(model.transformer["h"]):
            x, caches[number] = layer(
                block, x, cos[place : place + 1], sin[place : place + 1], caches[number]
            )
        arguments = {name: value[:, -1] for name, value in model.head(x, tokens).items()}
    return peer.result()


def _block(
    block: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cache: KeysValues
) -> tuple[torch.Tensor, KeysValues]:
    """One layer for one new token a path."""
    query, key, value = (part.transpose(1, 2) for part in block.attn.heads(block.rms_1(x)))
    keys = torch.cat([cache[0], rotate(key, cos, sin).to(cache[0].dtype)], dim=2)
    values = torch.cat([cache[1], value], dim=2)
    mixed = functional.scaled_dot_product_attention(rotate(query, cos, sin), keys, values)
    x = x + block.attn.c_proj(mixed.transpose(1, 2).flatten(2))
    return x + block.mlp(block.rms_2(x)), (keys, values)


_compiled_block = torch.compile(_block, dynamic=True)
