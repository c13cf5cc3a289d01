"""A double of the tensorrt module: an engine is the ONNX graph, run by onnxruntime on the CPU.

Contexts take tensors by address, as TensorRT's do, and memory of their own. They refuse shapes
beyond those the engine was built for, and are as strict as TensorRT may be: no output may lie over
another tensor, a capture needs a run with these shapes before it, and a context whose work was
captured may neither change nor go while the graph is used.
"""

from __future__ import annotations

import ctypes
import json
import sys
import weakref
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

import laglite.backends
import laglite_export
from laglite.backends import cuda_driver
from tests.cuda_double import ALIGNMENT, CudaDouble

GPU = cuda_driver.Gpu("Double", (8, 7), (12, 6))
TYPES = {"FLOAT": np.float32, "FLOAT16": np.float16, "INT64": np.int64}


class TensorRtDouble(ModuleType):
    """What laglite uses of the module; `cuda` is where engines find their memory."""

    def __init__(self, cuda: CudaDouble, version: str = "10.3.0") -> None:
        super().__init__("tensorrt")
        self.cuda, self.__version__ = cuda, version
        self.__spec__ = ModuleSpec("tensorrt", None, origin="double")
        self.context_bytes = 1 << 20
        self.broken: set[str] = set()  # what fails: "runtime", "context", "run"
        self.refused_nodes: list[str] = []
        self.cleared: list[str] = []
        self.timings_given: list[bytes] = []
        self.ILogger = Logger
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.BuilderFlag = SimpleNamespace(TF32="TF32")

    def Builder(self, logger: Any) -> Builder:
        return Builder(self)

    def OnnxParser(self, network: Network, logger: Any) -> Parser:
        return Parser(self, network)

    def Runtime(self, logger: Any) -> Runtime:
        if "runtime" in self.broken:
            logger.log(1, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return Runtime(self, logger)


class Logger:
    Severity = SimpleNamespace(ERROR=1)


class Tensor:
    def __init__(self, info: onnx.ValueInfoProto) -> None:
        kind = info.type.tensor_type
        self.name = info.name
        self.axes = [d.dim_param or d.dim_value for d in kind.shape.dim]
        self.shape: Sequence[int] = [a if isinstance(a, int) else -1 for a in self.axes]
        name = onnx.TensorProto.DataType.Name(kind.elem_type)
        self.dtype = SimpleNamespace(name="HALF" if name == "FLOAT16" else name)

    def get_dimension_name(self, index: int) -> str:
        axis = self.axes[index]
        return axis if isinstance(axis, str) else ""


class Network:
    def __init__(self) -> None:
        self.path = Path()
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        """Its shape follows from those of the inputs, as the names of dimensions say."""
        sizes: dict[str, int] = {}
        for tensor in self.inputs:
            for axis, size in zip(tensor.axes, tensor.shape, strict=True):
                if isinstance(axis, str) and size >= 0:
                    name, _, more = axis.partition(" + ")
                    sizes[name] = size - int(more or 0)
        output = self.outputs[index]
        output.shape = [a if isinstance(a, int) else _value(a, sizes) for a in output.axes]
        return output


def _value(axis: str, sizes: dict[str, int]) -> int:
    parts = axis.split(" + ")
    if not all(part.isdigit() or part in sizes for part in parts):
        return -1
    return sum(int(part) if part.isdigit() else sizes[part] for part in parts)


class Parser:
    def __init__(self, module: TensorRtDouble, network: Network) -> None:
        self._module, self._network = module, network
        self.num_errors = 0

    def parse_from_file(self, path: str) -> bool:
        graph = onnx.load(path, load_external_data=False).graph
        self._network.path = Path(path)
        self._network.inputs = [Tensor(info) for info in graph.input]
        self._network.outputs = [Tensor(info) for info in graph.output]
        kinds = {node.op_type for node in graph.node}
        self.num_errors = len(kinds & set(self._module.refused_nodes))
        return self.num_errors == 0

    def get_error(self, index: int) -> Any:
        kind = self._module.refused_nodes[index]
        return SimpleNamespace(desc=lambda: f"no importer for {kind}", node_name=lambda: "node")


class Builder:
    def __init__(self, module: TensorRtDouble) -> None:
        self._module = module

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << self._module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self) -> Any:
        module = self._module
        profiles: list[Any] = []

        def cache(content: bytes) -> Any:
            module.timings_given.append(content)
            if content.strip(b"t"):
                return None
            return SimpleNamespace(serialize=lambda: content + b"t")

        return SimpleNamespace(
            clear_flag=module.cleared.append,
            create_timing_cache=cache,
            set_timing_cache=lambda cache, ignore_mismatch: True,
            profiles=profiles,
            add_optimization_profile=lambda profile: profiles.append(profile) or 0,
        )

    def create_optimization_profile(self) -> Any:
        limits: dict[str, Any] = {}

        def set_shape(name: str, low: Any, best: Any, high: Any) -> None:
            assert all(a <= b <= c for a, b, c in zip(low, best, high, strict=True))
            limits[name] = low, high

        return SimpleNamespace(set_shape=set_shape, limits=limits)

    def build_serialized_network(self, network: Network, config: Any) -> bytes | None:
        limits = {}
        for tensor in network.inputs:
            shape = tuple(tensor.shape)
            if min(shape) >= 0:
                limits[tensor.name] = shape, shape
            elif not config.profiles:
                return None
            else:
                limits[tensor.name] = config.profiles[0].limits[tensor.name]
        return json.dumps({"graph": str(network.path), "limits": limits}).encode()


