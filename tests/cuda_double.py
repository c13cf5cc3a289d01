"""A double of cuda.bindings.runtime whose device memory is the host's.

It is as late as a GPU may be: work is done when the stream is waited for, not when it is given. It
refuses what CUDA refuses: addresses that are not its own, copies and allocations while a stream is
captured, graphs and streams that were destroyed, more memory than there is.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

ALIGNMENT = 256
Work = Callable[[], None]


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidResourceHandle = 400
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


OK, INVALID = (Error.cudaSuccess,), (Error.cudaErrorInvalidValue, None)
GONE = (Error.cudaErrorInvalidResourceHandle,)


class Stream:
    """Work in order; `captured` collects it instead while a capture is open."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.queue: list[Work] = []
        self.captured: list[Work] | None = None
        self.spoilt = False

    def __int__(self) -> int:
        return self.handle

    def give(self, work: Work) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def drain(self) -> None:
        while self.queue:
            self.queue.pop(0)()


class Graph:
    """Captured work, or what was made of it to be launched; `work` is None once destroyed."""

    def __init__(self, work: list[Work] | None) -> None:
        self.work = work


class CudaDouble:
    """The functions of the module, with `size` bytes of memory, and counts of what was asked."""

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(
        cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down", cudaMemcpyDeviceToDevice="own"
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")
    cudaError_t = Error

    def __init__(self, size: int = 1 << 40) -> None:
        self.size = size
        self.memory: dict[int, tuple[int, Any]] = {}
        self.streams: dict[int, Stream] = {}
        self.launched_graphs = self.instantiated = self.graphs = 0
        self.refuse_capture = False
        self._handles = itertools.count(1)

    def used(self) -> int:
        return sum(size for size, _ in self.memory.values())

    def holds(self, address: int, size: int) -> bool:
        """Whether a range lies within one allocation."""
        return any(
            first <= address and address + size <= first + length
            for first, (length, _) in self.memory.items()
        )

    def cudaSetDevice(self, device: int) -> Any:
        return OK

    def cudaGetErrorName(self, error: Error) -> Any:
        return Error.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error: Error) -> Any:
        return Error.cudaSuccess, error.name.removeprefix("cudaError").encode()

    def cudaMemGetInfo(self) -> Any:
        return Error.cudaSuccess, self.size - self.used(), self.size

    def cudaMalloc(self, size: int) -> Any:
        for stream in self.streams.values():
            if stream.captured is not None:
                return *self._spoil(stream), None
        if self.used() + size > self.size:
            return Error.cudaErrorMemoryAllocation, None
        block = np.full(size + ALIGNMENT, 0xFF, np.uint8)  # not zeros: reading it unset would show
        address = -(-block.ctypes.data // ALIGNMENT) * ALIGNMENT
        self.memory[address] = size, block
        return Error.cudaSuccess, address

    def cudaFree(self, address: int) -> Any:
        for stream in self.streams.values():
            if stream.captured is not None:
                return self._spoil(stream)
            stream.drain()
        return OK if self.memory.pop(address, None) else INVALID[:1]

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == self.cudaStreamNonBlocking
        stream = Stream(next(self._handles))
        self.streams[stream.handle] = stream
        return Error.cudaSuccess, stream

    def cudaStreamDestroy(self, stream: Stream) -> Any:
        stream.drain()
        return OK if self.streams.pop(stream.handle, None) else GONE

    def cudaStreamSynchronize(self, stream: Stream) -> Any:
        if stream.handle not in self.streams:
            return GONE
        if stream.captured is not None:
            return self._spoil(stream)
        stream.drain()
        return OK

    def cudaMemsetAsync(self, address: int, value: int, size: int, stream: Stream) -> Any:
        if not self.holds(address, size):
            return INVALID[:1]
        stream.give(lambda: ctypes.memset(address, value, size) and None)
        return OK

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: str, stream: Stream
    ) -> Any:
        if stream.captured is not None:
            return self._spoil(stream)
        if not self.holds(target if kind == "up" else source, size):
            return INVALID[:1]
        stream.give(lambda: ctypes.memmove(target, source, size) and None)
        return OK

    def cudaMemcpy2DAsync(
        self, target: int, target_pitch: int, source: int, source_pitch: int,
        width: int, rows: int, kind: str, stream: Stream,
    ) -> Any:  # fmt: skip
        assert kind == "own"
        assert width <= min(target_pitch, source_pitch)
        for place, pitch in ((target, target_pitch), (source, source_pitch)):
            if not self.holds(place, (rows - 1) * pitch + width):
                return INVALID[:1]

        def copy() -> None:
            for row in range(rows):
                ctypes.memmove(target + row * target_pitch, source + row * source_pitch, width)

        stream.give(copy)
        return OK

    def cudaStreamBeginCapture(self, stream: Stream, mode: str) -> Any:
        assert stream.captured is None
        assert stream.handle in self.streams
        stream.captured, stream.spoilt = [], self.refuse_capture
        return OK

    def cudaStreamEndCapture(self, stream: Stream) -> Any:
        work, stream.captured = stream.captured, None
        if stream.spoilt:
            return Error.cudaErrorStreamCaptureInvalidated, None
        self.graphs += 1
        return Error.cudaSuccess, Graph(work)

    def cudaGraphInstantiate(self, graph: Graph, flags: int) -> Any:
        assert graph.work is not None
        self.instantiated += 1
        self.graphs += 1
        return Error.cudaSuccess, Graph(list(graph.work))

    def cudaGraphDestroy(self, graph: Graph) -> Any:
        if graph.work is None:
            return GONE
        graph.work = None
        self.graphs -= 1
        return OK

    def cudaGraphExecDestroy(self, graph: Graph) -> Any:
        return self.cudaGraphDestroy(graph)

    def cudaGraphLaunch(self, graph: Graph, stream: Stream) -> Any:
        if graph.work is None or stream.handle not in self.streams:
            return GONE
        self.launched_graphs += 1
        for work in graph.work:
            stream.give(work)
        return OK

    @staticmethod
    def _spoil(stream: Stream) -> Any:
        stream.spoilt = True
        return (Error.cudaErrorStreamCaptureUnsupported,)
