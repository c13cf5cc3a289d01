"""Twelve files as people have them, and what `laglite forecast FILE --horizon N` makes of each."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from laglite import Forecaster
from laglite.cli import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "us_births_daily.csv"
BIRTHS = pd.read_csv(EXAMPLE, parse_dates=["date"]).tail(200).reset_index(drop=True)
HOURS = pd.date_range("2024-10-20 05:00", periods=200, freq="h", tz="Europe/Berlin")
Write = Callable[[Path], None]


def german_csv(path: Path) -> None:
    """Excel's German CSV: semicolons, decimal commas, a byte order mark."""
    halves = BIRTHS.assign(births=BIRTHS["births"] / 8)
    halves.to_csv(path, sep=";", decimal=",", index=False, encoding="utf-8-sig")


def utf16_tabs(path: Path) -> None:
    BIRTHS.to_csv(path, sep="\t", index=False, encoding="utf-16")


def wide_csv(path: Path) -> None:
    """Pandas' `to_csv` of a frame with a column a series."""
    both = pd.DataFrame({"north": BIRTHS["births"], "south": BIRTHS["births"] + 7})
    both.set_axis(pd.DatetimeIndex(BIRTHS["date"]).rename(None), axis=0).to_csv(path)


def packed_long_csv(path: Path) -> None:
    """Two shops in one table, packed, with rows that are absent and cells that are empty."""
    parts = [BIRTHS.assign(shop=name) for name in ("b", "a")]
    frame = pd.concat(parts).reset_index(drop=True).drop(index=[5, 6, 210])
    frame.loc[20, "births"] = np.nan
    path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))


def gluonts_lines(path: Path) -> None:
    records = [
        {"item_id": name, "start": "1988-06-15", "freq": "D", "target": BIRTHS["births"].tolist()}
        for name in ("one", "two")
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def row_lines(path: Path) -> None:
    BIRTHS.assign(date=BIRTHS["date"].dt.strftime("%Y-%m-%d")).to_json(
        path, orient="records", lines=True
    )


def zoned_parquet(path: Path) -> None:
    """Hours over the end of summer time, in a column that knows its zone."""
    pq.write_table(pa.table({"ds": pa.array(HOURS), "y": BIRTHS["births"]}), path)


def offsets_csv(path: Path) -> None:
    """The same hours as text with their UTC offsets."""
    frame = pd.DataFrame({"time": [t.isoformat() for t in HOURS], "value": BIRTHS["births"]})
    frame.to_csv(path, index=False)


def naive_csv(path: Path) -> None:
    """The same hours as the clock on the wall showed them."""
    frame = pd.DataFrame({"time": HOURS.tz_localize(None), "value": BIRTHS["births"]})
    frame.to_csv(path, index=False)


def thousands_csv(path: Path) -> None:
    births = [f"{value:,.0f}" for value in BIRTHS["births"]]
    BIRTHS.assign(births=births).to_csv(path, index=False)


def latin_csv(path: Path) -> None:
    BIRTHS.rename(columns={"births": "Geburten (täglich)"}).to_csv(
        path, index=False, encoding="latin-1"
    )


def american_csv(path: Path) -> None:
    BIRTHS.assign(date=BIRTHS["date"].dt.strftime("%m/%d/%Y")).to_csv(path, index=False)


def monthly_csv(path: Path) -> None:
    """First days of months, or the first twelve days of Januaries."""
    months = pd.date_range("1988-01-01", periods=12, freq="MS").strftime("%d/%m/%Y")
    BIRTHS[:12].assign(date=months).to_csv(path, index=False)


# file, how it is written, ids and first time of its forecasts, and what is said of it
RIGHT = [
    ("german.csv", german_csv, [None], "1989-01-01", "semicolons between the cells and a comma"),
    ("sheet.txt", utf16_tabs, [None], "1989-01-01", "read with tabs between the cells"),
    ("wide.csv", wide_csv, ["north", "south"], "1989-01-01", "wide table: 2 series, one for each"),
    ("shops.csv.gz", packed_long_csv, ["b", "a"], "1989-01-01", "2 timestamps are absent"),
    ("gluonts.jsonl", gluonts_lines, ["one", "two"], "1989-01-01", ""),
    ("rows.ndjson", row_lines, [None], "1989-01-01", "(all 199 steps are 1 day)"),
    ("zoned.parquet", zoned_parquet, [None], "2024-10-28 12:00:00+01:00", "zone Europe/Berlin"),
    ("american.csv", american_csv, [None], "1989-01-01", "month first, as '06/15/1988' in row 2"),
    ("offsets.csv", offsets_csv, [None], "2024-10-28 12:00:00+01:00", "UTC offsets +01:00, +02:00"),
]  # fmt: skip
WRONG = [
    ("naive.csv", naive_csv, "row 168: 2024-10-27 02:00:00 comes a second time, as in the hour"),
    ("thousands.csv", thousands_csv, "is not a number; write numbers without thousands"),
    ("latin.csv", latin_csv, "row 1: not UTF-8 text (byte 16); if it is Latin-1: iconv"),
    ("monthly.csv", monthly_csv, "'01/01/1988' may have the day or the month first, and no date"),
]


def names(cases: Sequence[tuple[object, ...]]) -> list[str]:
    return [str(case[0]) for case in cases]


@pytest.fixture
def run(tiny_bundle: Path, tmp_path: Path) -> Callable[[str, Write], object]:
    """Write a file and forecast it two steps ahead: exit code, rows and what was said."""

    def call(name: str, write: Write) -> tuple[int, list[dict[str, str]], str]:
        write(tmp_path / name)
        arguments = ["forecast", str(tmp_path / name), "--horizon", "2"]
        result = CliRunner().invoke(main, [*arguments, "--model", str(tiny_bundle), "--seed", "1"])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, list(csv.DictReader(io.StringIO(result.stdout))), result.stderr

    return call


def test_there_are_twelve_or_more() -> None:
    assert len(RIGHT) + len(WRONG) >= 12


@pytest.mark.parametrize(("name", "write", "items", "first", "said"), RIGHT, ids=names(RIGHT))
def test_a_file_of_another_shape_is_forecast(
    run: Callable[..., tuple[int, list[dict[str, str]], str]],
    tiny: Forecaster,
    name: str,
    write: Write,
    items: list[str | None],
    first: str,
    said: str,
) -> None:
    code, rows, notes = run(name, write)
    assert code == 0, notes
    assert said in notes
    assert [row.get("unique_id") for row in rows] == [item for item in items for _ in range(2)]
    assert [row["ds"] for row in rows[::2]] == [first] * len(items)
    values = BIRTHS["births"].to_numpy(np.float64)
    start, freq = "1988-06-15", "D"
    if name == "german.csv":
        values = values / 8
    elif name == "shops.csv.gz":
        values[[5, 6, 20]] = np.nan
    elif first.startswith("2024"):
        start, freq = "2024-10-20 04:00", "h"  # the wall clock of the last row
    expected = tiny.predict(values, horizon=2, start=start, freq=freq, seed=1).mean
    np.testing.assert_allclose([float(row["mean"]) for row in rows[:2]], expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "write", "message"), WRONG, ids=names(WRONG))
def test_a_file_that_cannot_be_right_is_refused_with_its_place(
    run: Callable[..., tuple[int, list[dict[str, str]], str]],
    name: str,
    write: Write,
    message: str,
) -> None:
    code, rows, said = run(name, write)
    assert (code, rows) == (1, [])
    errors = [line for line in said.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert name in errors[0]
    assert message in errors[0]
