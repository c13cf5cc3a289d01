"""A device whose memory is the host's: the graphs of a bundle on onnxruntime's CPU provider.

`next_x` is bound to the memory of `x`, as on a GPU, so that what a graph overwrites too early
shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from laglite.backends.device import DEVICE_STEP, IN_PLACE, PREFILL, Buffer, Capacity, Device
from laglite.backends.onnxruntime_cpu import OnnxRuntimeCpu
from laglite.bundle import Bundle
from laglite.forecaster import Forecaster


class CpuBuffer:
    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.array: NDArray[Any] = np.zeros(shape, dtype)
        self.shape = shape

    def write(self, array: NDArray[Any]) -> None:
        assert (array.shape, array.dtype) == (self.array.shape, self.array.dtype)
        self.array[...] = array

    def read(self) -> NDArray[Any]:
        return self.array.copy()


class CpuProgram:
    def __init__(self, session: Any, buffers: Mapping[str, Buffer]) -> None:
        self._session, self.launches = session, 0
        self._binding = session.io_binding()
        self._bound: list[tuple[CpuBuffer, Any]] = []  # keeps the memory alive
        for place in session.get_inputs():
            self._binding.bind_ortvalue_input(place.name, self._value(buffers[place.name], place))
        outputs = {place.name: place for place in session.get_outputs()}
        for name, place in outputs.items():
            buffer = buffers.get(name.removeprefix(IN_PLACE))
            if buffer is None:
                self._binding.bind_output(name)
            else:
                self._binding.bind_ortvalue_output(name, self._value(buffer, place))
        assert set(buffers) <= {place.name for place in session.get_inputs()} | set(outputs)

    def _value(self, buffer: Buffer, place: Any) -> Any:
        assert isinstance(buffer, CpuBuffer)
        sizes = zip(buffer.shape, place.shape, strict=True)
        assert all(isinstance(size, str) or got == size for got, size in sizes)
        value = onnxruntime.OrtValue.ortvalue_from_numpy(buffer.array)
        assert value.data_ptr() == buffer.array.ctypes.data
        self._bound.append((buffer, value))
        return value

    def launch(self) -> None:
        self.launches += 1
        self._session.run_with_iobinding(self._binding)


class CpuDevice:
    """Keeps all `programs` it made."""

    def __init__(
        self,
        bundle: Bundle,
        precision: str = "fp32",
        capacity: Capacity | None = None,
        free: int | None = None,
    ) -> None:
        files = bundle.precision(precision)
        assert files.device_step is not None
        self.capacity, self.cache_dtype, self._free = capacity, files.cache_dtype, free
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._sessions = {
            name: onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            for name, path in ((PREFILL, files.prefill), (DEVICE_STEP, files.device_step))
        }
        self.programs: list[tuple[str, CpuProgram]] = []

    def allocate(self, shape: tuple[int, ...], dtype: str) -> CpuBuffer:
        return CpuBuffer(shape, dtype)

    def program(self, graph: str, buffers: Mapping[str, Buffer]) -> CpuProgram:
        program = CpuProgram(self._sessions[graph], buffers)
        self.programs.append((graph, program))
        return program

    def free_bytes(self) -> int | None:
        return self._free

    def launches(self, graph: str) -> list[int]:
        """How often each program of a graph ran."""
        return [program.launches for name, program in self.programs if name == graph]


class DoubleBackend(OnnxRuntimeCpu):
    """The CPU backend with a device beside it."""

    def __init__(self, bundle: Bundle, precision: str, device: Device) -> None:
        super().__init__(bundle, precision, 1)
        self.device = device


def on_device(
    bundle: Bundle,
    precision: str = "fp32",
    capacity: Capacity | None = None,
    free: int | None = None,
) -> tuple[Forecaster, CpuDevice]:
    """A forecaster that draws on a double, and the double."""
    device = CpuDevice(bundle, precision, capacity, free)
    return Forecaster(bundle, DoubleBackend(bundle, precision, device), 2), device
