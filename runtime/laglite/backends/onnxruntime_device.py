"""Tensors that stay in an engine's memory, and graphs run over them, by onnxruntime."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from laglite.backends.cuda_driver import free_memory
from laglite.backends.device import COUNTER, DEVICE_STEP, IN_PLACE, Capacity, gigabytes
from laglite.backends.library_errors import NO_MEMORY, explain
from laglite.backends.onnxruntime_session import (
    CPU,
    GPU_LOCK,
    Engine,
    import_onnxruntime,
    open_session,
)
from laglite.errors import BackendError, DeviceMemoryError

LOG = logging.getLogger("laglite")
OrtInput = tuple[list[int | str], str]  # shape, with names for sizes that vary, and dtype
FEW = 3  # series, paths and steps of a rehearsal: room for a launch too many
# Before, a CUDA graph's copies read the host's memory again at each launch, long after it was given
# away (onnxruntime's pull requests 32120 and 32121): lags would be of other places, or crash.
GRAPHS_FROM = (1, 31)
DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class OrtTensor:
    """What a graph can be bound to: `shape` at `address` in the memory called `memory`.

    `value` is the OrtValue that the memory belongs to, `backend` what errors name.
    """

    value: Any
    shape: tuple[int, ...]
    dtype: str
    memory: str
    backend: str
    address: int

    def bind(self, attach: Callable[..., None], name: str) -> None:
        """Give it to a binding's `bind_input` or `bind_output`."""
        attach(name, self.memory, 0, np.dtype(self.dtype).type, self.shape, self.address)

    def row(self, index: int) -> OrtTensor:
        """The part of one index of the first axis."""
        shape = self.shape[1:]
        address = self.address + index * prod(shape) * np.dtype(self.dtype).itemsize
        return OrtTensor(self.value, shape, self.dtype, self.memory, self.backend, address)

    def reshape(self, *shape: int) -> OrtTensor:
        """The same memory in another shape of the same size."""
        return OrtTensor(self.value, shape, self.dtype, self.memory, self.backend, self.address)


class OrtBuffer(OrtTensor):
    """The whole of an OrtValue (see `device.Buffer`)."""

    def write(self, array: NDArray[Any]) -> None:
        """See `device.Buffer.write`.

        Raises ValueError for another shape or dtype, BackendError if the copy fails.
        """
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"{array.dtype} {array.shape} for a buffer of {self.dtype} {self.shape}"
            )
        with _asking(self.backend):
            self.value.update_inplace(np.ascontiguousarray(array))

    def read(self) -> NDArray[Any]:
        """See `device.Buffer.read`. Raises BackendError if the copy fails."""
        with _asking(self.backend):
            found: NDArray[Any] = np.array(self.value.numpy())
        return found


def as_buffer(value: Any, dtype: str, memory: str, backend: str) -> OrtBuffer:
    """An OrtValue as a buffer."""
    return OrtBuffer(value, tuple(value.shape()), dtype, memory, backend, value.data_ptr())


def allocate(memory: str, shape: tuple[int, ...], dtype: str, backend: str) -> OrtBuffer:
    """Zeros in `memory`. Raises DeviceMemoryError, which names `backend`."""
    create = import_onnxruntime().OrtValue.ortvalue_from_shape_and_type
    with _asking(backend, prod(shape) * np.dtype(dtype).itemsize):
        value = create(list(shape), np.dtype(dtype).type, memory, 0)
    buffer = as_buffer(value, dtype, memory, backend)
    buffer.write(np.zeros(shape, dtype))
    return buffer


@contextmanager
def _asking(backend: str, asked: int = 0) -> Iterator[None]:
    """A call to the GPU, alone; its errors are those of `run_error`."""
    with GPU_LOCK:
        try:
            yield
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            raise run_error(backend, error, asked) from error


def run_error(backend: str, error: Exception, asked: int = 0) -> BackendError:
    """The error of a run or an allocation that failed; `asked` is how many bytes it was for."""
    text = str(error)
    found = NO_MEMORY.search(text)
    fault = explain(text)
    if found is None:
        return BackendError(f"backend {backend!r}: {fault}")
    asked = asked or int(found.groupdict().get("asked") or 0)
    free = free_memory()
    needed = f" for {gigabytes(asked)}" if asked else ""
    left = f", of which {gigabytes(free)} are free" if free is not None else ""
    return DeviceMemoryError(
        f"backend {backend!r}: the device's memory has no room{needed}{left}; {fault.remedy}"
    )


