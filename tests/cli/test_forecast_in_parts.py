"""Long files of series: forecast part by part, joined whole, and taken up again after a cut."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from laglite import Forecaster
from laglite.cli import forecast as command
from laglite.cli import main

Run = Callable[..., Result]
SERIES, PART = 8, 3
ENDINGS = (".csv", ".csv.gz", ".json", ".jsonl", ".jsonl.gz", ".parquet")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """Series of several lengths in the series format."""
    random = np.random.default_rng(0)
    targets = [50 + random.standard_normal(20 + 7 * n).cumsum() for n in range(SERIES)]
    columns = {
        "item_id": [f"s{n}" for n in range(SERIES)],
        "start": ["2024-01-01"] * SERIES,
        "freq": ["D"] * SERIES,
        "target": targets,
    }
    path = tmp_path / "big.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def run(tiny_bundle: Path, big: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Forecast `big` in parts of three series."""

    def call(output: Path, *options: str, part: int = PART) -> Result:
        monkeypatch.setattr(command, "SERIES_A_PART", part)
        arguments = ["forecast", str(big), "--horizon", "3", "--output", str(output)]
        return CliRunner().invoke(main, [*arguments, "--model", str(tiny_bundle), *options])

    return call


def cut_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> list[int]:
    """Let the machine fail after some batches; returns how many series each had."""
    predict, batches = Forecaster.predict_batch, []

    def counted(self: Forecaster, targets: list[np.ndarray], **options: object) -> object:
        if len(batches) == calls:
            raise KeyboardInterrupt
        batches.append(len(targets))
        return predict(self, targets, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Forecaster, "predict_batch", counted)
    return batches


def content(path: Path) -> object:
    """What a file holds: the rows of a table, or bytes, unpacked."""
    if path.suffix == ".parquet":
        return pq.read_table(path)
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_parts_joined_are_the_file_of_one_go(run: Run, tmp_path: Path, ending: str) -> None:
    whole, parts = tmp_path / f"whole{ending}", tmp_path / f"parts{ending}"
    assert run(whole, "--seed", "5", part=100).exit_code == 0
    assert run(parts, "--seed", "5").exit_code == 0
    if ending == ".json":
        assert json.loads(parts.read_text()) == json.loads(whole.read_text())
    else:
        assert content(parts) == content(whole)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {whole.name, parts.name, "big.parquet"}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_that_was_cut_goes_on_and_ends_as_if_it_never_was(
    run: Run, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, whole = tmp_path / f"out{ending}", tmp_path / f"whole{ending}"
    with monkeypatch.context() as patch:
        cut_after(patch, 2)
        assert run(output).exit_code != 0
    folder = tmp_path / f"out{ending}.parts"
    assert not output.exists()
    assert sorted(p.name for p in folder.glob(f"*{ending}")) == [
        f"000000{ending}",
        f"000001{ending}",
    ] + (["plan.json"] if ending == ".json" else [])
    seed = json.loads((folder / "plan.json").read_text())["seed"]
    with monkeypatch.context() as patch:
        batches = cut_after(patch, 100)
        result = run(output)
    assert result.exit_code == 0, result.stderr
    assert batches == [SERIES - 2 * PART]
    assert "2 of 3 parts were finished before" in result.stderr
    assert not folder.exists()
    assert run(whole, "--seed", str(seed)).exit_code == 0
    assert content(output) == content(whole)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--horizon", "4"], "horizon"),
        (["--seed", "6"], "seed"),
        (["--quantiles", "0.5"], "quantiles"),
        (["--precision", "int8"], "precision"),
        (["--interval-columns", "80"], "quantiles"),
    ],
)
def test_parts_of_another_run_are_not_mixed_in(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], name: str
) -> None:
    output = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        assert run(output, "--seed", "5").exit_code != 0
    result = run(output, *options)
    assert result.exit_code == 1
    assert f"parts of another run, with another {name}" in result.stderr
    assert str(tmp_path / "out.csv.parts") in result.stderr


def test_an_input_that_changed_is_another_run(
    run: Run, big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        run(tmp_path / "out.csv", "--seed", "5")
    table = pq.read_table(big)
    pq.write_table(table.slice(0, SERIES - 1), big)
    result = run(tmp_path / "out.csv", "--seed", "5")
    assert result.exit_code == 1
    assert "with another input" in result.stderr


def test_a_damaged_plan_is_named(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out.csv.parts"
    folder.mkdir()
    (folder / "plan.json").write_text("{")
    result = run(tmp_path / "out.csv")
    assert result.exit_code == 1
    assert "plan.json: damaged" in result.stderr
    assert "remove the folder" in result.stderr


def test_a_bad_series_is_named_and_finished_parts_stay(run: Run, big: Path, tmp_path: Path) -> None:
    rows = pq.read_table(big).to_pylist()
    rows[4]["target"] = [float("nan")] * 5
    pq.write_table(pa.Table.from_pylist(rows), big)
    result = run(tmp_path / "out.csv")
    assert result.exit_code == 1
    assert "series 's4': target: all 5 values are missing" in result.stderr
    assert (tmp_path / "out.csv.parts" / "000000.csv").exists()
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("options", [["--plot", "chart.png"], ["--preview"]])
def test_a_chart_of_a_long_file_is_refused_before_anything_is_computed(
    run: Run, tmp_path: Path, options: list[str]
) -> None:
    result = run(tmp_path / "out.csv", *options)
    assert result.exit_code == 1
    assert f"{options[0]} draws files of at most 3 series" in result.stderr


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_interval_columns_are_those_of_one_go(run: Run, tmp_path: Path, ending: str) -> None:
    whole, parts = tmp_path / f"whole{ending}", tmp_path / f"parts{ending}"
    options = ("--seed", "5", "--interval-columns", "50,90")
    assert run(whole, *options, part=100).exit_code == 0
    assert run(parts, *options).exit_code == 0
    assert content(parts) == content(whole)


def test_a_wide_table_of_a_long_file_is_refused(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path / "out.csv", "--layout", "wide")
    assert result.exit_code == 1
    assert "--layout wide is for at most 3 series, not 8" in result.stderr
