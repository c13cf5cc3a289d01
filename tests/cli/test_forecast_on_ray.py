"""`--engine ray`: the bytes of the local engine, from workers that share nothing with it."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from click.testing import CliRunner, Result
from ray.cluster_utils import Cluster

from laglite import forecast_run, ray_engine, ray_worker
from laglite.bundle import open_bundle
from laglite.cli import forecast as command
from laglite.cli import main
from laglite.errors import LagliteError
from laglite.forecast_run import ForecastRun, LocalEngine
from laglite.forecaster import Forecaster
from laglite.reading import Columns, InputSeries

SERIES, PART, BATCH = 12, 5, 2
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A machine for two workers; machines added to it are processes here as well."""
    machines = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    yield machines
    machines.shutdown()


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """Series of several lengths in the series format."""
    random = np.random.default_rng(0)
    columns = {
        "item_id": [f"s{n}" for n in range(SERIES)],
        "start": ["2024-01-01"] * SERIES,
        "freq": ["D"] * SERIES,
        "target": [50 + random.standard_normal(20 + 7 * n).cumsum() for n in range(SERIES)],
    }
    path = tmp_path / "big.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def run(tiny_bundle: Path, big: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Forecast `big` in parts of five series, two to a batch."""
    monkeypatch.setattr(command, "SERIES_A_PART", PART)
    monkeypatch.setattr(forecast_run, "SERIES_A_BATCH", BATCH)

    def call(output: Path, *options: str, source: Path = big) -> Result:
        arguments = ["forecast", str(source), "--horizon", "3", "--samples", "4", "--seed", "5"]
        model = ["--output", str(output), "--model", str(tiny_bundle)]
        return CliRunner().invoke(main, [*arguments, *model, *options])

    return call


def on(cluster: Cluster) -> list[str]:
    return ["--engine", "ray", "--address", cluster.address]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_output_is_that_of_the_local_engine_byte_for_byte(
    run: Run, cluster: Cluster, tmp_path: Path, ending: str
) -> None:
    here, there = tmp_path / f"here{ending}", tmp_path / f"there{ending}"
    assert run(here).exit_code == 0
    result = run(there, *on(cluster))
    assert (result.exit_code, result.output) == (0, "")
    assert there.read_bytes() == here.read_bytes()
    assert not (tmp_path / f"there{ending}.parts").exists()


