"""Graphs keep to what GPUs run: what TensorRT 10.3 (JetPack 6) parses, and CUDA kernels."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, shape_inference

from laglite.bundle import SHIPPED

# The operators of laglite's float graphs. By docs/operators.md of github.com/onnx/onnx-tensorrt the
# parser of 8.4 has them, but for Trilu (8.5) and Reciprocal, which the list of 10.15 has; and
# docs/Changelog.md names none of them among what releases after 10.3 added.
OPERATORS = {
    "Add", "And", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Exp", "Expand", "Gather",
    "GatherElements", "GatherND", "Less", "MatMul", "Max", "Min", "Mul", "Or", "Pad", "Pow",
    "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "ScatterND", "Shape",
    "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Tile",
    "Transpose", "Trilu", "Unsqueeze", "Where",
}  # fmt: skip
# Inputs that the parser took only as constants, until 10.4 (Pad) and 10.7 (Squeeze, Unsqueeze).
CONSTANT = {"Squeeze": (1,), "Unsqueeze": (1,), "ReduceSum": (1,), "Pad": (1, 3), "Slice": (3, 4)}
# Types of the data that go into an operator and come out of it, for which onnxruntime-gpu 1.31.1
# has a CUDA kernel: it gave all nodes like these of the shipped graphs to its CUDA provider, or, of
# those that reckon with shapes, would if it did not prefer the CPU for them.
KERNELS = {
    "float": (
        "Add", "Concat", "Div", "Exp", "Expand", "Gather", "GatherElements", "GatherND", "MatMul",
        "Max", "Min", "Mul", "Pad", "Pow", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum",
        "Reshape", "ScatterND", "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "Sqrt",
        "Squeeze", "Sub", "Tile", "Transpose", "Trilu", "Unsqueeze",
    ),
    "float16": ("Concat", "MatMul", "ScatterND"),
    "int64": (
        "Add", "Concat", "Expand", "Gather", "Max", "Min", "Mul", "Range", "Shape", "Slice",
        "Squeeze", "Sub", "Unsqueeze",
    ),
    "bool": ("And", "Or", "Unsqueeze"),
    "bool float": ("Cast", "Equal", "Less", "Where"),
    "bool int64": ("Equal", "Less"),
    "float float16": ("Cast",),
    "float int64": ("Cast", "ConstantOfShape", "Shape"),
    "float16 int64": ("Shape",),
}  # fmt: skip
# Their other inputs are places and sizes, int64.
DATA_FIRST = {
    "Expand", "Gather", "GatherElements", "GatherND", "Pad", "ReduceSum", "Reshape", "ScatterND",
    "Slice", "Split", "Squeeze", "Tile", "Trilu", "Unsqueeze",
}  # fmt: skip
GRAPHS = sorted(SHIPPED.glob("*/fp*/*.onnx"))


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: "-".join(path.parts[-3:]))
def test_a_graph_has_only_operators_that_tensorrt_10_3_parses(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert {node.op_type for node in model.graph.node} <= OPERATORS
    assert not {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    constants = {each.name for each in model.graph.initializer}
    for node in model.graph.node:
        for place in CONSTANT.get(node.op_type, ()):
            if place < len(node.input) and node.input[place]:
                assert node.input[place] in constants, f"{node.name}: input {place}"
        if node.op_type == "ScatterND":  # a reduction came with opset 16, and not to TensorRT
            assert not node.attribute


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: "-".join(path.parts[-3:]))
def test_a_graph_has_only_operators_of_which_onnxruntime_has_cuda_kernels(path: Path) -> None:
    """A node that it gave to the CPU would keep the device step from being one CUDA graph."""
    model = onnx.load(path, load_external_data=False)
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {each.name: each.data_type for each in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    for node in graph.node:
        given = node.input[:1] if node.op_type in DATA_FIRST else node.input
        kinds = {types[name] for name in (*given, node.output[0])}
        data = " ".join(sorted(TensorProto.DataType.Name(kind).lower() for kind in kinds))
        assert node.op_type in KERNELS[data], f"{node.name}: {data}"
