"""Half precision: what is stored and multiplied in float16, and how far it is from float32."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from laglite import Forecaster
from laglite.bundle import open_bundle
from laglite.spec import ModelSpec
from laglite.verification import verify
from laglite_export.bundle_writer import export_bundle
from laglite_train.model import LagLlama

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
GRAPHS = ("prefill", "step", "device_step")


@pytest.mark.parametrize("graph", GRAPHS)
def test_layers_and_caches_are_halves_and_all_else_is_not(tiny_bundle: Path, graph: str) -> None:
    model = onnx.load(tiny_bundle / "fp16" / f"{graph}.onnx", load_external_data=False)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    kinds = stored | {
        value.name: value.type.tensor_type.elem_type
        for values in (model.graph.value_info, model.graph.input, model.graph.output)
        for value in values
    }
    for value in (*model.graph.input, *model.graph.output):
        cached = any(part in value.name for part in ("_key_", "_value_"))
        assert (kinds[value.name] == HALF) == cached, value.name
    full = {"wte.weight", "head.weight"}
    for node in model.graph.node:
        if node.op_type == "MatMul":
            expected = FLOAT if node.input[1] in full else HALF
            assert [kinds[name] for name in node.input] == [expected, expected]
        if node.op_type in ("Softmax", "Pow", "ReduceMean", "Sqrt", "Exp", "Sigmoid"):
            assert {kinds[name] for name in node.output} == {FLOAT}


def test_weights_take_about_half_the_room(tiny_bundle: Path) -> None:
    half, single = (
        (tiny_bundle / precision / "weights.bin").stat().st_size for precision in ("fp16", "fp32")
    )
    assert half < 0.65 * single


def test_golden_bundles_pass_their_vectors_in_half_precision(golden_bundle: Path) -> None:
    forecaster = Forecaster.load(golden_bundle, precision="fp16", threads=1)
    precision = forecaster.bundle.precision("fp16")
    largest = max(result.largest for result in verify(forecaster.bundle, forecaster.backend))
    assert largest <= precision.tolerance
    assert 1e-5 < precision.max_difference < 0.05  # not float32 by mistake


@pytest.mark.parametrize("model", ["base", "nano"])
def test_shipped_models_forecast_the_same_but_for_rounding(model: str) -> None:
    hours = np.arange(24 * 40)
    series = 100 + 30 * np.sin(2 * np.pi * hours / 24)
    series += 3 * np.random.default_rng(0).normal(size=len(hours))
    full, half = (
        Forecaster.load(model, precision=precision, threads=1).predict(
            series, horizon=24, seed=0, start="2024-01-01", freq="h"
        )
        for precision in ("fp32", "fp16")
    )
    low, high = full.interval(0.8)
    for level in (0.1, 0.5, 0.9):
        difference = np.abs(half.quantile(level) - full.quantile(level)).max()
        assert difference < 0.08 * (high - low).mean()  # paths change places


@pytest.mark.parametrize("threads", [1, 3])
def test_samples_in_half_precision_do_not_depend_on_threads(threads: int) -> None:
    series = 100 + np.random.default_rng(0).standard_normal(300).cumsum()
    one = Forecaster.load("nano", precision="fp16", threads=1)
    many = Forecaster.load("nano", precision="fp16", threads=threads)
    expected = one.predict(series, horizon=20, seed=1, num_samples=97)
    found = many.predict(series, horizon=20, seed=1, num_samples=97)
    np.testing.assert_array_equal(found.samples, expected.samples)


def test_a_model_beyond_half_precision_is_exported_without_it(
    small_spec: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = LagLlama(small_spec)
    model.initialise()
    with torch.no_grad():  # the same function, with values that no half holds in between
        model.get_parameter("transformer.h.0.mlp.c_fc2.weight").mul_(2.0**24)
        model.get_parameter("transformer.h.0.mlp.c_proj.weight").mul_(2.0**-24)
    caplog.set_level(logging.WARNING, "laglite")
    export_bundle(model.eval(), tmp_path / "bundle", name="n", license_name="none", summary={})
    assert "precision 'fp16' is left out" in caplog.text
    assert list(open_bundle(tmp_path / "bundle").precisions) == ["fp32", "int8"]
    assert not (tmp_path / "bundle" / "fp16").exists()
