"""Backends of a GPU, where there is one: golden numbers, agreement with the CPU, nothing astray.

Skipped with the backend's own reason where it cannot run. With LAGLITE_GPU=cuda,tensorrt in the
environment those backends must run: then a reason is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from laglite import Forecaster, LagliteError
from laglite.backends import availability
from laglite.cli import main
from laglite.device_decoding import MOST_SERIES
from laglite.forecaster import available_cores
from laglite.verification import verify
from tests.conftest import Golden

BACKENDS = ("cuda", "onnxruntime-tensorrt", "tensorrt")
REQUIRED = os.environ.get("LAGLITE_GPU", "").split(",")
TIMES: dict[str, Any] = {"start": "2024-01-01", "freq": "h"}
# Of an engine that serves every test here: the longest prompt, the most paths, steps and series.
CAPACITY = ["--context", "256", "--paths", "64", "--horizon", "64", "--series", "4"]
# Of quantiles and samples, in spreads of the CPU's fp32: both round, and draws are far from linear.
CLOSE = {"fp32": 1e-3, "fp16": 0.1}

pytestmark = pytest.mark.gpu
each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_precision = pytest.mark.parametrize("precision", ["fp32", "fp16"])


@pytest.fixture(scope="module", autouse=True)
def _engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines are made in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAGLITE_ENGINES", str(tmp_path_factory.mktemp("engines")))
        yield


def on_gpu(path: Path | str, backend: str, precision: str) -> Forecaster:
    """A forecaster on a GPU's backend; skips the test where there is none."""
    try:
        if backend == "tensorrt":
            make_engines(path, precision)
        return Forecaster.load(path, backend=backend, precision=precision)
    except LagliteError as error:
        if backend in REQUIRED:
            raise
        pytest.skip(str(error))


def make_engines(path: Path | str, precision: str) -> None:
    """Engines for every test here, unless they are there, or there is no GPU to run them."""
    (found,) = [each for each in availability() if each.backend == "tensorrt"]
    if not found.available:
        raise found.error()
    made = CliRunner().invoke(main, ["compile", str(path), "--precision", precision, *CAPACITY])
    if made.exit_code:
        raise LagliteError(made.output.strip().rpartition("\n")[2])


def ragged() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [20 + random.normal(size=length).cumsum() for length in (900, 40, 7)]


def samples(forecaster: Forecaster, *, refine: bool = True) -> np.ndarray:
    """[series, paths, horizon] of ragged series."""
    options: dict[str, Any] = {"num_samples": 50, "context_length": 64, "seed": 5, **TIMES}
    found = forecaster.predict_batch(ragged(), horizon=24, refine=refine, **options)
    return np.stack([one.samples for one in found])


@each_backend
@each_precision
@pytest.mark.parametrize("row", [0, 1, 2])
def test_scores_equal_the_published_numbers(
    golden: Golden, golden_bundle: Path, backend: str, precision: str, row: int
) -> None:
    forecaster = on_gpu(golden_bundle, backend, precision)
    tolerance = 1e-4 if precision == "fp32" else forecaster.bundle.precision(precision).tolerance
    score = forecaster.score(
        golden.series(row),
        golden.arrays["future_target"][row],
        start=golden.config["starts"][row],
        freq=golden.config["freq"],
        context_length=golden.context,
    )
    ahead = slice(golden.context - 1, None)
    for name, values in score.params.items():
        expected = golden.arrays[f"param_{name}"][row, ahead]
        np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance)


def passes(forecaster: Forecaster, precision: str) -> None:
    """Of test vectors, also through the device where paths are drawn there."""
    tolerance = forecaster.bundle.precision(precision).tolerance
    results = verify(forecaster.bundle, forecaster.backend)
    assert max(result.largest for result in results) <= tolerance
    drawn = [result.device for result in results if result.device is not None]
    assert bool(drawn) == (forecaster.backend.device is not None)


@each_backend
@each_precision
@pytest.mark.parametrize("model", ["base", "nano"])
def test_the_shipped_models_pass_their_test_vectors(
    model: str, backend: str, precision: str
) -> None:
    passes(on_gpu(model, backend, precision), precision)


