"""Stages: where a forecast's time goes, seen from outside the backend."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.backends import Backend
from laglite.backends.device import DEVICE_STEP, PREFILL, Buffer, Capacity, Device, Program
from laglite.backends.protocol import Arguments, Decoder, EncodedPrompt

Array = NDArray[np.float32]
GRAPHS = (PREFILL, DEVICE_STEP)


class TimedBackend:
    """A backend that keeps `prefill_seconds` and `steps_seconds` since the last `restart`."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.name, self.parallel = inner.name, inner.parallel
        self._timed = None if inner.device is None else TimedDevice(inner.device)
        self.device: Device | None = self._timed
        self.restart()

    def restart(self) -> None:
        """Set all clocks to zero."""
        self._prefill_seconds = 0.0
        self._clocks: list[_Clock] = []  # not the decoders, which hold caches
        if self._timed is not None:
            self._timed.seconds = dict.fromkeys(GRAPHS, 0.0)

    @property
    def prefill_seconds(self) -> float:
        """Of host and device."""
        drawn = 0.0 if self._timed is None else self._timed.seconds[PREFILL]
        return self._prefill_seconds + drawn

    @property
    def steps_seconds(self) -> float:
        """Steps of the thread that took longest, as the others ran beside it, or of the device."""
        drawn = 0.0 if self._timed is None else self._timed.seconds[DEVICE_STEP]
        return max((clock.seconds for clock in self._clocks), default=drawn)

    def prefill(
        self, tokens: Array, cos: Array, sin: Array
    ) -> tuple[Arguments, list[EncodedPrompt]]:
        begin = time.perf_counter()
        result = self._inner.prefill(tokens, cos, sin)
        self._prefill_seconds += time.perf_counter() - begin
        return result

    def embed(self, tokens: Array, cos: Array, sin: Array) -> Array:
        return self._inner.embed(tokens, cos, sin)

    def decoder(self, prompt: EncodedPrompt, paths: int, steps: int) -> Decoder:
        clock = _Clock()
        self._clocks.append(clock)
        return _TimedDecoder(self._inner.decoder(prompt, paths, steps), clock)


@dataclass
class _Clock:
    seconds: float = 0.0


class _TimedDecoder:
    def __init__(self, inner: Decoder, clock: _Clock) -> None:
        self._inner, self.tokens, self._clock = inner, inner.tokens, clock

    def step(self, cos: Array, sin: Array) -> Arguments:
        begin = time.perf_counter()
        arguments = self._inner.step(cos, sin)
        self._clock.seconds += time.perf_counter() - begin
        return arguments


class TimedDevice:
    """A device that keeps `seconds` of each graph: its launches, and reads that wait for them."""

    def __init__(self, inner: Device) -> None:
        self._inner, self._running = inner, PREFILL
        self.seconds = dict.fromkeys(GRAPHS, 0.0)
        self.capacity: Capacity | None = inner.capacity
        self.cache_dtype = inner.cache_dtype
        self.free_bytes = inner.free_bytes

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return _TimedBuffer(self, self._inner.allocate(shape, dtype))

    def program(self, graph: str, buffers: Mapping[str, Buffer]) -> Program:
        bound = {
            name: buffer.inner if isinstance(buffer, _TimedBuffer) else buffer
            for name, buffer in buffers.items()
        }
        return _TimedProgram(self, graph, self._inner.program(graph, bound))

    def launch(self, graph: str, program: Program) -> None:
        """Launch on the clock of `graph`, on which later reads count too."""
        self._running = graph
        begin = time.perf_counter()
        program.launch()
        self.seconds[graph] += time.perf_counter() - begin

    def read(self, buffer: Buffer) -> NDArray[Any]:
        """Read on the clock of what was launched last."""
        begin = time.perf_counter()
        found = buffer.read()
        self.seconds[self._running] += time.perf_counter() - begin
        return found


class _TimedBuffer:
    def __init__(self, device: TimedDevice, inner: Buffer) -> None:
        self._device, self.inner = device, inner
        self.shape, self.write = inner.shape, inner.write

    def read(self) -> NDArray[Any]:
        return self._device.read(self.inner)


class _TimedProgram:
    def __init__(self, device: TimedDevice, graph: str, inner: Program) -> None:
        self._device, self._graph, self._inner = device, graph, inner

    def launch(self) -> None:
        self._device.launch(self._graph, self._inner)
