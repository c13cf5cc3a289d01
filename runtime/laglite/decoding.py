"""Decoding: the sampling loop from a prompt's cache to `[paths, horizon]` samples."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from laglite.backends.protocol import Arguments, Backend, Decoder
from laglite.errors import LagliteError
from laglite.heads import HEADS
from laglite.kv_cache import PromptCache
from laglite.rope import rotary_tables
from laglite.spec import ModelSpec
from laglite.tokens import Prompt, static_features

Array = NDArray[np.float32]


def prefill(
    backend: Backend, prompt: Prompt, rotary: tuple[Array, Array]
) -> tuple[Arguments, PromptCache]:
    """Run the prompt once, at the first positions of `rotary`, the whole sequence's tables.

    Returns the head's arguments [tokens] and the prompt's cache.
    """
    cos, sin = (table[: len(prompt.tokens)] for table in rotary)
    arguments, caches = backend.prefill(prompt.tokens[None], cos, sin)
    return {name: values[0] for name, values in arguments.items()}, caches[0]


def sample_paths(
    backend: Backend,
    spec: ModelSpec,
    prompt: Prompt,
    known: Array,
    uniforms: NDArray[np.float64],
    *,
    nonnegative: bool,
    shards: int,
) -> Array:
    """Draw sample paths after a prompt.

    `known` [horizon - 1, calendar + covariates] belongs to the tokens of the forecast's own steps
    (see `tokens.known_features`), `uniforms` [horizon, 2, paths] decide the draws. Paths are split
    over `shards` threads, which does not change them. Returns float32 [paths, horizon] in data
    units. Raises LagliteError if the model yields values that are not finite.
    """
    horizon, _, paths = uniforms.shape
    rotary = rotary_tables(spec, len(prompt.tokens) + horizon - 1)
    arguments, cache = prefill(backend, prompt, rotary)
    last = {name: values[-1] for name, values in arguments.items()}

    def run(part: slice) -> Array:
        own = uniforms[:, :, part]
        decoder = backend.decoder(cache, own.shape[2], horizon - 1)
        return _decode(decoder, spec, prompt, last, known, own, rotary, nonnegative)

    # At least two paths each: products with a single row are rounded by kernels of their own.
    bounds = np.linspace(0, paths, min(shards, max(1, paths // 2)) + 1).astype(int)
    parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    if len(parts) == 1:
        scaled = run(parts[0])
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            scaled = np.concatenate(list(pool.map(run, parts)))
    samples = prompt.window.to_data(scaled)
    if not np.isfinite(samples).all():
        raise LagliteError(
            "the model's forecast is not finite; the history may span too many orders of magnitude"
        )
    if nonnegative:
        samples = np.maximum(samples, 0)  # unscaling a floored value may round below zero
    return np.rint(samples) if spec.head == "neg_bin" else samples


def _decode(
    decoder: Decoder,
    spec: ModelSpec,
    prompt: Prompt,
    last: Arguments,
    known: Array,
    uniforms: NDArray[np.float64],
    rotary: tuple[Array, Array],
    nonnegative: bool,
) -> Array:
    """One shard: returns scaled samples [paths, horizon]."""
    horizon, _, paths = uniforms.shape
    head, window, count = HEADS[spec.head], prompt.window, len(prompt.tokens)
    floor = window.to_scaled(np.zeros(1))[0]
    history = PathHistory(spec, prompt, paths, horizon)
    fill_static(decoder.tokens, spec, prompt)
    arguments = {name: np.broadcast_to(value, paths) for name, value in last.items()}
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        for step in range(horizon):
            draws = head.sample(arguments, uniforms[step], window)
            history.append(np.maximum(draws, floor) if nonnegative else draws)
            if step + 1 < horizon:
                history.write_tokens(decoder.tokens, known[step])
                arguments = decoder.step(rotary[0][count + step], rotary[1][count + step])
    return history.drawn


def fill_static(tokens: Array, spec: ModelSpec, prompt: Prompt) -> None:
    """Write the features that stay the same over the horizon into tokens [paths, features]."""
    columns = slice(spec.num_past, spec.num_past + spec.num_static)
    tokens[:, columns] = static_features(spec, prompt.window, prompt.lags, prompt.regression)


class PathHistory:
    """The scaled values each path looks back on: the window's, then its own."""

    def __init__(self, spec: ModelSpec, prompt: Prompt, paths: int, horizon: int) -> None:
        self._spec, window = spec, prompt.window
        self._values = np.empty((paths, spec.max_lag + horizon), np.float32)
        self._values[:, : spec.max_lag] = window.scaled[len(window.scaled) - spec.max_lag :]
        self._columns = spec.max_lag - np.maximum(prompt.lags, 0)
        self._absent = np.flatnonzero(prompt.lags < 0)
        self._regression = prompt.regression
        self._length = 0

    @property
    def drawn(self) -> Array:
        """What has been appended: [paths, steps]."""
        return self._values[:, self._spec.max_lag : self._spec.max_lag + self._length]

    def append(self, values: NDArray[np.floating]) -> None:
        """Add one value a path, [paths]."""
        self._values[:, self._spec.max_lag + self._length] = values
        self._length += 1

    def write_tokens(self, tokens: Array, known: Array) -> None:
        """Write the last value's token into tokens [paths, features]: lags, and `known` of it."""
        spec = self._spec
        lagged = self._values[:, self._columns + (self._length - 1)]
        lagged[:, self._absent] = 0.0
        tokens[:, : spec.num_lags] = lagged
        if self._regression is not None:
            tokens[:, spec.num_lags] = self._regression.forecast(lagged)
        tokens[:, spec.num_past + spec.num_static :] = known
