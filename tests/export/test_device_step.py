"""The device step graph: PyTorch's numbers, its form, and that its caches lie where they lay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from laglite.backends.device import Capacity
from laglite.bundle import SHIPPED, open_bundle
from laglite.device_workspace import empty_inputs
from laglite.spec import ModelSpec
from laglite.verification import run_case, verify
from laglite_export.device_step_graph import can_draw
from laglite_export.vectors import CaseShape, make_case
from laglite_train.model import LagLlama
from tests.cpu_device import CpuDevice, DoubleBackend
from tests.export.test_graphs import VARIANTS, random_model

DRAWING = [
    name
    for name, changes in VARIANTS.items()
    if changes.get("head", "studentT") in ("studentT", "normal")
]
SIZES = {"series": 3, "paths": 5, "steps": 7, "context + 1": 11}


def graph(bundle: Path, precision: str = "fp32") -> onnx.ModelProto:
    return onnx.load(bundle / precision / "device_step.onnx", load_external_data=False)


@pytest.mark.parametrize("variant", DRAWING)
def test_arguments_are_pytorchs_and_draws_those_of_the_head(
    small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path], variant: str
) -> None:
    model = random_model(dataclasses.replace(small_spec, **VARIANTS[variant]))
    bundle = open_bundle(export_to(model, variant))
    backend = DoubleBackend(bundle, "fp32", CpuDevice(bundle))
    shapes = [CaseShape(5, 3, 45, 60), CaseShape(16, 1, 2, 9), CaseShape(20, 16, 5, 80)]
    for seed, shape in enumerate(shapes):
        result = run_case(model.spec, backend, make_case(model, shape, seed + 200))
        assert result.device is not None
        assert result.device <= 1e-4, (variant, shape, result)


@pytest.mark.parametrize("model", ["base", "nano"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_shipped_models_pass_their_vectors_on_a_device(model: str, precision: str) -> None:
    bundle = open_bundle(SHIPPED / model)
    backend = DoubleBackend(bundle, precision, CpuDevice(bundle, precision))
    results = verify(bundle, backend)
    assert max(result.largest for result in results) <= bundle.precision(precision).tolerance
    assert all(result.device is not None for result in results)


def test_cases_that_a_compiled_engine_cannot_hold_are_left_out(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    device = CpuDevice(bundle, capacity=Capacity(2, 8, 32, 12))
    found = [result.device for result in verify(bundle, DoubleBackend(bundle, "fp32", device))]
    assert None in found
    assert any(difference is not None and difference < 1e-4 for difference in found)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_with_sizes_fixed_no_shape_is_computed_when_it_runs(
    tiny_bundle: Path, precision: str, tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "fixed.onnx")
    options.log_severity_level = 3
    for name, size in SIZES.items():
        options.add_free_dimension_override_by_name(name, size)
    file = tiny_bundle / precision / "device_step.onnx"
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    before = {node.op_type for node in graph(tiny_bundle, precision).graph.node}
    fixed = onnx.load(tmp_path / "fixed.onnx", load_external_data=False)
    after = {node.op_type for node in fixed.graph.node}
    computed = {"Shape", "Range"}
    assert computed <= before
    assert not computed & after


def test_what_is_overwritten_is_read_once_or_before_the_write(tiny_bundle: Path) -> None:
    """Whatever the order in which an engine runs the nodes."""
    model = graph(tiny_bundle)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    written = [output.name for output in model.graph.output]
    assert {"next_step", "next_values", "next_arguments", "next_suffix_key_0"} <= set(written)
    for output in written:
        data = [node for node in readers[output.removeprefix("next_")] if node.op_type != "Shape"]
        if len(data) > 1:  # all of them before the node that writes
            writer = next(node for node in model.graph.node if output in node.output)
            earlier = _ancestors(model, writer)
            assert all(node.name in earlier for node in data if node is not writer), output


def _ancestors(model: onnx.ModelProto, node: onnx.NodeProto) -> set[str]:
    makers = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    waiting = [node]
    while waiting:
        for name in waiting.pop().input:
            maker = makers.get(name)
            if maker is not None and maker.name not in found:
                found.add(maker.name)
                waiting.append(maker)
    return found


def test_launches_after_the_last_step_repeat_it(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    spec, device, size = bundle.spec, CpuDevice(bundle), Capacity(2, 3, 4, 3)
    buffers: dict[str, Any] = {}
    for given in device._sessions["device_step"].get_inputs():
        known = {"series": 2, "paths": 3, "steps": 3, "context + 1": 5}
        shape = tuple(known.get(axis, axis) for axis in given.shape)
        kind = "int64" if "int64" in given.type else "float32"
        buffers[given.name] = device.allocate(shape, kind)
    for name, array in empty_inputs(spec, size).items():
        buffers[name].write(array)
    buffers["values"].write(np.random.default_rng(0).normal(size=(3, 2, 3)).astype(np.float32))
    program = device.program("device_step", buffers)
    for _ in range(2):
        program.launch()
    assert buffers["step"].read() == [2]
    before = {name: buffer.read() for name, buffer in buffers.items()}
    program.launch()
    for name, array in before.items():
        np.testing.assert_array_equal(buffers[name].read(), array)


def test_heads_that_do_not_draw_on_a_device_have_no_graph_for_it(
    small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path]
) -> None:
    for variant in ("mixture_head", "spline_head", "negative_binomial_head"):
        model = random_model(dataclasses.replace(small_spec, **VARIANTS[variant]))
        assert not can_draw(model.spec)
        bundle = open_bundle(export_to(model, variant))
        assert bundle.precision("fp32").device_step is None
    assert bundle.precision("int8").device_step is None
