"""A thin layer over `onnx.helper`: named nodes, and weights kept once in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17  # what TensorRT 10.3 (JetPack 6) parses in full
IR_VERSION = 8
ALIGNMENT = 64
FLOAT, HALF, WHOLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
STORED = {
    np.dtype(np.float32): FLOAT,
    np.dtype(np.float16): HALF,
    np.dtype(np.int8): TensorProto.INT8,
}
Weight = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]


class WeightFile:
    """Weights of all graphs of one precision, stored once: a name keeps its place in the file."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._offsets: dict[str, tuple[int, Weight]] = {}
        self._size = 0

    def add(self, name: str, array: Weight) -> TensorProto:
        """A tensor that refers to `array` in the file; the same name must bring the same array."""
        if name not in self._offsets:
            self._offsets[name] = (self._size, array)
            self._size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        offset, stored = self._offsets[name]
        if not np.array_equal(stored, array):
            raise ValueError(f"weight {name!r} is added twice with different values")
        tensor = TensorProto(name=name, data_type=STORED[array.dtype], dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", self.location),
            ("offset", str(offset)),
            ("length", str(array.nbytes)),
        ):
            tensor.external_data.add(key=key, value=value)
        return tensor

    def write(self, path: Path) -> None:
        """Write all weights, little-endian, each at a multiple of 64 bytes."""
        buffer = bytearray(self._size)
        for offset, array in self._offsets.values():
            buffer[offset : offset + array.nbytes] = array.astype(
                array.dtype.newbyteorder("<")
            ).tobytes()
        path.write_bytes(buffer)


class GraphBuilder:
    """Collects nodes; every method that adds one returns the name of its output."""

    cached = FLOAT  # what keys and values are kept in

    def __init__(self, name: str, weights: WeightFile) -> None:
        self.name = name
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._counts: dict[str, int] = {}

    def input(self, name: str, shape: tuple[int | str, ...], kind: int = FLOAT) -> str:
        """Declare a graph input, float32 unless said."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, value: str, shape: tuple[int | str, ...], kind: int = FLOAT) -> str:
        """Declare a graph output, `value`, and give it this name, which is returned."""
        for node in self._nodes:
            for names in (node.input, node.output):
                for place, known in enumerate(names):
                    if known == value:
                        names[place] = name
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def linear(self, x: str, name: str, matrix: NDArray[np.float32], scope: str) -> str:
        """X [..., in] times the trained matrix [in, out]."""
        return self.op("MatMul", x, self.weight(name, matrix), scope=scope)

    def product(self, a: str, b: str, scope: str) -> str:
        """The matrix product of two activations, either of which may be cached: float32."""
        return self.op("MatMul", a, b, scope=scope)

    def to_cache(self, x: str, scope: str) -> str:
        """Keys or values as they are kept."""
        return x

    def rounded(self, x: str, scope: str) -> str:
        """Float32 numbers that products take as they are."""
        return x

    def weight(self, name: str, array: Weight) -> str:
        """A trained weight, kept in the weight file."""
        if name not in self._initializers:
            self._initializers[name] = self._weights.add(name, array)
        return name

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """A small constant, kept inside the graph."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(values, name)
        return name

    def shape(self, *dims: int) -> str:
        """A shape or list of axes."""
        return self.constant("shape/" + "_".join(map(str, dims)), np.array(dims, np.int64))

    def op(self, kind: str, *inputs: str, scope: str, **attributes: Any) -> str:
        """Add a node of one output."""
        return self.ops(kind, 1, *inputs, scope=scope, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, scope: str, **attributes: Any) -> list[str]:
        """Add a node of `count` outputs."""
        stem = f"{scope}/{kind}"
        number = self._counts[stem] = self._counts.get(stem, 0) + 1
        name = stem if number == 1 else f"{stem}_{number}"
        outputs = [name] if count == 1 else [f"{name}:{i}" for i in range(count)]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs

    def build(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The finished model with `metadata` as its `metadata_props`."""
        graph = helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            initializer=list(self._initializers.values()),
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="laglite"
        )
        model.ir_version = IR_VERSION
        helper.set_model_props(model, dict(metadata))
        return model
