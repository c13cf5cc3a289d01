"""`laglite forecast` as a person meets it: results, notes, exit codes, and wrong inputs."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from laglite import Forecaster
from laglite.cli import main
from laglite.spec import ModelSpec
from laglite_train.model import LagLlama

Run = Callable[..., Result]
EXAMPLE = Path(__file__).parents[2] / "examples" / "us_births_daily.csv"


@pytest.fixture
def run(tiny_bundle: Path) -> Run:
    """Run the command on the tiny model with a fixed seed."""

    def call(source: object, *options: str, text: str | None = None) -> Result:
        arguments = ["forecast", str(source), "--model", str(tiny_bundle), "--seed", "1", *options]
        return CliRunner().invoke(main, arguments, input=text)

    return call


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two daily series in one long table."""
    rows = ["unique_id,ds,y"]
    for name, growth in (("b", 2), ("a", 3)):
        rows += [f"{name},2024-01-{day:02d},{growth * day}" for day in range(1, 29)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows))
    return path


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_csv_on_stdin_gives_a_csv_on_stdout_and_notes_on_stderr(run: Run) -> None:
    result = run("-", "--horizon", "3", "--quantiles", "0.1,0.5", text=EXAMPLE.read_text())
    assert result.exit_code == 0, result.stderr
    rows = read(result.stdout)
    assert list(rows[0]) == ["ds", "mean", "0.1", "0.5"]
    assert [row["ds"] for row in rows] == ["1989-01-01", "1989-01-02", "1989-01-03"]
    assert "time 'date', target 'births'" in result.stderr
    assert "frequency 'D'" in result.stderr


def test_the_numbers_are_those_of_the_python_api(run: Run, table: Path, tiny_bundle: Path) -> None:
    rows = read(run(table, "--horizon", "4", "--samples", "30").stdout)
    assert [row["unique_id"] for row in rows] == ["b"] * 4 + ["a"] * 4
    values = [2 * day for day in range(1, 29)]
    forecast = Forecaster.load(tiny_bundle).predict(
        values, horizon=4, start="2024-01-01", freq="D", num_samples=30, seed=1
    )
    np.testing.assert_allclose([float(r["0.9"]) for r in rows[:4]], forecast.quantile(0.9), 1e-5)


