"""8-bit graphs: whole numbers where said, and forecasts that hardly change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from laglite import Forecaster
from laglite.spec import ModelSpec
from laglite.verification import verify
from laglite_export.quantisation import WEIGHT_LEVELS, balance, input_magnitudes, quantise
from laglite_train.model import LagLlama

LAYER_MATRICES = ("qk_0", "qk_1", "attn.v", "attn.out", "mlp.gate", "mlp.up", "mlp.down")


def fresh(spec: ModelSpec) -> LagLlama:
    torch.manual_seed(0)
    model = LagLlama(spec)
    model.initialise()
    return model.eval()


def same_function(model: LagLlama, weights: Mapping[str, np.ndarray]) -> LagLlama:
    """The network with other weights, after a check that its outputs are the same."""
    other = LagLlama(model.spec).eval()
    other.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    features = model.spec.num_features
    tokens = torch.randn(2, 9, features, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for name, expected in model(tokens).items():
            torch.testing.assert_close(other(tokens)[name], expected, rtol=1e-4, atol=1e-5)
    return other


@given(
    hnp.arrays(np.float32, (5, 3), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))
)
def test_a_matrix_is_kept_to_half_a_level_of_its_column(matrix: np.ndarray) -> None:
    whole, scales = quantise(matrix)
    assert whole.dtype == np.int8
    assert np.abs(whole.astype(int)).max() <= WEIGHT_LEVELS
    error = np.abs(whole * scales - matrix)
    assert (error <= 0.5001 * scales + 1e-30).all()


def test_pairs_of_products_fit_the_narrowest_sums_of_x86() -> None:
    assert np.iinfo(np.int16).max >= 2 * 255 * WEIGHT_LEVELS


def test_magnitudes_are_the_largest_inputs_that_a_matrix_saw(small_spec: ModelSpec) -> None:
    model = fresh(small_spec)
    seen: list[torch.Tensor] = []
    layer = model.get_submodule("transformer.h.1.mlp.c_proj")
    hook = layer.register_forward_pre_hook(lambda _, x: seen.append(x[0].abs()[0]))
    magnitudes = input_magnitudes(model)
    hook.remove()
    expected = torch.cat(seen).amax(dim=0).numpy()
    np.testing.assert_array_equal(magnitudes["transformer.h.1.mlp.c_proj"], expected)


def test_balancing_changes_the_weights_but_not_the_function(small_spec: ModelSpec) -> None:
    model = fresh(small_spec)
    with torch.no_grad():  # one hidden unit far larger than the others
        model.get_parameter("transformer.h.1.mlp.c_fc2.weight")[3] *= 1000
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    balanced, ranges = balance(model, weights)
    other = same_function(model, balanced)
    largest = {name: float(each.max()) for name, each in input_magnitudes(other).items()}
    assert ranges["h.1.mlp.down"] == pytest.approx(largest["transformer.h.1.mlp.c_proj"], rel=1e-4)
    before = input_magnitudes(model)["transformer.h.1.mlp.c_proj"]
    assert ranges["h.1.mlp.down"] < 0.1 * before.max()
    assert ranges["h.0.mlp.gate"] == ranges["h.0.mlp.up"]
    assert len(ranges) == len(LAYER_MATRICES) * small_spec.num_layers
    assert not np.array_equal(
        balanced["transformer.h.0.attn.c_proj.weight"],
        weights["transformer.h.0.attn.c_proj.weight"],
    )


def test_towers_are_balanced_each_by_its_own_inputs(small_spec: ModelSpec) -> None:
    towers = ((1, 8), (2, 24))
    spec = dataclasses.replace(small_spec, num_heads=3, mlp_width=32, towers=towers)
    model = fresh(spec)
    with torch.no_grad():  # the second tower's alone
        model.get_parameter("transformer.h.1.mlp.c_fc2.1.weight")[3] *= 1000
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    balanced, ranges = balance(model, weights)
    assert len(ranges) == 2 * len(LAYER_MATRICES) * spec.num_layers
    assert ranges["h.1.mlp.down.1"] > 3 * ranges["h.1.mlp.down.0"]
    other = same_function(model, balanced)
    largest = input_magnitudes(other)["transformer.h.1.mlp.c_proj"]
    for tower, part in enumerate(np.split(largest, [8])):
        assert ranges[f"h.1.mlp.down.{tower}"] == pytest.approx(part.max(), rel=1e-4)


def test_layers_are_stored_in_bytes_embedding_and_head_in_full(tiny_bundle: Path) -> None:
    for graph in ("prefill", "step"):
        model = onnx.load(tiny_bundle / "int8" / f"{graph}.onnx")
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        for name in LAYER_MATRICES:
            full = f"h.0.{name}" if "." in name else f"h.0.attn.{name}"
            assert kinds[full] == onnx.TensorProto.INT8
        for name in ("wte.weight", "head.weight"):
            assert kinds[name] == onnx.TensorProto.FLOAT
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    sizes = [(tiny_bundle / kind / "weights.bin").stat().st_size for kind in ("int8", "fp32")]
    assert sizes[0] < 0.4 * sizes[1]


def test_golden_bundles_pass_their_vectors_in_8_bits(golden_bundle: Path) -> None:
    forecaster = Forecaster.load(golden_bundle, precision="int8", threads=1)
    precision = forecaster.bundle.precision("int8")
    largest = max(result.largest for result in verify(forecaster.bundle, forecaster.backend))
    assert largest <= precision.tolerance
    assert 1e-4 < precision.max_difference <= precision.tolerance  # not float32 by mistake


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_samples_in_8_bits_do_not_depend_on_threads(threads: int) -> None:
    series = 100 + np.random.default_rng(0).standard_normal(300).cumsum()
    one = Forecaster.load("nano", precision="int8", threads=1)
    many = Forecaster.load("nano", precision="int8", threads=threads)
    for refine in (True, False):
        expected = one.predict(series, horizon=20, seed=1, num_samples=97, refine=refine)
        found = many.predict(series, horizon=20, seed=1, num_samples=97, refine=refine)
        np.testing.assert_array_equal(found.samples, expected.samples)


@pytest.mark.parametrize("model", ["base", "nano"])
def test_shipped_models_forecast_nearly_the_same_in_8_bits(model: str) -> None:
    hours = np.arange(24 * 40)
    noise = np.random.default_rng(0).normal(size=len(hours))
    series = 100 + 30 * np.sin(2 * np.pi * hours / 24) + 3 * noise
    times = {"start": "2024-01-01", "freq": "h"}
    full, bytes_ = (
        Forecaster.load(model, precision=precision).predict(series, horizon=24, seed=0, **times)  # type: ignore[arg-type]
        for precision in ("fp32", "int8")
    )
    low, high = full.interval(0.8)
    assert np.abs(bytes_.median - full.median).max() < 0.25 * (high - low).mean()
    width = np.subtract(*bytes_.interval(0.8)[::-1]).mean()
    assert width == pytest.approx((high - low).mean(), rel=0.2)
