"""Graphs keep to what TensorRT 10.3 parses, the oldest that is served (JetPack 6)."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

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
