"""Embeddings: the runtime's states against PyTorch's."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from laglite import Forecaster
from laglite.backends import open_backend
from laglite.benchmarking.stages import TimedBackend
from laglite.bundle import open_bundle
from laglite.errors import BackendError, InputError, LagliteWarning
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_train.model import LagLlama
from tests.export.test_graphs import random_model

START, FREQ = "2024-01-31 22:00", "h"
VARIANTS: dict[str, dict[str, Any]] = {
    "published_rules": {"scaling": "robust", "history": "zeros"},
    "regression": {"residual": True, "regression": True, "seasons": True, "lags": (0, 1, 3, 8)},
    "covariates": {"num_covariates": 2},
    "dynamic_rope": {"rope_scaling": "dynamic", "rope_factor": 2.0, "max_context_length": 24},
}

Export = Callable[[LagLlama, str], Path]


def series(length: int) -> NDArray[np.float64]:
    values = np.random.default_rng(length).standard_normal(length).cumsum()
    values[length // 2] = np.nan
    return values


def states(model: LagLlama, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """What PyTorch's head is given, after the last norm."""
    seen: list[torch.Tensor] = []
    hook = model.transformer["ln_f"].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        model(torch.from_numpy(tokens)[None])
    hook.remove()
    return seen[0][0].numpy()


@pytest.mark.parametrize("context", [5, 30])
@pytest.mark.parametrize("variant", VARIANTS)
def test_embeddings_are_the_states_that_the_head_reads_in_pytorch(
    small_spec: ModelSpec, export_to: Export, variant: str, context: int
) -> None:
    model = random_model(dataclasses.replace(small_spec, **VARIANTS[variant]))
    forecaster = Forecaster.load(export_to(model, f"embedded_{variant}"), threads=1)
    values, num = series(70), model.spec.num_covariates
    known = np.random.default_rng(0).standard_normal((71, num)) if num else None
    found = forecaster.embed(
        values, start=START, freq=FREQ, covariates=known, context_length=context
    )
    prompt = encode(model.spec, values, TimeAxis.of(START, FREQ), context, covariates=known)
    assert found.dtype == np.float32
    assert found.shape == (context, model.spec.width)
    np.testing.assert_allclose(found, states(model, prompt.tokens), atol=1e-4)


@pytest.fixture(scope="module")
def random(small_spec: ModelSpec, export_to: Export) -> Forecaster:
    return Forecaster.load(export_to(random_model(small_spec), "embedded"), threads=1)


@pytest.mark.parametrize("piece", [1, 7])
def test_pieces_of_a_prompt_have_the_states_of_the_whole(
    random: Forecaster, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    whole = random.embed(series(70), context_length=30)
    monkeypatch.setattr("laglite.backends.onnxruntime_cpu.PIECE", piece)
    np.testing.assert_allclose(random.embed(series(70), context_length=30), whole, atol=1e-5)


def test_a_state_depends_on_the_values_before_it_alone(random: Forecaster) -> None:
    values = series(70)
    changed = values.copy()
    changed[-1] = changed[-2]  # moves the scale of the window, and the last token
    same = {"context_length": 16}
    short = random.embed(values[:12], **same)
    assert short.shape == (12, random.spec.width)
    assert np.abs(random.embed(values, **same) - random.embed(changed, **same)).max() > 0
    np.testing.assert_array_equal(random.embed(values, **same), random.embed(values, **same))


def test_8_bit_graphs_have_states_too(small_spec: ModelSpec, export_to: Export) -> None:
    path = export_to(random_model(small_spec), "embedded")
    exact = Forecaster.load(path, threads=1).embed(series(70))
    rough = Forecaster.load(path, precision="int8", threads=1).embed(series(70))
    cosine = (exact * rough).sum() / np.linalg.norm(exact) / np.linalg.norm(rough)
    assert 0.98 < cosine < 1


def test_a_timed_backend_embeds_alike(random: Forecaster) -> None:
    timed = Forecaster(random.bundle, TimedBackend(random.backend), 1)
    np.testing.assert_array_equal(timed.embed(series(70)), random.embed(series(70)))


def test_a_bundle_without_states_is_refused_by_name(random: Forecaster, tmp_path: Path) -> None:
    bundle = open_bundle(random.bundle.path)
    fp32 = bundle.precision("fp32")
    shutil.copytree(fp32.prefill.parent, tmp_path / "fp32")
    old = tmp_path / "fp32" / "prefill.onnx"
    graph = onnx.load(old, load_external_data=False)
    (place,) = [n for n, output in enumerate(graph.graph.output) if output.name == "hidden"]
    del graph.graph.output[place]
    onnx.save(graph, old)
    older = dataclasses.replace(bundle, precisions={"fp32": dataclasses.replace(fp32, prefill=old)})
    forecaster = Forecaster(older, open_backend("cpu", older, "fp32", 1), 1)
    np.testing.assert_array_equal(
        forecaster.predict(series(70), horizon=2, seed=1).samples,
        random.predict(series(70), horizon=2, seed=1).samples,
    )
    with pytest.raises(BackendError, match=r"prefill.onnx: .*no output 'hidden'.*export the model"):
        forecaster.embed(series(70))


def test_wrong_arguments_are_refused_as_in_a_forecast(
    random: Forecaster, small_spec: ModelSpec, export_to: Export
) -> None:
    with pytest.raises(InputError, match="all 3 values are missing"):
        random.embed([np.nan] * 3)
    with pytest.raises(InputError, match="trained without any"):
        random.embed(series(30), covariates=np.zeros((31, 1)))
    with pytest.raises(InputError, match="context_length must be a whole number"):
        random.embed(series(30), context_length=0)
    with pytest.raises(InputError, match="context 200 and horizon 1 need 200 positions"):
        random.embed(series(30), context_length=200)
    known = random_model(dataclasses.replace(small_spec, **VARIANTS["covariates"]))
    with_covariates = Forecaster.load(export_to(known, "embedded_covariates"), threads=1)
    with pytest.raises(InputError, match=r"expected numbers of shape \[31, 2\]"):
        with_covariates.embed(series(30), covariates=np.zeros((30, 2)))
    with pytest.warns(LagliteWarning, match="2 covariates; without them"):
        with_covariates.embed(series(30))