def test_a_ray_of_its_own_forecasts_a_table_and_draws_it_without_any_chatter(
    run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("y\n" + "\n".join(f"{value % 7}" for value in range(60)) + "\n")
    assert run(tmp_path / "here.csv", source=table).exit_code == 0
    chart = tmp_path / "chart.png"
    options = ["--horizon", "3", "--samples", "4", "--seed", "5", "--model", str(tiny_bundle)]
    drawn = ["--engine", "ray", "--plot", str(chart)]
    result = subprocess.run(
        [sys.executable, "-m", "laglite", "forecast", str(table), *options, *drawn],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == (tmp_path / "here.csv").read_text()
    assert "ray" not in result.stderr.lower()
    assert chart.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("first", ["local", "ray"])
def test_a_cut_run_is_finished_by_the_other_engine(
    run: Run, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    whole, output = tmp_path / "whole.csv", tmp_path / "out.csv"
    assert run(whole).exit_code == 0
    write, written = command.write_forecasts, []

    def cut(path: str, *arguments: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *arguments)  # type: ignore[arg-type]

    options: dict[str, list[str]] = {"local": [], "ray": on(cluster)}
    with monkeypatch.context() as patch:
        patch.setattr(command, "write_forecasts", cut)
        assert run(output, *options.pop(first)).exit_code != 0
    assert not output.exists()
    assert not ray.is_initialized()
    (second,) = options.values()
    result = run(output, *second)
    assert result.exit_code == 0, result.output
    assert "1 of 3 parts were finished before" in result.stderr
    assert output.read_text() == whole.read_text()


def test_a_machine_lost_on_the_way_changes_nothing(
    run: Run, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path / "whole.csv", "--horizon", "40").exit_code == 0
    machines = [cluster.add_node(num_cpus=2)]
    write = command.write_forecasts
    output = tmp_path / "out.csv"

    def write_and_pull_the_plug(*arguments: Any) -> None:
        write(*arguments)
        if machines:  # after the first part, with batches under way
            cluster.remove_node(machines.pop(), allow_graceful=False)

    monkeypatch.setattr(command, "write_forecasts", write_and_pull_the_plug)
    result = run(output, "--horizon", "40", *on(cluster))
    assert result.exit_code == 0, result.output
    assert not machines
    cluster.wait_for_nodes()  # the other tests count the machines that are left
    assert output.read_text() == (tmp_path / "whole.csv").read_text()


def test_what_is_wrong_with_a_series_is_said_as_by_the_local_engine(
    run: Run, cluster: Cluster, big: Path, tmp_path: Path
) -> None:
    rows = pq.read_table(big).to_pylist()
    rows[7]["target"] = [float("nan")] * 5
    pq.write_table(pa.Table.from_pylist(rows), big)
    here, there = run(tmp_path / "here.csv"), run(tmp_path / "there.csv", *on(cluster))
    assert there.exit_code == here.exit_code == 1
    assert there.output == here.output
    said = "series 's7': target: all 5 values are missing; leave the series out"
    assert there.output == f"Error: {big}: {said}\n"
    assert (tmp_path / "there.csv.parts" / "000000.csv").exists()


def test_warnings_of_workers_are_said_once(run: Run, cluster: Cluster, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    lines = [f"{name},{value}" for name in "abcdef" for value in range(30)]
    table.write_text("id,y\n" + "\n".join(lines) + "\n")
    result = run(tmp_path / "out.csv", *on(cluster), source=table)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("Warning: ") == 1
    assert "this model was trained with calendar features" in result.stderr


class _Exit:
    """Ends whatever process unpickles it."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (b"rubbish", "a Ray worker failed: UnpicklingError: "),
        (pickle.dumps(_Exit()), "the Ray cluster lost a batch (attempts: 1): "),
    ],
    ids=["error", "exit"],
)
def test_a_worker_that_fails_is_one_message(
    run: Run,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: bytes,
    message: str,
) -> None:
    monkeypatch.setattr(ray_engine.pickle, "dumps", lambda _: work)
    monkeypatch.setattr(ray_engine, "RETRIES", 0)
    result = run(tmp_path / "out.csv", *on(cluster))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count(f"Error: {message}") == 1
    assert "Traceback" not in result.stderr


def test_a_machine_with_another_version_is_named(
    run: Run, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "__version__", "99.0")
    result = run(tmp_path / "out.csv", *on(cluster))
    assert result.exit_code == 1
    assert "of the Ray cluster has laglite " in result.output
    assert "and this one 99.0: install the same version everywhere" in result.output


def test_a_machine_without_laglite_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    task = ray_engine._forecast_there("99.0")
    monkeypatch.setitem(sys.modules, "laglite.version", None)
    assert "has no laglite, and this one 99.0" in task([], "fp32", 1, b"")


def test_threads_that_no_machine_has_are_refused(
    run: Run, cluster: Cluster, tmp_path: Path
) -> None:
    result = run(tmp_path / "out.csv", "--threads", "3", *on(cluster))
    assert result.exit_code == 1
    assert "threads 3: no machine of the Ray cluster has so many CPUs; the largest has 2" in (
        result.output
    )


def test_a_worker_needs_no_disk_in_common(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ForecastRun("input", Columns(), 3, 4, None, (0.5,), False)
    series = [InputSeries("a", np.arange(30.0), None, None)]
    (batch,) = job.batches(series, keep=1)
    local = LocalEngine(Forecaster.load(tiny_bundle, threads=1))
    (expected,) = local.forecasts(job, [batch], 1)
    shutil.copytree(tiny_bundle, tmp_path / "model")
    sent = ray_worker.bundle_bytes(open_bundle(tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    monkeypatch.setattr(ray, "get", lambda reference: {"model": sent}[reference])
    work = pickle.dumps((job, batch, 1))
    found = ray_worker.forecast_pickled(["model"], "fp32", 1, work)
    assert np.array_equal(found.kept[0].samples, expected.kept[0].samples)
    assert found.warnings == expected.warnings


def test_batches_are_taken_only_as_fast_as_they_are_done(
    cluster: Cluster, tiny_bundle: Path
) -> None:
    job = ForecastRun("input", Columns(), 3, 4, None, (0.5,), False)
    series = [InputSeries(f"s{n}", np.arange(30.0), None, None) for n in range(64 * 20)]
    batches = iter(job.batches(series))
    bundle = open_bundle(tiny_bundle)
    with ray_engine.ray_engine(cluster.address, bundle, "fp32", 1) as engine:
        next(engine.forecasts(job, batches, 1))
    assert len(list(batches)) == 20 - 2 * ray_engine.BATCHES_A_WORKER


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("127.0.0.1:99999", "no Ray cluster answers there"),
        ("ray://127.0.0.1:10001", "write HOST:PORT of the Ray cluster's head, or auto"),
        ("head", "write HOST:PORT of the Ray cluster's head, or auto"),
    ],
)
def test_an_address_without_a_cluster_is_named(
    run: Run, tmp_path: Path, address: str, message: str
) -> None:
    result = run(tmp_path / "out.csv", "--engine", "ray", "--address", address)
    assert result.exit_code == 1
    assert address in result.output
    assert message in result.output
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize(
    "refusal",
    [
        RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.0"),
        ConnectionError("Could not find any running Ray instance."),
        ray.exceptions.RayError("no token was found"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_cluster_that_ray_cannot_join_is_one_message(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    def refuse(**_: object) -> None:
        raise refusal

    monkeypatch.setattr(ray, "init", refuse)
    result = run(tmp_path / "out.csv", "--engine", "ray", "--address", "auto")
    assert result.exit_code == 1
    reason = str(refusal).partition("\n")[0].rstrip(".:")
    assert result.output == (
        f"Error: the Ray cluster at auto cannot be used: {reason}; "
        "one with tokens needs RAY_AUTH_MODE=token here\n"
    )


def test_an_address_alone_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path / "out.csv", "--address", "auto")
    assert result.exit_code == 2
    assert "--address names a Ray cluster: add --engine ray" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "cuda"], "--engine ray computes on CPUs; leave --backend cuda out"),
        (["--precision", "int3"], "no precision 'int3'"),
    ],
)
def test_what_workers_cannot_do_is_refused_before_ray_starts(
    run: Run, tmp_path: Path, options: list[str], message: str
) -> None:
    result = run(tmp_path / "out.csv", "--engine", "ray", *options)
    assert result.exit_code == 1
    assert message in result.output


def test_without_ray_the_command_that_adds_it_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(tmp_path / "out.csv", "--engine", "ray")
    assert result.exit_code == 1
    assert "needs ray, which is not installed: pip install 'laglite[ray]'" in result.output


def test_an_engine_reports_an_error_of_any_kind_from_its_worker(
    cluster: Cluster, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray cannot derive from every class of ours: ImportError has a layout of its own."""
    fails = "from laglite.errors import missing\nraise missing('numpy', 'cpu', 'a worker')"
    work = b"cbuiltins\nexec\n(V" + fails.replace("\n", "; ").encode() + b"\ntR."
    monkeypatch.setattr(ray_engine.pickle, "dumps", lambda _: work)
    job = ForecastRun("input", Columns(), 3, 4, None, (0.5,), False)
    batches = job.batches([InputSeries("a", np.arange(30.0), None, None)])
    with (
        ray_engine.ray_engine(cluster.address, open_bundle(tiny_bundle), "fp32", 1) as engine,
        pytest.raises(LagliteError, match=r"^a worker needs numpy, which is not installed"),
    ):
        list(engine.forecasts(job, batches, 1))