class OrtProgram:
    """A session with every input and output bound to a tensor (see `device.Program`)."""

    def __init__(self, session: Any, engine: Engine, tensors: Mapping[str, OrtTensor]) -> None:
        self._session, self._engine, self._tensors = session, engine, dict(tensors)
        self._binding = session.io_binding()
        self._options = import_onnxruntime().RunOptions()
        for given in session.get_inputs():
            tensors[given.name].bind(self._binding.bind_input, given.name)
        for output in session.get_outputs():
            name = output.name if output.name in tensors else output.name.removeprefix(IN_PLACE)
            if name in tensors:
                tensors[name].bind(self._binding.bind_output, output.name)

    def __del__(self, lock: Any = GPU_LOCK) -> None:
        """With the last program its session goes, which gives memory back: as good as a call."""
        with lock:
            self.__dict__.pop("_binding", None)
            self.__dict__.pop("_session", None)

    def launch(self) -> None:
        """See `device.Program.launch`; returns when it is done."""
        with _asking(self._engine.backend):
            self._session.run_with_iobinding(self._binding, self._options)


class CapturedProgram(OrtProgram):
    """A program that becomes one CUDA graph when a thread first launches it."""

    def __init__(
        self, session: Any, engine: Engine, buffers: Mapping[str, OrtBuffer], number: int
    ) -> None:
        """`number`, from 1 on, tells the graph from others of the session."""
        super().__init__(session, engine, buffers)
        self._options.add_run_config_entry("gpu_graph_id", str(number))
        self._counter = buffers.get(COUNTER)
        self._thread = threading.local()  # onnxruntime keeps captured graphs by thread

    def launch(self) -> None:
        """See `device.Program.launch`; returns when it is done."""
        if not hasattr(self._thread, "captured"):
            # The run that captures runs the graph more than once: the counter is put back. The rest
            # lies at places that the launches from there on write again before they read them.
            before = None if self._counter is None else self._counter.read()
            super().launch()
            if self._counter is not None and before is not None:
                self._counter.write(before)
            self._thread.captured = True
        super().launch()


def open_device(
    engine: Engine, graphs: Mapping[str, Path], cache_dtype: str, capture: bool, allowed: float
) -> OrtDevice:
    """A device that was tried out, without CUDA graphs where they cannot be captured.

    `allowed` is how far arguments may be from those of the CPU, over 1 or their size. Raises
    BackendError if the device step does not run either way.
    """
    version = import_onnxruntime().__version__
    if capture and engine.captures and tuple(map(int, version.split(".")[:2])) < GRAPHS_FROM:
        LOG.info(
            "backend %r: onnxruntime %s does not launch CUDA graphs rightly, so that it runs "
            "without them, which takes longer; %d.%d does",
            engine.backend,
            version,
            *GRAPHS_FROM,
        )
        capture = False
    device = OrtDevice(engine, graphs, cache_dtype, capture)
    try:
        # In a thread of its own, since CUDA tells the error of a failed capture to the next kernel
        # of the thread once more.
        with ThreadPoolExecutor(1, "laglite-rehearsal") as thread:
            thread.submit(device.rehearse, allowed).result()
    except BackendError as error:
        if not device.captures:
            raise
        device = OrtDevice(engine, graphs, cache_dtype, capture=False)
        device.rehearse(allowed)
        LOG.warning("%s; it runs without CUDA graphs, which takes longer", error)
    return device