def test_the_same_seed_repeats_the_result(run: Run, table: Path) -> None:
    first, second = (run(table, "--horizon", "4").stdout for _ in range(2))
    assert first == second


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_results_go_to_a_file_of_the_chosen_kind(
    run: Run, table: Path, tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"out.{ending}"
    result = run(table, "--horizon", "2", "--output", str(output), "--quantiles", "0.5")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    if ending == "csv":
        columns = read(output.read_text())
        count = len(columns)
    elif ending == "json":
        records = json.loads(output.read_text())
        count = sum(len(record["mean"]) for record in records)
        assert set(records[0]["quantiles"]) == {"0.5"}
    else:
        count = pq.read_table(output).num_rows
    assert count == 4


def test_a_fan_chart_is_drawn(run: Run, table: Path, tmp_path: Path) -> None:
    picture = tmp_path / "fan.png"
    assert run(table, "--horizon", "5", "--plot", str(picture)).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000


def test_the_first_twelve_of_many_series_are_drawn_and_four_previewed(
    run: Run, tmp_path: Path
) -> None:
    rows = [f"s{n},2024-01-{day:02d},{n + day}" for n in range(14) for day in range(1, 12)]
    path, picture = tmp_path / "many.csv", tmp_path / "fans.svg"
    path.write_text("\n".join(["unique_id,ds,y", *rows]))
    result = run(path, "--horizon", "2", "--plot", str(picture), "--preview")
    assert result.exit_code == 0, result.stderr
    assert "fans.svg: shows the first 12 of 14 series" in result.stderr
    assert "preview: the first 4 of 14 series" in result.stderr
    names = [line for line in result.stderr.splitlines() if line in {f"s{n}" for n in range(14)}]
    assert names == ["s0", "s1", "s2", "s3"]
    assert len(read(result.stdout)) == 28


def test_a_preview_changes_nothing_on_stdout(run: Run, table: Path) -> None:
    plain, previewed = (run(table, "--horizon", "4", *options) for options in ((), ("--preview",)))
    assert previewed.stdout == plain.stdout
    assert "median (line) and 80 % interval (dots)" in previewed.stderr
    assert previewed.stderr.splitlines()[-2].split() == ["2024-01-01", "2024-02-01"]


def test_a_frequency_that_is_given_is_used(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("ds,y\n2024-01-31,1\n2024-02-29,2\n")
    result = run(path, "--horizon", "2", "--freq", "ME")
    assert [row["ds"] for row in read(result.stdout)] == ["2024-03-31", "2024-04-30"]


def test_gaps_are_filled_as_missing_and_said(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "gap.csv"
    days = [1, 2, 3, 4, 7, 8]
    path.write_text("ds,y\n" + "\n".join(f"2024-01-{d:02d},{d}" for d in days))
    result = run(path, "--horizon", "1")
    assert result.exit_code == 0
    assert "2 timestamps are absent, taken as missing values (first: 2024-01-05)" in result.stderr


def test_values_without_times_are_forecast_by_step_with_a_warning(run: Run) -> None:
    result = run("-", "--horizon", "2", text="\n".join(map(str, range(50))))
    assert [row["step"] for row in read(result.stdout)] == ["1", "2"]
    assert "Warning: this model was trained with calendar features" in result.stderr


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("ds,y\n2024-01-01,1\n2024-01-02,x\n", [], "row 3, column 'y': 'x' is not a number"),
        ("ds,y\n2024-01-01,1\n2024-13-02,2\n", [], "row 3, column 'ds': '2024-13-02'"),
        ("ds,y\n2024-01-01,1\n2024-01-01,2\n", [], "row 3: 2024-01-01 appears twice"),
        ("ds,y\n2024-01-02,1\n2024-01-01,2\n", [], "row 3: 2024-01-01 comes after 2024-01-02"),
        (
            "ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n2024-01-04 05:00,4\n",
            [],
            "2024-01-04 05:00:00",
        ),
        (
            "ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n",
            ["--freq", "h"],
            "the closest rows are 24 steps of frequency 'h' apart",
        ),
        ("ds,y\n2024-01-01,inf\n", [], "row 2, column 'y': infinite value"),
        ("ds,y\n2024-01-01,\n2024-01-02,\n2024-01-03,\n", [], "all 3 values are missing"),
        ("", [], "the file is empty"),
        ("ds,y\n", [], "there is a header, but no row"),
        ("1\n2\n3\n", ["--target-column", "price"], "no column 'price'"),
        ("1\n2\n3\n", ["--freq", "weekly"], "frequency 'weekly' is not known"),
        ("1\n2\n3\n", ["--context", "2040"], "this model has 2048"),
        ("1\n2\n3\n", ["--output", "x.xlsx"], "the ending must be one of .csv"),
        ("1\n2\n3\n", ["--output", "nowhere/x.csv"], "the folder nowhere does not exist"),
        ("1\n2\n3\n", ["--plot", "x.gif"], "the ending must be .png"),
        ("1\n2\n3\n", ["--plot", "nowhere/x.png"], "the folder nowhere does not exist"),
        (
            "1\n2\n3\n",
            ["--backend", "cuda", "--precision", "int8"],
            "backend 'cuda': precision 'int8' is for the CPU",
        ),
        ("1\n2\n3\n", ["--precision", "int3"], "no precision 'int3'"),
        ("1\n2\n3\n", ["--model", "nowhere"], "neither a model directory nor a shipped model"),
    ],
)
def test_bad_input_fails_with_one_clear_message(
    run: Run, text: str, options: list[str], message: str
) -> None:
    result = run("-", "--horizon", "20", *options, text=text)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1


def test_a_series_without_values_is_named_before_any_is_forecast(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laglite.forecaster.sample_many", None)
    rows = [f"s{number},2024-01-0{day},{day}" for number in range(70) for day in (1, 2, 3)]
    rows += [f"bare,2024-01-0{day}," for day in (1, 2, 3)]
    result = run("-", "--horizon", "2", text="\n".join(["unique_id,ds,y", *rows]))
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "Error: -: series 'bare': target: all 3 values are missing; leave the series out\n"
    )


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--horizon", "0"],
        ["--horizon", "two"],
        ["--horizon", "2", "--samples", "0"],
        ["--horizon", "2", "--quantiles", "0.1,high"],
        ["--horizon", "2", "--quantiles", "1.5"],
        ["--horizon", "2", "--backend", "tpu"],
        ["--horizon", "2", "--colour", "red"],
        ["--horizon", "2", "--covariates", "price,"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, options: list[str]) -> None:
    assert run("-", *options, text="1\n2\n").exit_code == 2


def test_a_missing_file_is_named(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path / "none.csv", "--horizon", "2")
    assert (result.exit_code, "none.csv: cannot be read" in result.stderr) == (1, True)


def test_nothing_is_left_half_written(run: Run, table: Path, tmp_path: Path) -> None:
    output = tmp_path / "folder.csv"
    output.mkdir()
    result = run(table, "--horizon", "2", "--output", str(output))
    assert (result.exit_code, "is a directory" in result.stderr) == (1, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.csv", "table.csv"]


@pytest.fixture(scope="module")
def promo_bundle(small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path]) -> Path:
    """A model of random weights with two covariates."""
    model = LagLlama(dataclasses.replace(small_spec, num_covariates=2))
    model.initialise()
    return export_to(model.eval(), "promo")


def shop(ahead: int, item: str = "s1") -> list[str]:
    lines = [f"{item},2024-01-{d:02d},{10 + d % 7},{d / 2},{d % 2}" for d in range(1, 22)]
    return lines + [f"{item},2024-01-{d:02d},,{d / 2},{d % 2}" for d in range(22, 22 + ahead)]


SHOP = "shop,ds,y,price,promo"


def test_covariates_come_from_columns_and_their_future_from_rows_without_a_target(
    run: Run, promo_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "shops.csv"
    path.write_text("\n".join([SHOP, *shop(3), *shop(5, "s2")]))
    model = ("--model", str(promo_bundle))
    result = run(path, "--horizon", "3", *model, "--covariates", "price, promo")
    assert result.exit_code == 0, result.stderr
    assert "Warning" not in result.stderr
    rows = read(result.stdout)
    assert [row["ds"] for row in rows] == ["2024-01-22", "2024-01-23", "2024-01-24"] * 2
    forecast = Forecaster.load(promo_bundle).predict(
        [10 + d % 7 for d in range(1, 22)],
        horizon=3,
        start="2024-01-01",
        freq="D",
        covariates=[[d / 2, d % 2] for d in range(1, 25)],
        seed=1,
    )
    for part in (rows[:3], rows[3:]):
        np.testing.assert_allclose([float(r["0.9"]) for r in part], forecast.quantile(0.9), 1e-5)


def test_parquet_of_both_kinds_takes_covariates(
    run: Run, promo_bundle: Path, tmp_path: Path
) -> None:
    days = range(1, 25)
    price, promo = [d / 2 for d in days], [float(d % 2) for d in days]
    target = [float(10 + d % 7) for d in days[:21]]
    series = {
        "item_id": ["s1"], "start": ["2024-01-01"], "freq": ["D"], "target": [target],
        "covariates": [[price, promo]],
    }  # fmt: skip
    long = {
        "ds": [f"2024-01-{d:02d}" for d in days], "y": [*target, None, None, None],
        "price": price, "promo": promo,
    }  # fmt: skip
    printed = []
    for name, table, covariates in (("a", series, "covariates"), ("b", long, "price,promo")):
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
        options = ("--horizon", "3", "--model", str(promo_bundle), "--covariates", covariates)
        result = run(tmp_path / f"{name}.parquet", *options)
        assert result.exit_code == 0, result.stderr
        printed.append([row["0.5"] for row in read(result.stdout)])
    assert printed[0] == printed[1]


def test_a_model_with_covariates_runs_without_them_and_warns(
    run: Run, promo_bundle: Path, table: Path
) -> None:
    result = run(table, "--horizon", "2", "--model", str(promo_bundle))
    assert result.exit_code == 0
    assert "Warning: this model was trained with 2 covariates" in result.stderr


@pytest.mark.parametrize(
    ("lines", "covariates", "message"),
    [
        (shop(2), "price,promo", "series 's1': horizon 3 needs covariates of 3 steps"),
        (shop(3), "price,sale", "no column 'sale'"),
        (shop(3), "price", "expected numbers of shape [24, 2]"),
    ],
)
def test_covariates_that_do_not_fit_fail_with_one_clear_message(
    run: Run, promo_bundle: Path, lines: list[str], covariates: str, message: str
) -> None:
    result = run(
        "-", "--horizon", "3", "--model", str(promo_bundle), "--covariates", covariates,
        text="\n".join([SHOP, *lines]),
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_a_model_without_covariates_refuses_columns_of_them(run: Run) -> None:
    result = run(
        "-", "--horizon", "3", "--covariates", "price,promo", text="\n".join([SHOP, *shop(3)])
    )
    assert (result.exit_code, "was trained without any" in result.stderr) == (1, True)


def test_nonnegative_forecasts_of_a_falling_series_stay_at_or_above_zero(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "falling.csv"
    rows = [f"2024-01-{day:02d},{3 - day / 10}" for day in range(1, 31)]
    path.write_text("ds,y\n" + "\n".join(rows))
    free, floored = (
        [float(row["0.1"]) for row in read(run(path, "--horizon", "5", *option).stdout)]
        for option in ([], ["--nonnegative"])
    )
    assert min(free) < 0
    assert min(floored) >= 0
