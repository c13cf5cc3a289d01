"""The GPU benchmark as a command: what runs here is measured, the rest is listed with a reason."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from laglite import Forecaster, LagliteError
from laglite.backends import availability
from laglite.benchmarking.workload import FREQ, START
from laglite.bundle import open_bundle
from laglite.spec import ModelSpec
from laglite_train.checkpoint import load_checkpoint
from tests.conftest import GOLDEN
from tests.cpu_device import on_device

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
        assert row["calls"] in (0, 1, 2)
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
    for steps in (2, 5):
        most = max(
            row["series_a_second"]
            for key, row in rows.items()
            if key[::2] == ("laglite cpu fp32", steps)
        )
        int8 = rows["laglite cpu int8", 3, steps]
        assert f"| {int8['series_a_second'] / most:,.1f} |  |  |" in table
    assert "laglite tensorrt fp32" in table
    assert output.with_suffix(".png").stat().st_size > 1000


def test_the_peer_forecasts_the_release_configuration_on_any_device() -> None:
    worker, release = (importlib.import_module(name) for name in ("gpu_worker", "release_model"))
    method = worker.Method("PyTorch eager fp32", "pytorch")
    task = worker.Task(method, "", [(2, 3)], 4, 8, 1, 600.0, "cpu", True, "")
    (row,) = worker.rows(task, release.release_model().spec)
    assert (row["series"], row["horizon"], row["calls"], row["stages"]) == (2, 3, 1, {})
    assert row["p50"] > 0


def test_a_size_that_fails_or_would_take_too_long_is_listed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, small_spec: ModelSpec
) -> None:
    worker = importlib.import_module("gpu_worker")

    def call(values: np.ndarray, horizon: int) -> dict[str, float]:
        if len(values) == 2:
            raise RuntimeError("CUDA out of memory")
        time.sleep(0.01)
        return {}

    monkeypatch.setitem(worker.KINDS, "laglite", lambda task: call)
    sizes = [(1, 1), (2, 1), (3, 1), (100_000, 1)]
    task = worker.Task(worker.Method("m", "laglite"), "", sizes, 4, 8, 2, 60.0, "cpu", True, "")
    first, failed, third, late = worker.rows(task, small_spec)
    assert failed["absent"] == "RuntimeError: CUDA out of memory"
    assert late["absent"].startswith("may need")
    assert min(first["calls"], third["calls"]) >= 1


def test_without_time_every_method_is_listed(
    command: click.Command, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("gpu"), "cannot_run", dict)
    found = run(command, tmp_path / "gpu.json", tiny_bundle, "--budget", "0", "--only", "laglite")
    assert not found["rows"]
    assert {row["absent"] for row in found["absent"]} == {"the budget of 0 s is used up"}
    assert {"laglite cpu fp32", "laglite cuda fp16"} <= {row["method"] for row in found["absent"]}


def test_time_is_shared_by_the_methods_that_can_run(
    command: click.Command, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = importlib.import_module("gpu")
    shares: dict[str, float] = {}

    def measure(task: Any) -> list[dict[str, Any]]:
        shares[task.method.name] = task.seconds
        return []

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "cannot_run", lambda: {"tensorrt": "not installed; install it"})
    chosen = ["--only", "cuda fp32", "--only", "tensorrt fp32", "--only", "eager"]
    found = run(command, tmp_path / "gpu.json", tiny_bundle, "--budget", "1000", *chosen)
    reasons = {row["method"]: row["absent"] for row in found["absent"]}
    assert reasons["laglite tensorrt fp32"] == "not installed; install it"
    methods = [one for one in gpu.METHODS if one.name in shares]
    assert {one.name for one in methods} == {
        "laglite cuda fp32",
        "laglite cuda fp32, independent",
        "laglite cuda fp32, no CUDA graph",
        "laglite onnxruntime-tensorrt fp32",
    }
    whole = 1 + sum(one.weight for one in methods)  # and the rates
    assert shares["rates"] == pytest.approx(1000 / whole, rel=0.1)
    assert shares["laglite cuda fp32"] > 3 * shares["rates"]


def test_what_cannot_run_is_what_info_says() -> None:
    found = importlib.import_module("gpu").cannot_run()
    said = {each.backend: each for each in availability()}
    assert "cpu" not in found
    assert set(found) == {name for name, each in said.items() if not each.available}
    for name, reason in found.items():
        assert reason == f"{said[name].problem}; {said[name].remedy}"


def test_a_first_call_counts_only_where_there_is_no_time_for_another() -> None:
    worker = importlib.import_module("gpu_worker")

    def call() -> dict[str, float]:
        time.sleep(0.05)
        return {"steps": 0.01}

    first, further = worker.timed(call, 3, 0.0, 0.08)
    assert first.seconds >= 0.05
    assert first.stages == {"steps": 0.01}
    assert not further
    _, further = worker.timed(call, 3, 0.0, 60.0)
    assert len(further) == 1
    _, further = worker.timed(call, 3, 60.0, 60.0)
    assert len(further) == 3


def test_a_first_call_that_mostly_sets_up_is_not_a_time(
    monkeypatch: pytest.MonkeyPatch, small_spec: ModelSpec
) -> None:
    worker = importlib.import_module("gpu_worker")
    took = {1: 0.01, 4: 0.03, 5: 2.5}  # of the first call with so many series
    seen: list[int] = []

    def call(values: np.ndarray, horizon: int) -> dict[str, float]:
        time.sleep(0.01 if len(values) in seen else took[len(values)])
        seen.append(len(values))
        return {}

    monkeypatch.setitem(worker.KINDS, "laglite", lambda task: call)
    sizes = [(1, 1), (4, 1), (5, 1)]
    task = worker.Task(worker.Method("m", "laglite"), "", sizes, 4, 8, 1, 2.0, "cpu", True, "")
    first, second, third = worker.rows(task, small_spec)
    assert min(first["calls"], second["calls"]) == 1
    assert third["absent"].startswith("its first call took ")
    task = dataclasses.replace(task, seconds=0.001, sizes=[(1, 1)])
    seen.clear()
    (row,) = worker.rows(task, small_spec)
    assert row["calls"] == 1  # the first size of all is never its first call


def test_the_stages_of_a_device_are_within_the_call(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, gpu = (importlib.import_module(name) for name in ("gpu_worker", "gpu"))
    forecaster, device = on_device(open_bundle(tiny_bundle))
    monkeypatch.setattr(worker, "open_forecaster", lambda *_: forecaster)
    method = worker.Method("laglite cuda fp32", "laglite", "cuda")
    task = worker.Task(method, "", [(2, 5)], 4, 8, 2, 600.0, "cpu", True, "")
    (row,) = worker.rows(task, forecaster.spec)
    assert device.programs
    assert set(row["stages"]) == {"prefill", "steps"}
    assert min(row["stages"].values()) > 0
    assert sum(row["stages"].values()) < 1.5 * row["p50"]  # medians, each of its own
    about = dict.fromkeys(("gpu", "processor", "cores", "onnxruntime", "python", "model"), "one")
    report = gpu.Report(Path(), about | {"refine": True, "context": 8, "paths": 4}, forecaster.spec)
    report.rows = [{"method": method.name, "floor": None, **row}]
    prefill = row["stages"]["prefill"]
    assert f"| laglite cuda fp32 | 2 | 5 | {prefill:,.2f} |" in report.markdown()


def test_cuda_without_its_graphs_is_not_shown_as_cuda_with_them(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = importlib.import_module("gpu_worker")
    forecaster, _ = on_device(open_bundle(tiny_bundle))
    device: Any = forecaster.backend.device
    monkeypatch.setattr(worker.Forecaster, "load", lambda *_, **__: forecaster)
    task = worker.Task(
        worker.Method("m", "laglite", "cuda"), "", [(1, 2)], 4, 8, 1, 60.0, "cpu", True, ""
    )
    device.captures = True
    assert worker.open_forecaster(task, 1, 2, 60.0) is forecaster
    device.captures = False
    with pytest.raises(LagliteError, match="without CUDA graphs here"):
        worker.open_forecaster(task, 1, 2, 60.0)


def test_engines_that_take_too_long_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = importlib.import_module("gpu_worker")
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    monkeypatch.setenv("LAGLITE_ENGINES", "")
    method = worker.Method("m", "laglite", "tensorrt")
    task = worker.Task(method, "base", [(1, 2)], 4, 8, 1, 60.0, "cpu", True, str(tmp_path))
    with pytest.raises(LagliteError, match="takes more than 1 s"):
        worker.open_forecaster(task, 1, 2, 0.5)


ROW = {"series": 1, "horizon": 2, "p50": 1.0, "p99": 1.0, "calls": 1, "series_a_second": 1.0}


def test_a_method_whose_process_dies_is_listed_and_the_others_go_on(
    command: click.Command, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, gpu = tmp_path / "worker.py", importlib.import_module("gpu")
    line = json.dumps(ROW | {"stages": {}})
    worker.write_text(
        f"import sys\nprint('a library speaks')\nprint('{line}', flush=True)\n"
        "sys.exit('CUDA error: the device is lost' if 'int8' in sys.argv[1] else 0)\n"
    )
    monkeypatch.setattr(gpu, "WORKER", worker)
    monkeypatch.setattr(gpu, "cannot_run", dict)
    found = run(command, tmp_path / "gpu.json", tiny_bundle, "--only", "cpu int8", "--only", "cuda")
    (lost,) = found["absent"]
    assert lost["method"] == "laglite cpu int8"
    assert "ended with 1: CUDA error: the device is lost" in lost["absent"]
    assert len([row for row in found["rows"] if "cuda" in row["method"]]) == 6


def test_a_method_that_takes_too_long_is_stopped_and_what_it_measured_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, gpu = tmp_path / "worker.py", importlib.import_module("gpu")
    worker.write_text(f"import time\nprint('{json.dumps(ROW)}', flush=True)\ntime.sleep(600)\n")
    monkeypatch.setattr(gpu, "WORKER", worker)
    monkeypatch.setattr(gpu, "GRACE", 1.0)
    method = gpu.Method("m", "laglite")
    row, late = gpu.measure(gpu.Task(method, "", [(1, 2)], 4, 8, 2, 1.0, "cpu", True, ""))
    assert row == ROW
    assert late == {"absent": "stopped after 2 s, 1 s late"}


def test_without_matplotlib_there_is_no_plot_and_all_else(
    command: click.Command, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    output = tmp_path / "new" / "gpu.json"
    sizes = ["--series", "1", "--horizon", "2", "--only", "cpu fp32"]
    found = run(command, output, tiny_bundle, *sizes, "--torch-device", "cpu")
    assert len(found["rows"]) == 1
    assert output.with_suffix(".md").exists()
    assert not output.with_suffix(".png").exists()


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


@pytest.mark.parametrize("half", [False, True])
def test_the_peer_keeps_its_cache_in_the_precision_of_its_network(
    half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = importlib.import_module("pytorch_peer")
    model = load_checkpoint(GOLDEN / "lag_llama_tiny.ckpt").model.eval()
    found: set[torch.dtype] = set()
    inner = peers._block

    def block(*arguments: Any) -> Any:
        x, cache = inner(*arguments)
        found.update(part.dtype for part in (*arguments[-1], *cache))
        return x, cache

    monkeypatch.setattr(peers, "_block", block)
    peer = peers.Peer(model, np.random.default_rng(0).normal(5, 2, (2, 60)), 12, 4, 3)
    with torch.autocast("cpu", torch.float16, enabled=half):
        peer.forecast(peers.shared_prompt)
    assert found == {torch.float16 if half else torch.float32}


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
