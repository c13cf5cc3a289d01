"""Decoding: the sampling loop from a prompt's cache to `[paths, horizon]` samples."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laglite.backends.protocol import Arguments, Backend, Decoder, EncodedPrompt
from laglite.errors import LagliteError, naming
from laglite.heads import HEADS
from laglite.randomness import Noise
from laglite.rope import rotary_tables
from laglite.spec import ModelSpec
from laglite.tokens import Prompt, static_features

Array = NDArray[np.float32]


@dataclass(frozen=True)
class PathRequest:
    """What one series' sample paths follow from.

    `known` [horizon - 1, calendar + covariates] belongs to the tokens of the forecast's own steps
    (see `tokens.known_features`), `noise` decides the draws. `series` is what errors call it.
    """

    prompt: Prompt
    known: Array
    noise: Noise
    nonnegative: bool
    series: str | None = None

    @property
    def floor(self) -> float:
        """The smallest value allowed, in scaled units."""
        return float(self.prompt.window.to_scaled(np.zeros(1))[0]) if self.nonnegative else -np.inf

    def rotary(self, spec: ModelSpec) -> tuple[Array, Array]:
        """Rotary rows of the prompt's positions and the horizon's."""
        return rotary_tables(spec, len(self.prompt.tokens) + self.noise.horizon - 1)


@dataclass(frozen=True)
class Prefilled:
    """A prompt's head arguments, [tokens] each, and its cache, in the backend's own form."""

    arguments: Arguments
    cache: EncodedPrompt


def prefill(
    backend: Backend, prompts: Sequence[Prompt], rotary: tuple[Array, Array]
) -> list[Prefilled]:
    """Run prompts of one length together, at the first positions of `rotary`."""
    cos, sin = (table[: len(prompts[0].tokens)] for table in rotary)
    tokens = np.stack([prompt.tokens for prompt in prompts])  # [series, context, features]
    arguments, caches = backend.prefill(tokens, cos, sin)
    return [
        Prefilled({name: values[row] for name, values in arguments.items()}, cache)
        for row, cache in enumerate(caches)
    ]


def sample_paths(
    backend: Backend, spec: ModelSpec, request: PathRequest, prefilled: Prefilled, shards: int
) -> tuple[Array, Array | None]:
    """Draw sample paths after a prompt.

    Paths are split over `shards` threads, which does not change them. Returns float32
    [paths, horizon] in data units, and, from noise with fine draws, the draws [horizon, draws] of
    every path's distribution at each step. Raises LagliteError if the model yields values that are
    not finite.
    """
    noise = request.noise
    rotary = request.rotary(spec)

    def run(part: slice) -> tuple[Array, Array]:
        decoder = backend.decoder(prefilled.cache, part.stop - part.start, noise.horizon - 1)
        return _decode(decoder, spec, request, prefilled.arguments, part, rotary)

    parts = noise.parts(shards)
    with naming(request.series):
        if len(parts) == 1:
            scaled, fine = run(parts[0])
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                pieces, fine_pieces = zip(*pool.map(run, parts), strict=True)
            scaled, fine = np.concatenate(pieces), np.concatenate(fine_pieces, axis=2)
        return in_data_units(spec, request, scaled, fine)


def in_data_units(
    spec: ModelSpec, request: PathRequest, scaled: Array, fine: Array
) -> tuple[Array, Array | None]:
    """What `sample_paths` returns, of scaled [paths, horizon], fine [horizon, draws, paths]."""
    samples = _to_data(scaled, spec, request.prompt, request.nonnegative)
    if not fine.size:
        return samples, None
    marginals = fine.reshape(request.noise.horizon, -1)
    return samples, _to_data(marginals, spec, request.prompt, request.nonnegative)


def _to_data(scaled: Array, spec: ModelSpec, prompt: Prompt, nonnegative: bool) -> Array:
    """Draws in data units. Raises LagliteError if they are not finite."""
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
    request: PathRequest,
    prompted: Arguments,
    part: slice,
    rotary: tuple[Array, Array],
) -> tuple[Array, Array]:
    """One shard: returns scaled samples [paths, horizon], fine draws [horizon, draws, paths]."""
    prompt, noise = request.prompt, request.noise
    horizon, paths = noise.horizon, part.stop - part.start
    head, window, count = HEADS[spec.head], prompt.window, len(prompt.tokens)
    history = PathHistory(spec, prompt, paths, horizon)
    fill_static(decoder.tokens, spec, prompt)
    arguments = {name: np.broadcast_to(values[-1], paths) for name, values in prompted.items()}
    fine: list[NDArray[np.float64]] = []
    state: NDArray[np.float64] | None = None
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        for step in range(horizon):
            fine += fine_draws(spec, request, step, part, arguments)
            draws = head.sample(arguments, noise.uniforms(step, part, state), window)
            state = np.maximum(draws, request.floor)
            history.append(state)
            if step + 1 < horizon:
                history.write_tokens(decoder.tokens, request.known[step])
                arguments = decoder.step(rotary[0][count + step], rotary[1][count + step])
    return history.drawn, np.array(fine, np.float32).reshape(horizon, -1, paths)


def fine_draws(
    spec: ModelSpec, request: PathRequest, step: int, part: slice, arguments: Arguments
) -> list[NDArray[np.float64]]:
    """Draws [draws, part] that show every path's distribution at a step; none from some noise.

    `arguments` are [part] each, and so are the draws' last axis; all in scaled units.
    """
    uniforms = request.noise.fine(step, part)
    if uniforms is None:
        return []
    each = {name: value[None] for name, value in arguments.items()}
    drawn = HEADS[spec.head].sample(each, uniforms, request.prompt.window)
    return [np.maximum(drawn, request.floor)]


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
