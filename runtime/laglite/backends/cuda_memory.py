"""Memory, one stream and graphs of a CUDA device, on cuda.bindings.runtime.

The device is the one that CUDA calls 0; CUDA_VISIBLE_DEVICES chooses which that is.
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.errors import BackendError, missing

DEVICE = 0
OUT_OF_MEMORY = "cudaErrorMemoryAllocation"
OLD_DRIVER = "cudaErrorInsufficientDriver"


class CudaError(BackendError):
    """A CUDA call that failed; `name` is the error's, such as cudaErrorMemoryAllocation."""

    def __init__(self, call: str, name: str, description: str) -> None:
        hint = ""
        if name == OLD_DRIVER:
            hint = "; the driver is missing or older than cuda-bindings, of which it needs a "
            hint += "version for its own CUDA (such as pip install 'cuda-bindings<13')"
        super().__init__(f"CUDA: {call} failed with {name} ({description}){hint}")
        self.name = name


class Cuda:
    """The CUDA runtime, each call's error checked.

    Raises MissingDependencyError without cuda.bindings, CudaError without a device.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ModuleNotFoundError as error:
            raise missing("cuda.bindings", "tensorrt", "backend 'tensorrt'") from error
        self.api: Any = runtime
        self.allocated = 0  # bytes of all `Memory` that lives
        self.call("cudaSetDevice", DEVICE)

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of a call: nothing, a value, or a tuple. Raises CudaError."""
        error, *results = getattr(self.api, name)(*arguments)
        if int(error) != 0:
            raise CudaError(
                name,
                self.api.cudaGetErrorName(error)[1].decode(),
                self.api.cudaGetErrorString(error)[1].decode(),
            )
        if len(results) == 1:
            return results[0]
        return tuple(results) if results else None

    def give_back(self, name: str, handle: Any) -> None:
        """A call that frees; what a lost device held is gone without it."""
        with contextlib.suppress(CudaError):
            self.call(name, handle)

    def free_bytes(self) -> int:
        free, _ = self.call("cudaMemGetInfo")
        return int(free)


class Memory:
    """Bytes on the device, freed with the object."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.address = int(cuda.call("cudaMalloc", max(size, 1)))
        cuda.allocated += size
        self._finalizer = weakref.finalize(self, _free, cuda, self.address, size)


def _free(cuda: Cuda, address: int, size: int) -> None:
    cuda.give_back("cudaFree", address)
    cuda.allocated -= size


class CudaStream:
    """Work that runs in the order it was given; `lock` keeps what belongs together so."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.lock = threading.RLock()
        self.handle = cuda.call("cudaStreamCreateWithFlags", cuda.api.cudaStreamNonBlocking)
        self._finalizer = weakref.finalize(self, cuda.give_back, "cudaStreamDestroy", self.handle)

    def copy_rows(self, target: int, target_pitch: int, source: int, width: int, rows: int) -> None:
        """Copy `rows` rows of `width` bytes, side by side at `source`, to every `target_pitch`."""
        kind = self.cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        arguments = (target, target_pitch, source, width, width, rows, kind, self.handle)
        with self.lock:
            self.cuda.call("cudaMemcpy2DAsync", *arguments)

    def capture(self, enqueue: Callable[[], None]) -> CudaGraph:
        """The work that `enqueue` gives to this stream, as a graph; it is not run."""
        mode = self.cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with self.lock:
            self.cuda.call("cudaStreamBeginCapture", self.handle, mode)
            try:
                enqueue()
            except BaseException:  # a capture left open would spoil all later work
                with contextlib.suppress(CudaError):
                    spoilt = self.cuda.call("cudaStreamEndCapture", self.handle)
                    self.cuda.give_back("cudaGraphDestroy", spoilt)
                raise
            return CudaGraph(self, self.cuda.call("cudaStreamEndCapture", self.handle))


class CudaGraph:
    """Captured work, launched with one call."""

    def __init__(self, stream: CudaStream, graph: Any) -> None:
        cuda, self._stream = stream.cuda, stream
        try:
            self._executable = cuda.call("cudaGraphInstantiate", graph, 0)
        finally:
            cuda.give_back("cudaGraphDestroy", graph)
        self._finalizer = weakref.finalize(
            self, cuda.give_back, "cudaGraphExecDestroy", self._executable
        )

    def launch(self) -> None:
        self._stream.cuda.call("cudaGraphLaunch", self._executable, self._stream.handle)


class CudaBuffer:
    """Memory for one tensor: see `device.Buffer`.

    `memory` is replaced by a program that writes its results beside what it reads.
    """

    def __init__(self, stream: CudaStream, shape: tuple[int, ...], dtype: str) -> None:
        """Zeros. Raises CudaError."""
        self._stream, self.shape, self.dtype = stream, shape, np.dtype(dtype)
        self.size = math.prod(shape) * self.dtype.itemsize
        with stream.lock:
            self.memory = Memory(stream.cuda, self.size)
            stream.cuda.call("cudaMemsetAsync", self.memory.address, 0, self.size, stream.handle)

    def write(self, array: NDArray[Any]) -> None:
        """See `device.Buffer.write`. Raises ValueError for another shape or dtype."""
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"{array.dtype} {array.shape} for a buffer of {self.dtype} {self.shape}"
            )
        source = np.ascontiguousarray(array)
        kind = self._stream.cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.memory.address, source.ctypes.data, kind)

    def read(self) -> NDArray[Any]:
        """See `device.Buffer.read`."""
        array = np.empty(self.shape, self.dtype)
        kind = self._stream.cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, self.memory.address, kind)
        return array

    def _copy(self, target: int, source: int, kind: Any) -> None:
        """Copy between here and the host, done when it returns: the host's array may then go."""
        stream = self._stream
        with stream.lock:
            stream.cuda.call("cudaMemcpyAsync", target, source, self.size, kind, stream.handle)
            stream.cuda.call("cudaStreamSynchronize", stream.handle)
