"""The graph that appends to suffixes: what its bytes say, and what it does."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from laglite.backends.append_graph import append_graph
from laglite.spec import ModelSpec

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def expected(spec: ModelSpec, dtype: str) -> onnx.ModelProto:
    """The same by onnx's own helpers."""
    old = ["paths", spec.num_heads, "capacity", spec.head_dim]
    new = ["paths", spec.num_heads, 1, spec.head_dim]
    inputs = [helper.make_tensor_value_info("place", TensorProto.BOOL, ["capacity", 1])]
    outputs, nodes = [], []
    for layer in range(spec.num_layers):
        for kind in ("key", "value"):
            name = f"{kind}_{layer}"
            inputs.append(helper.make_tensor_value_info(f"suffix_{name}", TYPES[dtype], old))
            inputs.append(helper.make_tensor_value_info(f"new_{name}", TYPES[dtype], new))
            result = f"next_suffix_{name}"
            outputs.append(helper.make_tensor_value_info(result, TYPES[dtype], old))
            nodes.append(
                helper.make_node("Where", ["place", f"new_{name}", f"suffix_{name}"], [result])
            )
    graph = helper.make_graph(nodes, "append", inputs, outputs)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, ir_version=8, opset_imports=[opset])


def text(content: bytes) -> str:
    return onnx.printer.to_text(onnx.load_from_string(content))


@pytest.mark.parametrize("dtype", TYPES)
def test_it_is_what_onnx_would_write(small_spec: ModelSpec, dtype: str) -> None:
    content = append_graph(small_spec, dtype)
    onnx.checker.check_model(content, full_check=True)
    assert text(content) == onnx.printer.to_text(expected(small_spec, dtype))


def test_sizes_of_more_than_seven_bits_are_written_whole(small_spec: ModelSpec) -> None:
    spec = dataclasses.replace(small_spec, num_heads=300, head_dim=130)
    found = text(append_graph(spec, "float32"))
    assert found == onnx.printer.to_text(expected(spec, "float32"))


def test_only_the_new_token_changes(small_spec: ModelSpec) -> None:
    spec = dataclasses.replace(small_spec, num_layers=1)
    random = np.random.default_rng(0)
    shape = (3, spec.num_heads, 5, spec.head_dim)
    inputs = {"place": (np.arange(5) == 2)[:, None]}
    for kind in ("key", "value"):
        inputs[f"suffix_{kind}_0"] = random.normal(size=shape).astype(np.float32)
        inputs[f"new_{kind}_0"] = random.normal(size=shape).astype(np.float32)[:, :, :1]
    found = ReferenceEvaluator(append_graph(spec, "float32")).run(None, inputs)
    for kind, result in zip(("key", "value"), found, strict=True):
        wanted = inputs[f"suffix_{kind}_0"].copy()
        wanted[:, :, 2] = inputs[f"new_{kind}_0"][:, :, 0]
        np.testing.assert_array_equal(result, wanted)