@each_backend
@each_precision
def test_the_published_model_passes_its_test_vectors(
    golden_bundle: Path, backend: str, precision: str
) -> None:
    passes(on_gpu(golden_bundle, backend, precision), precision)


@each_backend
@each_precision
def test_a_seed_gives_the_quantiles_that_it_gives_on_the_cpu(backend: str, precision: str) -> None:
    expected = samples(Forecaster.load("base", backend="cpu"))
    found = samples(on_gpu("base", backend, precision))
    spread = expected.std(axis=1)
    for level in (0.1, 0.5, 0.9):
        ours, theirs = (np.quantile(each, level, axis=1) for each in (found, expected))
        assert (np.abs(ours - theirs) / spread).mean() < CLOSE[precision]


@each_backend
def test_a_seed_gives_the_paths_that_it_gives_on_the_cpu(backend: str) -> None:
    expected = samples(Forecaster.load("base", backend="cpu"), refine=False)
    found = samples(on_gpu("base", backend, "fp32"), refine=False)
    apart = np.abs(found - expected) / expected.std(axis=1, keepdims=True)
    assert np.quantile(apart, 0.99) < CLOSE["fp32"]


@each_backend
@each_precision
def test_a_seed_gives_the_same_samples_again(backend: str, precision: str) -> None:
    forecaster = on_gpu("base", backend, precision)
    np.testing.assert_array_equal(samples(forecaster), samples(forecaster))


@each_precision
def test_paths_are_drawn_on_the_gpu(precision: str) -> None:
    assert on_gpu("base", "cuda", precision).backend.device is not None


@each_precision
def test_steps_are_one_cuda_graph(precision: str) -> None:
    device: Any = on_gpu("base", "cuda", precision).backend.device
    import onnxruntime

    from laglite.backends.onnxruntime_device import GRAPHS_FROM

    old = tuple(map(int, onnxruntime.__version__.split(".")[:2])) < GRAPHS_FROM
    if old and "cuda" not in REQUIRED:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} does not launch CUDA graphs rightly")
    assert device.captures


@each_precision
def test_more_series_than_go_in_one_launch_get_what_each_gets_on_the_cpu(precision: str) -> None:
    random = np.random.default_rng(4)
    series = [*(50 + random.normal(size=(MOST_SERIES + 3, 40)).cumsum(axis=1))]
    options: dict[str, Any] = {"num_samples": 20, "context_length": 16, "seed": 5, **TIMES}

    def paths(backend: str, precision: str) -> np.ndarray:
        forecaster = on_gpu("nano", backend, precision)
        found = forecaster.predict_batch(series, horizon=3, refine=False, **options)
        return np.stack([one.samples for one in found])

    expected, found = paths("cpu", "fp32"), paths("cuda", precision)
    apart = np.abs(found - expected) / expected.std(axis=1, keepdims=True)
    assert np.quantile(apart, 0.95, axis=(1, 2)).max() < CLOSE[precision]


@each_precision
def test_without_cuda_graphs_the_samples_are_the_same(precision: str) -> None:
    captured = on_gpu("base", "cuda", precision)
    from laglite.backends.gpu_engines import CUDA
    from laglite.backends.onnxruntime_gpu import OnnxRuntimeGpu

    backend = OnnxRuntimeGpu(captured.bundle, precision, CUDA, capture=False)
    launched = Forecaster(captured.bundle, backend, available_cores())
    np.testing.assert_array_equal(samples(captured), samples(launched))


@each_precision
def test_no_node_of_a_forecast_runs_on_the_cpu(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecaster = on_gpu("base", "cuda", precision)
    import onnxruntime

    opened: list[Any] = []

    class Recorded(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            opened.append(self)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Recorded)
    samples(forecaster)
    on_device = [each for each in opened if each.get_providers()[0] == "CUDAExecutionProvider"]
    assert len(on_device) >= 2  # the prefill and the step, for these sizes
    for session in on_device:
        for part in session.get_provider_graph_assignment_info():
            names = sorted({node.op_type for node in part.get_nodes()})
            assert part.ep_name == "CUDAExecutionProvider", names
