"""Stages: where a forecast's time goes, seen from outside the backend."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from laglite.backends import Backend
from laglite.backends.protocol import Arguments, Decoder
from laglite.kv_cache import PromptCache

Array = NDArray[np.float32]


class TimedBackend:
    """A backend that keeps `prefill_seconds` and `steps_seconds` since the last `restart`."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.name = inner.name
        self.restart()

    def restart(self) -> None:
        """Set all clocks to zero."""
        self.prefill_seconds = 0.0
        self._decoders: list[_TimedDecoder] = []

    @property
    def steps_seconds(self) -> float:
        """Steps of the thread that took longest: the others ran beside it."""
        return max((decoder.seconds for decoder in self._decoders), default=0.0)

    def prefill(self, tokens: Array, cos: Array, sin: Array) -> tuple[Arguments, list[PromptCache]]:
        begin = time.perf_counter()
        result = self._inner.prefill(tokens, cos, sin)
        self.prefill_seconds += time.perf_counter() - begin
        return result

    def embed(self, tokens: Array, cos: Array, sin: Array) -> Array:
        return self._inner.embed(tokens, cos, sin)

    def decoder(self, prompt: PromptCache, paths: int, steps: int) -> Decoder:
        decoder = _TimedDecoder(self._inner.decoder(prompt, paths, steps))
        self._decoders.append(decoder)
        return decoder


class _TimedDecoder:
    def __init__(self, inner: Decoder) -> None:
        self._inner, self.tokens, self.seconds = inner, inner.tokens, 0.0

    def step(self, cos: Array, sin: Array) -> Arguments:
        begin = time.perf_counter()
        arguments = self._inner.step(cos, sin)
        self.seconds += time.perf_counter() - begin
        return arguments