class OrtDevice:
    """An engine's memory and programs of fixed shapes (see `device.Device`)."""

    capacity: Capacity | None = None

    def __init__(
        self, engine: Engine, graphs: Mapping[str, Path], cache_dtype: str, capture: bool
    ) -> None:
        """`graphs` are files by name; `capture` is for engines that capture CUDA graphs."""
        self._engine, self._graphs, self.cache_dtype = engine, graphs, cache_dtype
        self.captures = capture and engine.captures
        # A session keeps the memory of its results, and so lives no longer than its programs.
        self._sessions: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
        self._numbers = itertools.count(1)
        self._inputs: dict[str, dict[str, OrtInput]] = {}
        self._lock = threading.Lock()

    def allocate(self, shape: tuple[int, ...], dtype: str) -> OrtBuffer:
        """See `device.Device.allocate`."""
        return allocate(self._engine.memory, shape, dtype, self._engine.backend)

    def program(self, graph: str, buffers: Mapping[str, Any]) -> OrtProgram:
        """See `device.Device.program`. Raises BackendError if the graph cannot run."""
        with self._lock:
            sizes = self._sizes(graph, buffers)
            key = (graph, *sorted(sizes.items()))
            session = self._sessions.get(key)
            if session is None:
                session = open_session(
                    self._graphs[graph], self._engine, sizes=sizes, capture=self.captures
                )
                self._sessions[key] = session
            number = next(self._numbers)
        if self.captures:
            return CapturedProgram(session, self._engine, buffers, number)
        return OrtProgram(session, self._engine, buffers)

    def rehearse(self, allowed: float) -> None:
        """Launch a small device step as often as it has steps, and run the same on the CPU.

        Raises BackendError if it fails, does not count as one step what was launched once, or
        gives arguments or first draws that are not within `allowed` of the CPU's, over 1 or their
        size. Later draws depend on the order of earlier ones, which rounding may change.
        """
        expected = self._made_up()
        buffers = {}
        for name, array in expected.items():
            buffers[name] = self.allocate(array.shape, str(array.dtype))
            buffers[name].write(array)
        program = self.program(DEVICE_STEP, buffers)
        cpu = open_session(self._graphs[DEVICE_STEP], CPU)
        names = [output.name for output in cpu.get_outputs()]
        for launched in range(1, FEW):
            program.launch()
            counted = int(buffers[COUNTER].read()[0]) - launched + 1
            if counted != 1:
                raise BackendError(
                    f"backend {self._engine.backend!r}: one launch of the device step ran "
                    f"{counted} times; use backend 'cpu'"
                )
            for name, array in zip(names, cpu.run(names, expected), strict=True):
                expected[name.removeprefix(IN_PLACE)] = array
        found, right = (
            np.concatenate([drawn["arguments"].ravel(), drawn["values"][1].ravel()])
            for drawn in ({n: buffers[n].read() for n in ("arguments", "values")}, expected)
        )
        apart = float((np.abs(found - right) / np.maximum(1, np.abs(right))).max())
        if not apart <= allowed:
            raise BackendError(
                f"backend {self._engine.backend!r} gives wrong numbers: its device step is "
                f"{apart:g} from the CPU's; update its libraries, or use backend 'cpu'"
            )

    def free_bytes(self) -> int | None:
        """See `device.Device.free_bytes`."""
        return free_memory() if self._engine.memory == "cuda" else None

    def _sizes(self, graph: str, buffers: Mapping[str, Any]) -> dict[str, int]:
        """The graph's named dimensions, from the buffers of its inputs."""
        sizes: dict[str, int] = {}
        for name, (shape, _) in self._known(graph).items():
            if name not in buffers:
                raise ValueError(f"graph {graph!r}: no buffer for the input {name!r}")
            actual = buffers[name].shape
            if len(shape) != len(actual):
                raise ValueError(f"graph {graph!r}: {name!r} is {actual}, not of shape {shape}")
            for size, length in zip(shape, actual, strict=True):
                if (sizes.setdefault(size, length) if isinstance(size, str) else size) != length:
                    raise ValueError(f"graph {graph!r}: {name!r} is {actual}, not {shape}")
        return sizes

    def _made_up(self) -> dict[str, NDArray[Any]]:
        """Small inputs of a device step: lags of all kinds, else zeros for whole numbers."""
        random = np.random.default_rng(0)
        made: dict[str, NDArray[Any]] = {}
        for name, (shape, dtype) in self._known(DEVICE_STEP).items():
            few = tuple(FEW if isinstance(size, str) else size for size in shape)
            # Below 0, as logarithms of uniforms are.
            numbers = random.uniform(-0.9, -0.1, few)
            made[name] = np.zeros(few, dtype) if dtype == "int64" else numbers.astype(dtype)
        made["floor"][1:] -= 100.0  # below all draws; those of the first series may meet theirs
        reach = made["window"].shape[-1] if "window" in made else 0
        made["lags"][:] = np.arange(made["lags"].shape[-1]) % (reach + 1)
        return made

    def _known(self, graph: str) -> dict[str, OrtInput]:
        """The graph's inputs by name, read without an engine."""
        if graph not in self._inputs:
            inputs = open_session(self._graphs[graph], CPU).get_inputs()
            self._inputs[graph] = {each.name: (each.shape, DTYPES[each.type]) for each in inputs}
        return self._inputs[graph]
