"""Programs on a device: TensorRT's engines, bound to memory, run and captured."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from laglite.backends.cuda_memory import (
    OUT_OF_MEMORY,
    CudaBuffer,
    CudaError,
    CudaGraph,
    CudaStream,
    Memory,
)
from laglite.backends.device import IN_PLACE, PREFILL, Buffer, Capacity
from laglite.backends.engine_files import EngineFile, EngineSet
from laglite.errors import BackendError, CapacityError

if TYPE_CHECKING:
    from tensorrt import ICudaEngine, IExecutionContext

MEGABYTE = 1 << 20
LOG = logging.getLogger("laglite")


class BoundContext:
    """An execution context with every tensor at one place; from the third run on it is a graph.

    The first run sets up the engine, the second is captured. A graph is good as long as nobody
    changes its context, so each has its own.
    """

    def __init__(self, stream: CudaStream, context: IExecutionContext) -> None:
        self._stream, self._context = stream, context
        self._ran, self._capturable = False, True
        self._graph: CudaGraph | None = None

    def bind(self, inputs: Mapping[str, CudaBuffer], addresses: Mapping[str, int]) -> None:
        """Set shapes and addresses. Raises BackendError."""
        for name, buffer in inputs.items():
            if not self._context.set_input_shape(name, buffer.shape):
                raise _refusal(f"TensorRT refuses the shape {buffer.shape} of {name!r}")
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise _refusal(f"TensorRT refuses the address of {name!r}")

    def run(self) -> None:
        """Give the work to the stream. Raises BackendError."""
        if self._ran and self._capturable:
            self._capture()
        if self._graph is not None:
            self._graph.launch()
        else:
            self.enqueue()
            self._ran = True

    def enqueue(self) -> None:
        """The work itself, never as a graph."""
        if not self._context.execute_async_v3(int(self._stream.handle)):
            raise _refusal("TensorRT could not run the engine")

    def _capture(self) -> None:
        self._capturable = False
        try:
            self._graph = self._stream.capture(self.enqueue)
        except BackendError as error:
            LOG.warning("steps are launched without a CUDA graph, more slowly: %s", error)


class TensorRtProgram:
    """An engine over buffers: see `device.Program`.

    TensorRT does not say that an output may be written over an input while it runs. So an output
    `next_x` is written beside `x`, which then gets that memory, and launches take turns between
    two contexts.
    """

    def __init__(
        self,
        stream: CudaStream,
        engine: EngineFile,
        buffers: Mapping[str, CudaBuffer],
        context: Callable[[], IExecutionContext],
        captured: bool,
    ) -> None:
        """`context` makes a context, or, for one not `captured`, lends one that others change.

        Raises CudaError if there is no memory for what is written beside.
        """
        self._stream, self._context, self._captured = stream, context, captured
        self._inputs = {t.name: buffers[t.name] for t in engine.tensors if t.is_input}
        self._outputs = {
            t.name: buffers[t.name] for t in engine.tensors if not t.is_input and t.name in buffers
        }
        self._beside: dict[str, Memory] = {}
        for tensor in engine.tensors:
            if tensor.is_input or tensor.name in buffers:
                continue
            source = tensor.name.removeprefix(IN_PLACE)
            if source != tensor.name and source in self._inputs:
                self._beside[source] = Memory(stream.cuda, self._inputs[source].size)
            else:  # nobody keeps it, but it must go somewhere
                self._outputs[tensor.name] = CudaBuffer(stream, tensor.largest, tensor.dtype)
        self._bound: dict[tuple[int, ...], BoundContext] = {}

    def launch(self) -> None:
        """See `device.Program.launch`. Raises BackendError."""
        with self._stream.lock:
            addresses = self._addresses()
            if self._captured:
                self._at(addresses).run()
            else:
                lent = BoundContext(self._stream, self._context())
                lent.bind(self._inputs, addresses)
                lent.enqueue()
            for name, memory in self._beside.items():
                buffer = self._inputs[name]
                self._beside[name], buffer.memory = buffer.memory, memory

    def _addresses(self) -> dict[str, int]:
        """Where each tensor lies at the next launch."""
        beside = {IN_PLACE + name: memory.address for name, memory in self._beside.items()}
        buffers = {**self._inputs, **self._outputs}
        return {**{name: each.memory.address for name, each in buffers.items()}, **beside}

    def _at(self, addresses: Mapping[str, int]) -> BoundContext:
        places = tuple(addresses.values())
        if places not in self._bound:
            bound = BoundContext(self._stream, self._context())
            bound.bind(self._inputs, addresses)
            self._bound[places] = bound
        return self._bound[places]


class TensorRtDevice:
    """See `device.Device`; `loaded` are the engines of the set by graph."""

    def __init__(
        self, stream: CudaStream, engines: EngineSet, loaded: Mapping[str, ICudaEngine]
    ) -> None:
        self.stream = stream
        self.engines = engines
        self.capacity: Capacity | None = engines.capacity
        self.cache_dtype = engines.dtypes(PREFILL)["past_key_0"]
        self._loaded = loaded
        self._shared: dict[str, IExecutionContext] = {}

    def allocate(self, shape: tuple[int, ...], dtype: str) -> CudaBuffer:
        """See `device.Device.allocate`; where memory is short it says what would fit."""
        try:
            return CudaBuffer(self.stream, shape, dtype)
        except CudaError as error:
            if error.name != OUT_OF_MEMORY:
                raise
            size = math.prod(shape) * np.dtype(dtype).itemsize
            raise self._out_of_memory(size, f"a tensor of shape {shape}") from error

    def program(self, graph: str, buffers: Mapping[str, Buffer]) -> TensorRtProgram:
        """See `device.Device.program`. Raises CapacityError for shapes that were not compiled."""
        return self._program(graph, buffers, partial(self._new_context, graph), captured=True)

    def shared_program(self, graph: str, buffers: Mapping[str, Buffer]) -> TensorRtProgram:
        """A program that shares its working memory with others of `graph`, and is not captured."""
        return self._program(graph, buffers, partial(self._shared_context, graph), captured=False)

    def free_bytes(self) -> int | None:
        return self.stream.cuda.free_bytes()

    def _program(
        self,
        graph: str,
        buffers: Mapping[str, Buffer],
        context: Callable[[], IExecutionContext],
        *,
        captured: bool,
    ) -> TensorRtProgram:
        engine = self.engines.engine(graph)
        own: dict[str, CudaBuffer] = {}
        for name, buffer in buffers.items():
            if not isinstance(buffer, CudaBuffer):
                raise TypeError(f"the buffer of {name!r} is not of this device")
            own[name] = buffer
        for tensor in engine.tensors:
            if not tensor.is_input:
                continue
            if tensor.name not in own:
                raise BackendError(f"graph {graph!r}: no buffer for its input {tensor.name!r}")
            found = own[tensor.name]
            if not tensor.takes(found.shape):
                limits = f"from {tensor.least} to {tensor.largest}"
                raise CapacityError(
                    f"{graph}: {tensor.name!r} has shape {found.shape}; the engine takes shapes "
                    f"{limits}; {self.engines.rebuild_hint()}, with the numbers you need"
                )
            if found.dtype != tensor.dtype:
                raise BackendError(
                    f"{graph}: {tensor.name!r} is {found.dtype}, the engine takes {tensor.dtype}"
                )
        try:
            return TensorRtProgram(self.stream, engine, own, context, captured)
        except CudaError as error:
            if error.name != OUT_OF_MEMORY:
                raise
            size = sum(tensor.largest_bytes for tensor in engine.tensors if not tensor.is_input)
            raise self._out_of_memory(size, f"the results of {graph}") from error

    def _new_context(self, graph: str) -> IExecutionContext:
        engine = self._loaded[graph]
        context = engine.create_execution_context()
        if context is None:
            size, purpose = int(engine.device_memory_size_v2), f"the work of {graph}"
            if size <= self.stream.cuda.free_bytes():
                raise _refusal(f"TensorRT cannot prepare {purpose}")
            raise self._out_of_memory(size, purpose)
        return context

    def _shared_context(self, graph: str) -> IExecutionContext:
        if graph not in self._shared:
            self._shared[graph] = self._new_context(graph)
        return self._shared[graph]

    def _out_of_memory(self, size: int, purpose: str) -> BackendError:
        """The error where `size` bytes are not to be had: it says what would fit."""
        cuda, capacity = self.stream.cuda, self.engines.capacity
        free = cuda.free_bytes()
        needed = self.engines.decoding_bytes()
        fitting = min(capacity.series - 1, capacity.series * (free + cuda.allocated) // needed)
        if fitting >= 1:
            advice = f"about {fitting} at once would fit; "
            advice += self.engines.rebuild_hint(series=fitting)
        else:
            advice = "not even one fits, so choose fewer paths, a shorter context or horizon; "
            advice += self.engines.rebuild_hint()
        return BackendError(
            f"out of device memory: no {size / MEGABYTE:.1f} MiB for {purpose}, "
            f"{free / MEGABYTE:.1f} MiB are free. Forecasts of {capacity.series} series at once "
            f"need {needed / MEGABYTE:.1f} MiB for their tensors; {advice}"
        )


def _refusal(what: str) -> BackendError:
    """The error of a call that TensorRT refused, with its own words."""
    from laglite.backends import tensorrt_module as tensorrt

    return BackendError(f"{what}: {tensorrt.LOG.errors()}")
