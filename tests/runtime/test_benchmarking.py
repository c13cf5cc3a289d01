"""Benchmarking: counts against torch's, clocks that change nothing, reports that hold all of it."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import itertools
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from laglite import Forecaster, LagliteError
from laglite.benchmarking import Workload, measure_apart, process
from laglite.benchmarking.environment import environment
from laglite.benchmarking.floor import (
    PASSES,
    MatrixRate,
    attention_flops,
    forecast_flops,
    linear_shapes,
    token_flops,
)
from laglite.benchmarking.operators import profile
from laglite.benchmarking.report import HEADINGS, to_json, to_markdown
from laglite.benchmarking.stages import TimedBackend
from laglite.benchmarking.workload import grid, series
from laglite.bundle import open_bundle
from laglite.errors import InputError
from laglite.spec import ModelSpec
from laglite_train.model import LagLlama
from tests.cpu_device import on_device


@pytest.fixture(scope="module")
def small(tiny_bundle: Path) -> Workload:
    return Workload(str(tiny_bundle), threads=2, horizon=4, paths=6, repeats=4, warmup=1)


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("towers", [(), ((1, 6), (1, 10))])
def test_a_tokens_operations_are_what_torch_counts(
    small_spec: ModelSpec, regression: bool, towers: tuple[tuple[int, int], ...]
) -> None:
    spec = dataclasses.replace(
        small_spec, residual=regression, regression=regression, towers=towers
    )
    model, tokens = LagLlama(spec), torch.zeros(1, 10, spec.num_features)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens)
    kinds = {str(kind): count for kind, count in counter.get_flop_counts()["Global"].items()}
    # torch counts the whole square of scores, of which the causal half is needed.
    square = sum(count for kind, count in kinds.items() if "bmm" in kind)
    assert 10 * attention_flops(spec, 10) == square
    assert 10 * token_flops(spec) == sum(kinds.values()) - square


def test_a_forecast_is_its_prompt_and_a_token_a_path_for_all_steps_but_the_last(
    small_spec: ModelSpec,
) -> None:
    one, token = attention_flops(small_spec, 1), token_flops(small_spec)
    assert forecast_flops(small_spec, 3, 1, 50) == 3 * token + (1 + 2 + 3) * one
    longer = forecast_flops(small_spec, 3, 3, 50) - forecast_flops(small_spec, 3, 1, 50)
    assert longer == 50 * (2 * token + (4 + 5) * one)


@pytest.mark.parametrize(("rows", "threads"), [(7, 1), (7, 3), (2, 4)])
def test_the_rate_is_of_all_rows_split_over_the_threads(
    small_spec: ModelSpec, rows: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    multiply = np.matmul
    monkeypatch.setattr(
        np, "matmul", lambda a, b: shapes.append((len(a), *b.shape)) or multiply(a, b)
    )
    rate = MatrixRate(small_spec, rows, threads)
    assert rate.measure() > 0
    rate.close()
    passes = 2 * PASSES  # half of them before the clock starts
    assert len(shapes) == passes * min(rows, threads) * len(linear_shapes(small_spec))
    done = sum(2.0 * count * inputs * outputs for count, inputs, outputs in shapes)
    assert done == passes * rows * token_flops(small_spec)


def test_the_series_is_as_long_as_a_model_looks_back_and_always_the_same() -> None:
    assert len(series(5)) == 1000
    assert len(series(3000)) == 3001
    np.testing.assert_array_equal(series(3000)[:1000], series(5))
    assert np.isfinite(series(5)).all()


def test_a_grid_holds_every_combination() -> None:
    found = grid(Workload(repeats=9), precision=["fp32", "int8"], paths=[10, 20, 30])
    assert [(one.precision, one.paths) for one in found] == [
        *itertools.product(["fp32", "int8"], [10, 20, 30])
    ]
    assert {one.repeats for one in found} == {9}


def test_keeping_time_changes_no_sample(tiny_bundle: Path) -> None:
    forecaster = Forecaster.load(tiny_bundle, threads=2)
    options = {"horizon": 5, "seed": 1, "num_samples": 80, "start": "2024-01-01", "freq": "h"}
    plain = forecaster.predict(series(1200), **options)
    timed = TimedBackend(forecaster.backend)
    forecaster.backend = timed
    np.testing.assert_array_equal(
        forecaster.predict(series(1200), **options).samples, plain.samples
    )
    first = timed.prefill_seconds, timed.steps_seconds
    assert min(first) > 0
    forecaster.predict(series(1200), **options)
    assert timed.prefill_seconds > first[0]
    timed.restart()
    assert (timed.prefill_seconds, timed.steps_seconds) == (0, 0)


def test_timing_keeps_no_decoder_and_so_no_cache(tiny_bundle: Path) -> None:
    """Else a bench's memory would grow with every call."""
    forecaster = Forecaster.load(tiny_bundle, threads=1)
    kept: list[weakref.ref[object]] = []
    plain = forecaster.backend.decoder

    def decoder(*given: Any) -> Any:
        made = plain(*given)
        kept.append(weakref.ref(made))
        return made

    forecaster.backend.decoder = decoder  # type: ignore[method-assign]
    forecaster.backend = TimedBackend(forecaster.backend)
    forecaster.predict(series(1200), horizon=3, num_samples=4)
    gc.collect()
    assert [each() for each in kept] == [None]
    assert forecaster.backend.steps_seconds > 0


