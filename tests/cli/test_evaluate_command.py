"""`laglite evaluate` as a person meets it: tables, reports, notes, and wrong inputs."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from laglite import Forecaster
from laglite.cli import main
from laglite.evaluation import backtest

Run = Callable[..., Result]
VALUES = [10 + (step % 7) + 0.1 * ((step * 37) % 11) for step in range(70)]


@pytest.fixture
def run(tiny_bundle: Path) -> Run:
    """Run the command on the tiny model with few paths."""

    def call(source: object, *options: str, text: str | None = None) -> Result:
        fixed = ["evaluate", str(source), "--model", str(tiny_bundle), "--samples", "10"]
        return CliRunner().invoke(main, [*fixed, *options], input=text)

    return call


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A long table of two daily series, one of them short."""
    rows = ["unique_id,ds,y"]
    days = np.datetime64("2024-01-01") + np.arange(70)
    rows += [f"long,{day},{value}" for day, value in zip(days, VALUES, strict=True)]
    rows += [f"short,{day},{value}" for day, value in zip(days[:12], VALUES[:12], strict=True)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two data sets with a manifest: Parquet series and a long CSV."""
    path = tmp_path / "collection"
    path.mkdir()
    series = {
        "item_id": ["a", "b"],
        "start": ["2024-01-01", "2024-01-01"],
        "freq": ["h", "h"],
        "target": [VALUES, VALUES[5:50]],
    }
    pq.write_table(pa.table(series), path / "hourly.parquet")
    days = np.datetime64("2024-01-01") + np.arange(70)
    lines = [f"{day},{value}" for day, value in zip(days, VALUES, strict=True)]
    (path / "daily.csv").write_text("\n".join(["ds,y", *lines]))
    (path / "manifest.csv").write_text(
        "dataset,freq,horizon,seasonality\nhourly,h,6,24\ndaily,D,5,7\n"
    )
    return path


def test_the_model_is_shown_beside_seasonal_naive_with_notes_on_stderr(
    run: Run, table: Path
) -> None:
    result = run(table, "--horizon", "5", "--windows", "3")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].strip() == "2 series, 5 windows of 5 steps, 25 values"
    assert [line.split("  ")[0].strip() for line in lines[2:]] == [
        "lag_llama_tiny",
        "seasonal naive",
        "seasonal naive (point)",
    ]
    assert "table: season 7, from the frequency 'D'" in result.stderr
    assert "table: 2 of 3 windows, too few observed values: short" in result.stderr


def test_the_figures_are_those_of_the_python_api(
    run: Run, table: Path, tmp_path: Path, tiny: Forecaster
) -> None:
    output = tmp_path / "report.json"
    result = run(table, "--horizon", "5", "--seed", "4", "--output", str(output))
    assert result.exit_code == 0, result.stderr
    report = json.loads(output.read_text())
    expected = backtest(
        tiny,
        [VALUES, VALUES[:12]],
        horizon=5,
        start="2024-01-01",
        freq="D",
        num_samples=10,
        seed=4,
    )
    entry = report["data_sets"]["table"]
    np.testing.assert_allclose(entry["wql"], expected.model.wql)
    np.testing.assert_allclose(entry["coverage_80"], expected.model.coverage[80])
    np.testing.assert_allclose(report["relative_wql"], expected.relative_wql)
    assert report["settings"] == {
        "windows": 1,
        "samples": 10,
        "seed": 4,
        "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    }


def test_several_contexts_give_a_line_each(run: Run, table: Path) -> None:
    result = run(table, "--horizon", "5", "--context", "4,8,16")
    assert result.exit_code == 0, result.stderr
    shown = [line.split("  ")[0].strip() for line in result.stdout.splitlines()[2:5]]
    assert shown == [f"lag_llama_tiny, context {context}" for context in (4, 8, 16)]


def test_a_season_that_is_given_is_used(run: Run, table: Path) -> None:
    default, given = (run(table, "--horizon", "5", *options) for options in ((), ("--season", "3")))
    assert "table: season" not in given.stderr
    assert default.stdout.splitlines()[3] != given.stdout.splitlines()[3]


def test_a_folder_is_measured_by_its_manifest(run: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    result = run(folder, "--output", str(output))
    assert result.exit_code == 0, result.stderr
    report = json.loads(output.read_text())
    assert [(n, e["horizon"], e["values"]) for n, e in report["data_sets"].items()] == [
        ("hourly", 6, 12),
        ("daily", 5, 5),
    ]
    relative = [entry["relative"] for entry in report["data_sets"].values()]
    np.testing.assert_allclose(report["relative_wql"], np.sqrt(np.prod(relative)))
    assert 0 <= report["coverage_80"] <= 1
    inside = [e["coverage_80"] * e["values"] for e in report["data_sets"].values()]
    np.testing.assert_allclose(report["coverage_80"], sum(inside) / 17)
    last = result.stdout.splitlines()[-1]
    assert "geometric mean" in last
    assert f"{report['relative_wql']:.3f}" in last


def test_options_come_before_the_manifest(run: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    assert run(folder, "--horizon", "3", "--output", str(output)).exit_code == 0
    entries = json.loads(output.read_text())["data_sets"].values()
    assert [entry["horizon"] for entry in entries] == [3, 3]


def test_a_report_of_each_series(run: Run, folder: Path, tmp_path: Path) -> None:
    for ending in ("json", "csv"):
        output = tmp_path / f"report.{ending}"
        result = run(folder, "--per-series", "--output", str(output))
        assert result.exit_code == 0, result.stderr
        assert "hourly: lag_llama_tiny" in result.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    hourly = report["data_sets"]["hourly"]
    assert set(hourly["per_series"]) == {"a", "b"}
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert len(rows) == 3 * 3
    row = next(row for row in rows if (row["data_set"], row["unique_id"]) == ("hourly", "b"))
    figures = hourly["per_series"]["b"]["lag_llama_tiny"]
    np.testing.assert_allclose(float(row["wql"]), figures["wql"], rtol=1e-6)
    np.testing.assert_allclose(float(row["width_95"]), figures["width_95"], rtol=1e-6)


def test_a_report_and_a_picture_hold_the_loss_by_step_and_the_calibration(
    run: Run, table: Path, tmp_path: Path
) -> None:
    output, plot = tmp_path / "report.json", tmp_path / "picture.png"
    options = ("--horizon", "5", "--windows", "3", "--output", str(output), "--plot", str(plot))
    result = run(table, *options)
    assert result.exit_code == 0, result.stderr
    assert plot.read_bytes().startswith(b"\x89PNG")
    entry = json.loads(output.read_text())["data_sets"]["table"]
    assert list(entry["profiles"]) == ["lag_llama_tiny", *entry["methods"]]
    printed = {line[:24].strip(): line[24:].split() for line in result.stdout.splitlines()[2:]}
    for method, profile in entry["profiles"].items():
        steps = profile["by_step"]
        mean = np.average(steps["wql"], weights=steps["magnitude"])
        assert printed[method][0] == f"{mean:.3f}"
        np.testing.assert_allclose(sum(steps["loss"]) / sum(steps["magnitude"]), mean)
        shares = [f"{100 * profile['central_coverage'][i]:.1f}" for i in ("50", "80", "95")]
        assert printed[method][4:7] == shares
        assert sum(steps["values"]) == entry["values"] == 25
        np.testing.assert_allclose(sum(profile["pit"]), 1)


def test_a_folder_is_drawn_too(run: Run, folder: Path, tmp_path: Path) -> None:
    plot = tmp_path / "folder.svg"
    assert run(folder, "--plot", str(plot)).exit_code == 0
    assert plot.read_bytes().startswith(b"<?xml")


def test_info_shows_a_report_that_a_bundle_keeps(
    run: Run, folder: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    output = tmp_path / "report.json"
    assert run(folder, "--output", str(output)).exit_code == 0
    report = json.loads(output.read_text())
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "evaluation": report}))
    result = CliRunner().invoke(main, ["info", str(bundle)])
    assert f"WQL {report['relative_wql']:.3f} of seasonal naive's, 2 data sets" in result.stdout
    assert f"of 80 % held {100 * report['coverage_80']:.1f} % of the values" in result.stdout


def test_a_csv_report_has_a_row_for_each_data_set_and_method(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "report.csv"
    assert run(folder, "--output", str(output)).exit_code == 0
    rows = list(csv.DictReader(output.open()))
    assert [(row["data_set"], row["method"]) for row in rows[:4]] == [
        ("hourly", "lag_llama_tiny"),
        ("hourly", "seasonal naive"),
        ("hourly", "seasonal naive (point)"),
        ("daily", "lag_llama_tiny"),
    ]


def test_undefined_figures_are_null_and_shown_as_a_dash(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    text = "\n".join(["0"] * 30)
    result = run("-", "--horizon", "3", "--output", str(output), text=text)
    assert result.exit_code == 0, result.stderr
    report = json.loads(output.read_text())
    assert report["relative_wql"] is None
    assert report["data_sets"]["standard input"]["mase"] is None
    assert " - " in result.stdout
    assert "standard input: season 1, from an unknown frequency" in result.stderr
    assert "Warning: this model was trained with calendar features" in result.stderr
    text = "\n".join(["0"] * 30)
    output = tmp_path / "report.csv"
    assert run("-", "--horizon", "3", "--output", str(output), text=text).exit_code == 0
    assert next(csv.DictReader(output.open()))["mase"] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--horizon", "2", "--covariates", "y"], "column 'y'"),
        (["--horizon", "30"], "standard input: no series has observed values both in its last 30"),
        (["--horizon", "2", "--output", "x.xlsx"], "the ending must be one of .json, .csv"),
        (["--horizon", "2", "--output", "none/x.csv"], "the folder none does not exist"),
        (["--horizon", "2", "--output", "."], "the ending must be"),
        (["--horizon", "2", "--plot", "x.jpg"], "x.jpg: the ending must be .png, .svg or .pdf"),
        (["--horizon", "2", "--plot", "none/x.png"], "the folder none does not exist"),
        (["--horizon", "2", "--context", "2048"], "this model has 2048"),
        (["--horizon", "2", "--target-column", "price"], "no column 'price'"),
        (["--horizon", "2", "--freq", "weekly"], "frequency 'weekly' is not known"),
        (["--horizon", "2", "--model", "nowhere"], "neither a model directory nor a shipped"),
        (
            ["--horizon", "2", "--backend", "cuda", "--precision", "int8"],
            "precision 'int8' is for the CPU",
        ),
    ],
)
def test_bad_input_fails_with_one_clear_message(run: Run, options: list[str], message: str) -> None:
    result = run("-", *options, text="\n".join(map(str, range(20))))
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error:")]) == 1


def test_a_level_at_an_end_of_the_distribution_is_wrong_usage(run: Run) -> None:
    result = run("-", "--horizon", "2", "--quantiles", "0,0.5", text="1\n2\n3\n")
    assert result.exit_code == 2
    assert "'--quantiles': levels must lie between 0 and 1, not at them" in result.stderr


def test_an_output_that_is_a_directory_is_refused(run: Run, table: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    result = run(table, "--horizon", "2", "--output", str(tmp_path / "x.json"))
    assert (result.exit_code, "x.json: is a directory" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "manifest.csv: cannot be read (No such file or directory); a folder needs one"),
        (b"\xff\xfe", "manifest.csv: cannot be read (not UTF-8 text); a folder needs one"),
        (b"dataset,horizon\n", "manifest.csv: lists no data set"),
        (b"name,horizon\nhourly,6\n", "manifest.csv, row 2: no name in a column 'dataset'"),
        (b"dataset\nhourly\n", "manifest.csv, row 2: no 'horizon'; add it, or give --horizon"),
        (b"dataset,horizon\nhourly,six\n", "row 2: horizon must be a whole number of at least 1"),
        (
            b"dataset,horizon,seasonality\nhourly,6,24\ndaily,6,0\n",
            "row 3: seasonality must be a whole number of at least 1, not '0'",
        ),
        (b"dataset,horizon\nother,6\n", "row 2: there is neither"),
        (b"dataset,horizon\ndaily,6\ndaily,6\n", "manifest.csv: lists 'daily' twice"),
    ],
)
def test_a_bad_manifest_names_its_row(
    run: Run, folder: Path, manifest: bytes | None, message: str
) -> None:
    (folder / "manifest.csv").unlink()
    if manifest is not None:
        (folder / "manifest.csv").write_bytes(manifest)
    result = run(folder)
    assert (result.exit_code, message in result.stderr) == (1, True), result.stderr


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--horizon", "0"],
        ["--horizon", "2", "--windows", "0"],
        ["--horizon", "2", "--season", "0"],
        ["--horizon", "2", "--context", "8,0"],
        ["--horizon", "2", "--context", "8,long"],
        ["--horizon", "2", "--quantiles", "high"],
        ["--horizon", "2", "--covariates", "a,,b"],
        ["--horizon", "2", "--samples", "0"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, options: list[str]) -> None:
    result = run("-", *options, text="1\n2\n")
    assert (result.exit_code, "Error:" in result.stderr) == (2, True)


def test_names_in_brackets_are_printed_as_they_are(run: Run, tmp_path: Path) -> None:
    names = ("[/x]", "sensor[temp]", "a:car:b")
    rows = [f"{name},{step},{VALUES[step]}" for name in names for step in range(40)]
    path, report = tmp_path / "odd.csv", tmp_path / "report.json"
    path.write_text("\n".join(["unique_id,step,y", *rows]))
    options = ("--target-column", "y", "--horizon", "4", "--per-series", "--output", str(report))
    done = run(path, *options)
    assert done.exit_code == 0, done.stderr
    for name in names:
        assert f" {name} " in done.stdout
    assert list(json.loads(report.read_text())["data_sets"])


def test_windows_behind_a_gap_that_the_model_cannot_look_over_are_left_out(
    run: Run, tmp_path: Path
) -> None:
    good, dead = VALUES[:60], [*VALUES, *[""] * 1200, *VALUES[:10]]
    rows = [f"{name},{step},{v}" for name, values in (("good", good), ("dead", dead))
            for step, v in enumerate(values)]  # fmt: skip
    path = tmp_path / "gap.csv"
    path.write_text("\n".join(["unique_id,step,y", *rows]))
    done = run(path, "--target-column", "y", "--horizon", "5", "--windows", "2")
    assert done.exit_code == 0, done.stderr
    assert "1 of 2 windows, too few observed values: dead" in done.stderr


def test_the_figures_do_not_depend_on_the_format(run: Run, table: Path, tmp_path: Path) -> None:
    expected = run(table, "--horizon", "5")
    assert expected.exit_code == 0, expected.stderr
    rows = list(csv.DictReader(table.open()))
    (tmp_path / "semicolons").mkdir()
    packed = tmp_path / "semicolons" / "table.csv.gz"
    text = table.read_text().replace(",", ";").replace(".", ",")
    packed.write_bytes(gzip.compress(text.encode("utf-16")))
    lines = tmp_path / "table.jsonl"
    lines.write_text("".join(json.dumps({**row, "y": float(row["y"])}) + "\n" for row in rows))
    for path in (packed, lines):
        result = run(path, "--horizon", "5")
        assert result.exit_code == 0, result.stderr
        assert result.stdout == expected.stdout


@pytest.mark.parametrize("ending", [".csv.gz", ".jsonl"])
def test_a_manifest_may_list_other_formats(run: Run, folder: Path, ending: str) -> None:
    if ending == ".jsonl":
        days = np.datetime64("2024-01-01") + np.arange(70)
        rows = [{"ds": str(day), "y": value} for day, value in zip(days, VALUES, strict=True)]
        raw = "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        raw = gzip.compress((folder / "daily.csv").read_bytes())
    expected = run(folder)
    (folder / f"daily{ending}").write_bytes(raw)
    (folder / "daily.csv").unlink()
    assert run(folder).stdout == expected.stdout
    assert expected.exit_code == 0
