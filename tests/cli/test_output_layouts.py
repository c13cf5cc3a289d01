"""Layouts of the table of forecasts: long and wide, quantiles and Nixtla's interval columns."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from utilsforecast.losses import coverage

from laglite.cli import main

Run = Callable[..., Result]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two daily series, of which one ends a day later."""
    rows = ["unique_id,ds,y"]
    for item, last in (("b", 28), ("a", 29)):
        rows += [f"{item},2024-02-{day:02d},{day % 5 + ord(item)}" for day in range(1, last + 1)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def run(tiny_bundle: Path, table: Path) -> Run:
    """Forecast the table three days ahead with the tiny model and a fixed seed."""

    def call(*options: str, source: Path = table) -> Result:
        arguments = ["forecast", str(source), "--model", str(tiny_bundle), "--seed", "1"]
        return CliRunner().invoke(main, [*arguments, "--horizon", "3", *options])

    return call


def frame(result: Result) -> pd.DataFrame:
    assert result.exit_code == 0, result.stderr
    return pd.read_csv(io.StringIO(result.stdout))


def test_a_wide_table_has_a_row_a_time_and_columns_for_each_series(run: Run) -> None:
    long = frame(run("--quantiles", "0.1,0.9"))
    wide = frame(run("--quantiles", "0.1,0.9", "--layout", "wide"))
    assert list(wide.columns) == ["ds", "b-mean", "b-0.1", "b-0.9", "a-mean", "a-0.1", "a-0.9"]
    assert wide["ds"].tolist() == [f"2024-0{day}" for day in ("2-29", "3-01", "3-02", "3-03")]
    for item in ("a", "b"):
        own = long[long["unique_id"] == item].set_index("ds").reindex(wide["ds"])
        for name in ("mean", "0.1", "0.9"):
            np.testing.assert_array_equal(wide[f"{item}-{name}"], own[name])


def test_a_wide_table_of_one_series_names_the_figures_alone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("".join(f"{n % 3}\n" for n in range(30)))
    wide = frame(run("--quantiles", "0.5", "--layout", "wide", source=path))
    assert list(wide.columns) == ["step", "mean", "0.5"]
    assert wide["step"].tolist() == [1, 2, 3]


def test_a_wide_table_goes_to_parquet_with_nulls_where_a_series_has_no_forecast(
    run: Run, tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    assert run("--layout", "wide", "--output", str(output)).exit_code == 0
    table = pq.read_table(output)
    assert str(table.schema.field("ds").type) == "timestamp[us]"
    assert table.column("a-mean").null_count == 1
    assert table.num_rows == 4


def test_interval_columns_are_those_that_nixtlas_losses_read(run: Run, table: Path) -> None:
    name = "lag_llama_tiny"
    result = frame(run("--interval-columns", "50,90"))
    names = [f"{name}-{end}" for end in ("lo-90", "lo-50", "hi-50", "hi-90")]
    assert list(result.columns) == ["unique_id", "ds", name, *names]
    quantiles = frame(run("--quantiles", "0.05,0.25,0.75,0.95"))
    for column, level in zip(names, ("0.05", "0.25", "0.75", "0.95"), strict=True):
        np.testing.assert_array_equal(result[column], quantiles[level])
    np.testing.assert_array_equal(result[name], quantiles["mean"])
    inside = coverage(result.assign(y=result[name]), models=[name], level=90)
    assert inside[name].tolist() == [1, 1]


def test_interval_columns_may_be_wide(run: Run) -> None:
    wide = frame(run("--interval-columns", "80", "--layout", "wide"))
    model = "lag_llama_tiny"
    assert list(wide.columns)[1:4] == [f"b-{model}", f"b-{model}-lo-80", f"b-{model}-hi-80"]


@pytest.mark.parametrize("ending", [".csv.gz", ".jsonl", ".jsonl.gz"])
def test_packed_tables_and_json_lines_hold_the_same_numbers(
    run: Run, tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"out{ending}"
    assert run("--output", str(output)).exit_code == 0
    expected = frame(run())
    if ending == ".csv.gz":
        pd.testing.assert_frame_equal(pd.read_csv(output), expected)
        return
    raw = output.read_bytes()
    lines = (gzip.decompress(raw) if ending.endswith(".gz") else raw).decode().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["unique_id"] for record in records] == ["b", "a"]
    means = np.concatenate([record["mean"] for record in records])
    np.testing.assert_allclose(means, expected["mean"], rtol=1e-6)


def test_the_zone_of_the_times_goes_to_every_format(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "zoned.csv"
    times = pd.date_range("2024-10-26", periods=40, freq="h", tz="Europe/Berlin")
    path.write_text("ds,y\n" + "".join(f"{t.isoformat()},{n % 5}\n" for n, t in enumerate(times)))
    expected = pd.date_range(times[-1], periods=4, freq="h")[1:]
    printed = frame(run(source=path))["ds"]
    assert printed[0] == "2024-10-27 15:00:00+01:00"
    assert pd.to_datetime(printed).tolist() == list(expected)
    wide = frame(run("--layout", "wide", source=path))["ds"]
    assert wide.tolist() == printed.tolist()
    run("--output", str(tmp_path / "o.parquet"), source=path)
    assert pq.read_table(tmp_path / "o.parquet").to_pandas()["ds"].tolist() == list(expected)
    run("--output", str(tmp_path / "o.json"), source=path)
    assert json.loads((tmp_path / "o.json").read_text())[0]["ds"] == printed.tolist()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--layout", "square"], 2, "'square' is not one of 'long', 'wide'"),
        (["--interval-columns", "50,high"], 2, "interval 'high' is not a percentage"),
        (["--interval-columns", "100"], 2, "interval '100' is not a percentage"),
        (["--interval-columns", "50", "--quantiles", "0.5"], 2, "choose one of them"),
        (["--quantiles", "0.5", "--interval-columns", "50"], 2, "choose one of them"),
        (["--layout", "wide", "--output", "x.json"], 1, "a layout and interval columns are for"),
        (["--interval-columns", "50", "--output", "x.jsonl"], 1, "are for tables"),
        (["--delimiter", "ab"], 2, "'ab' is not a single character, nor tab"),
        (["--delimiter", ""], 2, "is not a single character"),
        (["--decimal", ";"], 2, "';' is not one of '.', ','"),
        (["--time-zone", "Mars"], 1, "time zone 'Mars' is not known"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    run: Run, options: list[str], code: int, message: str
) -> None:
    result = run(*options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