def test_time_on_a_device_is_kept_by_graph(tiny_bundle: Path) -> None:
    options = {"horizon": 5, "seed": 1, "num_samples": 8, "start": "2024-01-01", "freq": "h"}
    plain, double = on_device(open_bundle(tiny_bundle))
    timed = TimedBackend(plain.backend)
    forecaster = Forecaster(plain.bundle, timed, 1)
    np.testing.assert_array_equal(
        forecaster.predict(series(1200), **options).samples,
        plain.predict(series(1200), **options).samples,
    )
    assert double.launches("device_step") == [4, 4]
    assert min(timed.prefill_seconds, timed.steps_seconds) > 0
    timed.restart()
    assert (timed.prefill_seconds, timed.steps_seconds) == (0, 0)
    forecaster.predict(series(1200), **options | {"horizon": 1})
    assert timed.prefill_seconds > 0
    assert timed.steps_seconds == 0


def test_a_workload_is_measured_in_a_process_of_its_own(small: Workload) -> None:
    found = measure_apart(small)
    assert found.backend == "cpu"
    levels = [found.latency[f"p{level}"] for level in (50, 90, 95, 99)]
    assert levels == sorted(levels)
    assert levels[0] > 0
    assert found.steps_per_second == pytest.approx(4 / (levels[0] / 1e3))
    spec = Forecaster.load(small.model).spec
    assert found.context == spec.context_length
    assert found.gflop == pytest.approx(forecast_flops(spec, found.context, 4, 6) / 1e9)
    assert found.floor > 0
    assert found.ratio > 0
    assert sum(found.stages.values()) >= levels[0] * (1 - 1e-9)
    assert list(found.stages) == ["features", "prefill", "steps", "rest"]
    parts = found.import_time, found.load, found.first_call
    assert min(parts) > 0
    assert found.until_first > sum(parts)
    if sys.platform == "linux":
        assert found.resident_first is not None
        assert 20 < found.resident_first <= found.resident_peak < 2000


def test_what_goes_wrong_in_the_other_process_is_said_here(small: Workload) -> None:
    with pytest.raises(LagliteError, match="no-such-model: neither a model directory"):
        measure_apart(dataclasses.replace(small, model="no-such-model"))
    with pytest.raises(LagliteError, match="no precision 'fp99'; this bundle has fp32"):
        measure_apart(dataclasses.replace(small, precision="fp99"))


def test_a_process_that_dies_is_named(small: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "CHILD", "raise MemoryError('no room')")
    with pytest.raises(LagliteError, match="ended early: MemoryError: no room"):
        measure_apart(small)
    monkeypatch.setattr(process, "CHILD", "raise SystemExit(3)")
    with pytest.raises(LagliteError, match="ended early: exit status 3"):
        measure_apart(small)


def test_modules_in_the_current_folder_and_what_libraries_print_are_no_part_of_it(
    small: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "statistics.py").write_text("raise SystemExit('not mine')\n")
    monkeypatch.chdir(tmp_path)
    first = "import statistics; print('a library speaks')\n"
    head, _, rest = process.CHILD.partition("begin =")
    monkeypatch.setattr(process, "CHILD", f"{head}{first}begin ={rest}")
    assert measure_apart(small).backend == "cpu"


def test_operators_of_both_graphs_come_from_the_traces(small: Workload, tmp_path: Path) -> None:
    operators, traces = profile(small, tmp_path, runs=2)
    assert sum(operator.share for operator in operators) == pytest.approx(1)
    assert [o.milliseconds for o in operators] == sorted(
        (o.milliseconds for o in operators), reverse=True
    )
    products = {o.graph: o.calls for o in operators if o.name == "MatMul"}
    assert products.keys() == {"prefill", "step"}
    assert products["step"] % 3 == 0, "as many in each of the 3 steps"
    assert {path.parent for path in traces} == {tmp_path}
    assert all(isinstance(json.loads(path.read_text()), list) for path in traces)


def test_only_the_cpu_backend_has_traces(small: Workload, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="backend 'cuda' has no traces"):
        profile(dataclasses.replace(small, backend="cuda"), tmp_path)


def test_reports_hold_every_workload_its_stages_and_the_environment(
    small: Workload, tmp_path: Path
) -> None:
    other = dataclasses.replace(small, paths=3)
    results = [(one, measure_apart(one)) for one in (small, other)]
    operators, _ = profile(small, tmp_path, runs=1)
    machine = environment(small.model)
    content = json.loads(json.dumps(to_json(machine, results, operators)))
    assert content["environment"] == machine
    assert [row["workload"]["paths"] for row in content["results"]] == [6, 3]
    assert content["results"][1]["latency"] == results[1][1].latency
    assert len(content["operators"]) == len(operators)
    text = to_markdown(machine, results, operators)
    lines = text.splitlines()
    assert f"| {' | '.join(HEADINGS)} |" in lines
    assert sum(line.startswith("| fp32 | 2 |") for line in lines) == 4
    assert f"- manifest_sha256: {machine['manifest_sha256']}" in lines
    assert f"| {operators[0].graph} | {operators[0].name} |" in text


def test_the_environment_names_the_processor_and_the_very_bundle(tiny_bundle: Path) -> None:
    found = environment(str(tiny_bundle))
    content = (tiny_bundle / "manifest.json").read_bytes()
    assert found["manifest_sha256"] == hashlib.sha256(content).hexdigest()
    assert str(found["processor"])
    assert "onnxruntime" in str(found["onnxruntime"])