class Runtime:
    def __init__(self, module: TensorRtDouble, logger: Any) -> None:
        self._module, self._logger = module, logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        try:
            plan = json.loads(content)
            return Engine(self._module, self._logger, plan["graph"], plan["limits"])
        except ValueError:
            self._logger.log(1, "the engine's magic tag does not match")
            return None


class Engine:
    def __init__(
        self, module: TensorRtDouble, logger: Any, path: str, limits: dict[str, Any]
    ) -> None:
        self._module, self._logger, self.limits = module, logger, limits
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        graph = onnx.load(path, load_external_data=False).graph
        self.inputs = {info.name: Tensor(info) for info in graph.input}
        self.outputs = {info.name: Tensor(info) for info in graph.output}
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    @property
    def device_memory_size_v2(self) -> int:
        return self._module.context_bytes

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_dtype(self, name: str) -> Any:
        return {**self.inputs, **self.outputs}[name].dtype

    def create_execution_context(self) -> Context | None:
        if "context" in self._module.broken:
            self._logger.log(1, "no kernel image is available")
            return None
        error, memory = self._module.cuda.cudaMalloc(self.device_memory_size_v2)
        if error:
            self._logger.log(1, "requested amount of GPU memory could not be allocated")
            return None
        context = Context(self._module, self, self._logger)
        weakref.finalize(context, self._module.cuda.cudaFree, memory)
        return context


class Context:
    def __init__(self, module: TensorRtDouble, engine: Engine, logger: Any) -> None:
        self._module, self._engine, self._logger = module, engine, logger
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._prepared: dict[str, tuple[int, ...]] = {}  # the shapes of the last plain run
        self._addresses: dict[str, int] = {}
        self._changes = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._changes += 1
        low, high = self._engine.limits[name]
        if len(shape) != len(high):
            return self._refuse(f"{name} has {len(high)} dimensions")
        if not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
            return self._refuse(f"{name}: {shape} does not satisfy any optimization profile")
        self._shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name in {*self._engine.inputs, *self._engine.outputs}
        self._changes += 1
        self._addresses[name] = address
        return address % ALIGNMENT == 0 or self._refuse(f"{name} is not aligned")

    def execute_async_v3(self, handle: int) -> bool:
        stream = self._module.cuda.streams[handle]
        if "run" in self._module.broken:
            return self._refuse("an illegal memory access was encountered")
        if set(self._addresses) != {*self._engine.inputs, *self._engine.outputs}:
            return self._refuse("a tensor has no address")
        if set(self._shapes) != set(self._engine.inputs):
            return self._refuse("an input has no shape")
        places, shapes = dict(self._addresses), dict(self._shapes)
        if stream.captured is None:
            self._prepared = shapes
            stream.give(lambda: self._run(places, shapes))
            return True
        if self._prepared != shapes:
            stream.spoilt = True
            return self._refuse("operation not permitted when stream is capturing")
        changes, itself = self._changes, weakref.ref(self)

        def captured() -> None:
            context = itself()
            assert context is not None, "the context of a graph is gone"
            assert changes == context._changes, "changed after it was captured"
            context._run(places, shapes)

        stream.give(captured)
        return True

    def _refuse(self, reason: str) -> bool:
        self._logger.log(1, reason)
        return False

    def _run(self, places: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> None:
        feeds = {
            name: self._view(places[name], shapes[name], tensor)
            for name, tensor in self._engine.inputs.items()
        }
        names = list(self._engine.outputs)
        results = self._engine.session.run(names, {n: each.copy() for n, each in feeds.items()})
        taken = [(places[name], places[name] + each.nbytes) for name, each in feeds.items()]
        for name, result in zip(names, results, strict=True):
            begin, end = places[name], places[name] + result.nbytes
            assert all(end <= low or begin >= high for low, high in taken), name
            taken.append((begin, end))
            self._view(begin, result.shape, self._engine.outputs[name])[...] = result

    def _view(self, address: int, shape: tuple[int, ...], tensor: Tensor) -> NDArray[Any]:
        name = "FLOAT16" if tensor.dtype.name == "HALF" else tensor.dtype.name
        dtype = np.dtype(TYPES[name])
        size = int(np.prod(shape)) * dtype.itemsize
        assert self._module.cuda.holds(address, size), f"{tensor.name}: {shape} at a stray address"
        buffer = (ctypes.c_char * size).from_address(address)
        return np.frombuffer(buffer, dtype).reshape(shape)


def install(monkeypatch: pytest.MonkeyPatch, module: TensorRtDouble) -> None:
    """Let laglite find `module`, its CUDA and a GPU, until the test ends."""
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = module.cuda  # type: ignore[attr-defined]
    for name, fake in (
        ("tensorrt", module),
        ("cuda", ModuleType("cuda")),
        ("cuda.bindings", bindings),
        ("cuda.bindings.runtime", module.cuda),
    ):
        monkeypatch.setitem(sys.modules, name, fake)  # type: ignore[arg-type]
    forget(monkeypatch)
    monkeypatch.setattr(cuda_driver, "find_gpu", lambda: GPU)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the modules that chose a TensorRT imported anew, and once more when the test ends."""
    for package, name in (
        (laglite.backends, "tensorrt_module"),
        (laglite_export, "tensorrt_engines"),
    ):
        monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", package)
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}")
        monkeypatch.setattr(package, name, None, raising=False)
        monkeypatch.delattr(package, name)
