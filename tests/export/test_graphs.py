"""Graphs against PyTorch, for every head, rotary scaling and kind of model, and their form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from laglite import Forecaster
from laglite.backends import open_backend
from laglite.bundle import open_bundle
from laglite.errors import BackendError
from laglite.spec import ModelSpec
from laglite.verification import run_case, verify
from laglite_export.device_step_graph import can_draw
from laglite_export.vectors import CaseShape, make_case
from laglite_train.model import LagLlama

# What TensorRT 10.3's parser and onnxruntime both take; the portable form keeps to it.
PORTABLE = {
    "Add", "And", "Asinh", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Exp", "Expand",
    "Gather", "GatherElements", "GatherND", "Identity", "Less", "MatMul", "Max", "Min", "Mul", "Or",
    "Pad", "Pow", "Range", "ReduceMax", "ReduceMean", "ReduceSum", "Reciprocal", "Reshape",
    "ScatterND", "Shape", "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze",
    "Sub", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
}  # fmt: skip

VARIANTS: dict[str, dict[str, Any]] = {
    "published_rules": {"scaling": "robust", "history": "zeros"},
    "mean_scaling": {"scaling": "mean", "history": "zeros"},
    "std_scaling": {"scaling": "std"},
    "no_calendar": {"calendar": False},
    "normal_head": {"head": "normal"},
    "negative_binomial_head": {"head": "neg_bin", "scaling": "mean"},
    "mixture_head": {"head": "mixtureT"},
    "spline_head": {"head": "spline"},
    "linear_rope": {"rope_scaling": "linear", "rope_factor": 2.0},
    "dynamic_rope": {"rope_scaling": "dynamic", "rope_factor": 2.0, "max_context_length": 24},
    "dynamic_rope_in_the_prompt": {
        "rope_scaling": "dynamic",
        "rope_factor": 2.0,
        "max_context_length": 4,
    },
    "nope": {"rope_scaling": "nope"},
    "one_head_one_layer": {"num_heads": 1, "num_layers": 1},
    "no_lag_but_the_value": {"lags": (0,)},
    "covariates": {"num_covariates": 3},
    "seasons": {"seasons": True, "num_covariates": 1},
    "residual": {"residual": True, "lags": (0, 1, 3, 8)},
    "regression": {"residual": True, "regression": True, "seasons": True, "lags": (0, 1, 3, 8)},
    "regression_of_a_mixture": {"residual": True, "regression": True, "head": "mixtureT"},
    "regression_with_covariates": {"residual": True, "regression": True, "num_covariates": 1},
    "scale_free": {"scale_free": True, "seasons": True},
    "towers": {"num_heads": 3, "mlp_width": 40, "towers": ((2, 16), (1, 24))},
    "towers_with_regression": {
        "num_heads": 4,
        "mlp_width": 40,
        "towers": ((1, 8), (2, 24), (1, 8)),
        "residual": True,
        "regression": True,
    },
    "towers_of_a_mixture": {
        "num_heads": 2,
        "towers": ((1, 8), (1, 8)),
        "residual": True,
        "head": "mixtureT",
    },
    "covariates_with_published_rules": {"num_covariates": 2, "history": "zeros"},
    "covariates_without_calendar": {"num_covariates": 1, "calendar": False},
}


def random_model(spec: ModelSpec) -> LagLlama:
    torch.manual_seed(0)
    model = LagLlama(spec)
    model.initialise()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1 or not parameter.any():  # gains and biases must matter too
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_runtime_agrees_with_pytorch_at_every_prompt_path_and_step(
    small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path], variant: str
) -> None:
    model = random_model(dataclasses.replace(small_spec, **VARIANTS[variant]))
    forecaster = Forecaster.load(export_to(model, variant), threads=1)
    shapes = [CaseShape(5, 3, 45, 60), CaseShape(16, 1, 2, 9), CaseShape(30, 16, 8, 80)]
    for seed, shape in enumerate(shapes):
        case = make_case(model, shape, seed + 100)
        result = run_case(model.spec, forecaster.backend, case)
        assert result.largest <= 1e-4, (variant, shape, result)


@pytest.mark.parametrize("piece", [1, 7, 45])
def test_a_prompt_may_be_read_in_pieces_of_any_length(
    small_spec: ModelSpec,
    export_to: Callable[[LagLlama, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    piece: int,
) -> None:
    monkeypatch.setattr("laglite.backends.onnxruntime_cpu.PIECE", piece)
    model = random_model(dataclasses.replace(small_spec, **VARIANTS["regression"]))
    forecaster = Forecaster.load(export_to(model, "pieces"), threads=1)
    case = make_case(model, CaseShape(45, 3, 6, 60), 7)
    assert run_case(model.spec, forecaster.backend, case).largest <= 1e-4


def test_a_prefill_graph_without_past_keys_is_refused(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    fp32 = bundle.precision("fp32")
    old = dataclasses.replace(fp32, prefill=fp32.step)
    with pytest.raises(BackendError, match="takes no past keys.*export the model again"):
        open_backend("cpu", dataclasses.replace(bundle, precisions={"fp32": old}), "fp32", 1)


def test_golden_bundles_pass_their_own_test_vectors(golden_bundle: Path) -> None:
    forecaster = Forecaster.load(golden_bundle)
    results = verify(forecaster.bundle, forecaster.backend)
    assert len(results) >= 5
    assert max(result.largest for result in results) <= 1e-4


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_graphs_are_plain_opset_17(
    small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path], variant: str, precision: str
) -> None:
    model = random_model(dataclasses.replace(small_spec, **VARIANTS[variant]))
    files = sorted((export_to(model, variant) / precision).glob("*.onnx"))
    assert len(files) == 2 + can_draw(model.spec)
    for file in files:
        proto = onnx.load(file, load_external_data=False)
        assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 17)]
        assert {node.op_type for node in proto.graph.node} <= PORTABLE
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        assert metadata["laglite.graph"] == file.stem
        assert metadata["laglite.precision"] == precision


def test_the_prompt_cache_has_no_path_axis(tiny_bundle: Path) -> None:
    model = onnx.load(tiny_bundle / "fp32" / "step.onnx", load_external_data=False)
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    assert shapes["prompt_key_0"] == [2, 17, "context + 1"]
    assert shapes["prompt_value_0"] == [2, "context + 1", 16]
    assert shapes["suffix_key_0"] == ["paths", 2, "capacity", 16]


def test_all_graphs_share_one_copy_of_the_weights(tiny_bundle: Path) -> None:
    count = Forecaster.load(tiny_bundle).spec.num_parameters
    size = (tiny_bundle / "fp32" / "weights.bin").stat().st_size
    assert 4 * count <= size <= 4 * count * 1.1
    for graph in ("prefill", "step", "device_step"):
        assert (tiny_bundle / "fp32" / f"{graph}.onnx").stat().st_size < 40_000


def test_tokens_of_a_case_come_from_its_own_history(small_spec: ModelSpec) -> None:
    model = random_model(small_spec)
    case = make_case(model, CaseShape(16, 2, 4, 60), 0)
    with torch.no_grad():
        again = model(torch.from_numpy(case.tokens)[None])
    for name, values in again.items():
        np.testing.assert_allclose(values[0].numpy(), case.arguments[name][0], atol=1e-6)
