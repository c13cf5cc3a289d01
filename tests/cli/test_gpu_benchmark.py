"""The GPU benchmark as a command: what runs here is measured, the rest is listed with a reason."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from laglite import Forecaster
from laglite.benchmarking.workload import FREQ, START
from laglite.spec import ModelSpec
from laglite_train.checkpoint import load_checkpoint
from tests.conftest import GOLDEN

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def command() -> click.Command:
    main: click.Command = importlib.import_module("gpu").main
    return main


def run(command: click.Command, output: Path, bundle: Path, *arguments: str) -> dict[str, Any]:
    given = ["--model", str(bundle), "--paths", "4", "--context", "8", "--repeats", "2"]
    result = CliRunner().invoke(command, [*given, *arguments, "--output", str(output)])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def test_every_method_is_measured_at_every_size_or_listed_with_a_reason(
    command: click.Command, tmp_path: Path, tiny_bundle: Path
) -> None:
    output = tmp_path / "gpu.json"
    sizes = ["--series", "1,3", "--horizon", "2,5"]
    chosen = ["--only", "cpu", "--only", "tensorrt fp32", "--only", "eager fp32"]
    found = run(command, output, tiny_bundle, *sizes, *chosen, "--torch-device", "cpu")
    rows = {(row["method"], row["series"], row["horizon"]): row for row in found["rows"]}
    for size in ((1, 2), (1, 5), (3, 2), (3, 5)):
        row, int8 = (rows[f"laglite cpu {name}", size[0], size[1]] for name in ("fp32", "int8"))
        assert 0 < row["p50"] <= row["p99"]
        assert row["calls"] in (1, 2)
        assert row["series_a_second"] == pytest.approx(1e3 * size[0] / row["p50"])
        assert min(row["floor"].values()) > 0
        assert int8["floor"] is None  # torch is not asked for its rate
    reasons = {row["method"]: row["absent"] for row in found["absent"]}
    assert "release configuration" in reasons["PyTorch eager fp32"]
    measured = {method for method, *_ in rows}
    for method in ("laglite tensorrt fp32", "laglite onnxruntime-tensorrt fp32"):
        assert method in measured or len(reasons[method]) > 10
    table = output.with_suffix(".md").read_text()
    assert "## 5 steps" in table
    assert "| laglite cpu fp32 | 3 |" in table
    assert "laglite tensorrt fp32" in table
    assert output.with_suffix(".png").stat().st_size > 1000


def test_the_peer_forecasts_the_release_configuration_on_any_device() -> None:
    worker, release = (importlib.import_module(name) for name in ("gpu_worker", "release_model"))
    method = worker.Method("PyTorch eager fp32", "pytorch")
    task = worker.Task(method, "", [(2, 3)], 4, 8, 1, 600.0, "cpu", True, "")
    (row,) = worker.rows(task, release.release_model().spec)
    assert (row["series"], row["horizon"], row["calls"]) == (2, 3, 1)
    assert row["p50"] > 0


def test_a_size_that_fails_or_would_take_too_long_is_listed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, small_spec: ModelSpec
) -> None:
    worker = importlib.import_module("gpu_worker")

    def call(values: np.ndarray, horizon: int) -> None:
        if len(values) == 2:
            raise RuntimeError("CUDA out of memory")
        time.sleep(0.01)

    monkeypatch.setitem(worker.KINDS, "laglite", lambda task: call)
    sizes = [(1, 1), (2, 1), (3, 1), (100_000, 1)]
    task = worker.Task(worker.Method("m", "laglite"), "", sizes, 4, 8, 2, 60.0, "cpu", True, "")
    first, failed, third, late = worker.rows(task, small_spec)
    assert failed["absent"] == "RuntimeError: CUDA out of memory"
    assert late["absent"].startswith("may need")
    assert min(first["calls"], third["calls"]) >= 1


def test_without_time_every_method_is_listed(
    command: click.Command, tmp_path: Path, tiny_bundle: Path
) -> None:
    found = run(command, tmp_path / "gpu.json", tiny_bundle, "--budget", "0", "--only", "laglite")
    assert not found["rows"]
    assert {row["absent"] for row in found["absent"]} == {"the budget of 0 s is used up"}
    assert {"laglite cpu fp32", "laglite cuda fp16"} <= {row["method"] for row in found["absent"]}


def test_a_method_whose_process_dies_is_listed_and_the_others_go_on(
    command: click.Command, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    row = {"series": 1, "horizon": 2, "p50": 1.0, "p99": 1.0, "calls": 1, "series_a_second": 1.0}
    worker.write_text(
        f"import sys\nprint('a library speaks')\nprint('{json.dumps(row)}', flush=True)\n"
        "sys.exit('CUDA error: the device is lost' if 'int8' in sys.argv[1] else 0)\n"
    )
    monkeypatch.setattr(importlib.import_module("gpu"), "WORKER", worker)
    found = run(command, tmp_path / "gpu.json", tiny_bundle, "--only", "cpu int8", "--only", "cuda")
    (lost,) = found["absent"]
    assert lost["method"] == "laglite cpu int8"
    assert "ended with 1: CUDA error: the device is lost" in lost["absent"]
    assert len([row for row in found["rows"] if "cuda" in row["method"]]) == 4


def test_an_unknown_method_is_wrong_usage(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["--only", "abacus", "--model", "nano"])
    assert result.exit_code == 2
    assert "no method holds abacus" in result.stderr


def test_the_peer_computes_laglites_distributions_for_several_series(tiny_bundle: Path) -> None:
    peers = importlib.import_module("pytorch_peer")
    random = np.random.default_rng(0)
    values, future = random.normal(5, 2, (2, 60)), random.normal(5, 2, (2, 4))
    context, horizon, paths = 12, 4, 3
    steps: list[dict[str, torch.Tensor]] = []

    class Fed(peers.Peer):  # type: ignore[misc]
        """Every path of a series goes along its future."""

        def draw(self, arguments: dict[str, torch.Tensor]) -> None:
            steps.append(arguments)
            at = len(steps) - 1
            scaled = [w.to_scaled(f[[at]]) for w, f in zip(self.windows, future, strict=True)]
            drawn = torch.from_numpy(np.concatenate(scaled)).repeat_interleave(paths)
            self.history = torch.cat([self.history, drawn[:, None]], dim=1)

    model = load_checkpoint(GOLDEN / "lag_llama_tiny.ckpt").model.eval()
    forecaster = Forecaster.load(tiny_bundle, threads=1)
    for decode in (peers.recomputed, peers.cached, peers.shared_prompt):
        steps.clear()
        Fed(model, values, context, horizon, paths).forecast(decode)
        for row in range(2):
            score = forecaster.score(
                values[row], future[row], start=START, freq=FREQ, context_length=context
            )
            for name, expected in score.params.items():
                found = [each[name].view(2, -1)[row].numpy() for each in steps]
                for one, wanted in zip(found, expected, strict=True):
                    np.testing.assert_allclose(one, wanted, atol=1e-4)


def test_the_bytes_of_the_floor_are_those_of_a_count(small_spec: ModelSpec) -> None:
    device_floor = importlib.import_module("device_floor")
    work = device_floor.Work(series=3, paths=5, context=7, horizon=4)
    count = 0
    for step in range(1, work.horizon):
        count += small_spec.num_parameters
        for _ in range(small_spec.num_layers):
            for _ in range(work.series):
                count += 2 * work.context * small_spec.width
                count += work.paths * 2 * step * small_spec.width
    assert device_floor.bytes_read(small_spec, work, 2) == 2 * count


def test_the_floor_is_work_over_rates(small_spec: ModelSpec) -> None:
    device_floor = importlib.import_module("device_floor")
    work = device_floor.Work(series=2, paths=5, context=7, horizon=4)
    rates = device_floor.Rates("one", {"fp32": 1e9}, 1e9, 1e-6)
    slower = device_floor.Rates("half", {"fp32": 5e8}, 5e8, 2e-6)
    found = device_floor.floor(small_spec, work, "fp32", rates)
    assert found["launches"] == pytest.approx(1e3 * 3 * (5 * small_spec.num_layers + 2) * 1e-6)
    assert found["memory"] == pytest.approx(device_floor.bytes_read(small_spec, work, 4) / 1e6)
    twice = device_floor.floor(small_spec, work, "fp32", slower)
    assert {name: twice[name] / found[name] for name in found} == pytest.approx(
        dict.fromkeys(found, 2.0)
    )
