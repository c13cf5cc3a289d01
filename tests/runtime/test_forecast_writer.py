"""Forecasts in files: the forecast's own numbers, or no file at all."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from laglite.atomic_file import check_place, replacing
from laglite.errors import InputError, MissingDependencyError
from laglite.forecast import Forecast
from laglite.forecast_writer import check_output, render_csv, write_forecasts
from laglite.frequency import parse_frequency

LEVELS = (0.05, 0.5, 0.9)
ENDINGS = (".csv", ".csv.gz", ".json", ".jsonl", ".jsonl.gz", ".parquet")
NOON = "2024-02-28 12:00"


def forecast(
    item_id: str | None = None, start: str | None = NOON, freq: str = "6h", steps: int = 7
) -> Forecast:
    rng = np.random.default_rng(steps)
    samples = rng.lognormal(3, 2, size=(50, steps)).astype(np.float32)
    if start is None:
        return Forecast(samples, None, None, item_id)
    return Forecast(samples, np.datetime64(start, "us"), parse_frequency(freq), item_id)


def read(path: Path) -> pd.DataFrame:
    """The table of a CSV or Parquet file, or of JSON records put one below the other."""
    if ".csv" in path.suffixes:
        return pd.read_csv(path)
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pandas()
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = ".jsonl" in path.suffixes
    frames = []
    for record in [json.loads(line) for line in text.splitlines()] if lines else json.loads(text):
        quantiles = record.pop("quantiles")
        del record["freq"]
        frames.append(pd.DataFrame({**record, **quantiles}))
    return pd.concat(frames, ignore_index=True).dropna(axis="columns", how="all")


def times(start: str, freq: str, steps: int) -> list[pd.Timestamp]:
    return list(pd.date_range(start, periods=steps, freq=freq))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_holds_the_means_and_quantiles_of_the_samples(tmp_path: Path, ending: str) -> None:
    one = forecast()
    write_forecasts(str(tmp_path / f"out{ending}"), [one], LEVELS)
    frame = read(tmp_path / f"out{ending}")
    assert list(frame.columns) == ["ds", "mean", "0.05", "0.5", "0.9"]
    assert [pd.Timestamp(time) for time in frame["ds"]] == times(NOON, "6h", 7)
    samples = one.samples.astype(np.float64)
    np.testing.assert_allclose(frame["mean"], samples.mean(axis=0), rtol=1e-6)
    for level in LEVELS:
        expected = np.quantile(samples, level, axis=0)
        np.testing.assert_allclose(frame[f"{level:g}"], expected, rtol=1e-6)


@pytest.mark.parametrize("ending", ENDINGS)
def test_several_series_stand_one_below_the_other(tmp_path: Path, ending: str) -> None:
    several = [forecast("a", steps=3), forecast("b, with a comma", "2024-05-01", "MS", 4)]
    write_forecasts(str(tmp_path / f"out{ending}"), several, LEVELS)
    frame = read(tmp_path / f"out{ending}")
    assert list(frame["unique_id"]) == ["a"] * 3 + ["b, with a comma"] * 4
    expected = times(NOON, "6h", 3) + times("2024-05-01", "MS", 4)
    assert [pd.Timestamp(time) for time in frame["ds"]] == expected
    medians = np.concatenate([np.median(each.samples, axis=0) for each in several])
    np.testing.assert_allclose(frame["0.5"], medians, rtol=1e-6)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_series_without_times_has_step_numbers(tmp_path: Path, ending: str) -> None:
    write_forecasts(str(tmp_path / f"out{ending}"), [forecast(start=None, steps=4)], [0.5])
    frame = read(tmp_path / f"out{ending}")
    assert list(frame.columns) == ["step", "mean", "0.5"]
    assert frame["step"].tolist() == [1, 2, 3, 4]


def test_all_series_of_a_table_have_step_numbers_if_one_has_no_times() -> None:
    text = render_csv([forecast("a", steps=2), forecast("b", start=None, steps=2)], [])
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["unique_id", "step", "mean"]
    assert [row[:2] for row in rows[1:]] == [["a", "1"], ["a", "2"], ["b", "1"], ["b", "2"]]


def test_json_keeps_the_frequency_and_every_digit(tmp_path: Path) -> None:
    one = forecast("a", freq="15T")
    write_forecasts(str(tmp_path / "out.json"), [one], [0.5])
    (record,) = json.loads((tmp_path / "out.json").read_text())
    assert (record["unique_id"], record["freq"]) == ("a", "15T")
    assert np.array_equal(np.array(record["mean"], np.float32), one.mean)
    assert np.array_equal(np.array(record["quantiles"]["0.5"], np.float32), one.median)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_times_of_a_file_share_one_format_that_pandas_reads(
    tmp_path: Path, ending: str
) -> None:
    write_forecasts(str(tmp_path / f"out{ending}"), [forecast(freq="6h")], [0.5])
    frame = read(tmp_path / f"out{ending}")
    assert pd.to_datetime(frame["ds"]).tolist() == times(NOON, "6h", 7)


@pytest.mark.parametrize("path", [None, "-"])
def test_standard_output_is_always_allowed(path: str | None) -> None:
    check_output(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_can_be_written_is_not_touched_by_the_check(
    tmp_path: Path, ending: str
) -> None:
    check_output(str(tmp_path / f"out{ending}"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.xlsx", r"out\.xlsx: the ending must be one of \.csv, .*\.parquet, or use -"),
        ("out", "the ending must be one of"),
        ("folder.csv", r"folder\.csv: is a directory"),
        ("absent/out.csv", "the folder .*absent does not exist"),
        ("file/out.csv", "the folder .*file does not exist"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=message):
        check_output(str(tmp_path / name))


def test_parquet_without_pyarrow_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'laglite\[tables\]'"):
        check_output(str(tmp_path / "out.parquet"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failure_while_writing_leaves_the_old_file_as_it_was(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    path.write_text("old")
    with pytest.raises(InputError, match=r"quantile 1\.5"):
        write_forecasts(str(path), [forecast()], [0.5, 1.5])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


@pytest.mark.parametrize("ending", [".csv", ".json"])
def test_a_full_disk_is_an_input_error_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    def write_half(path: Path, text: str, **_: Any) -> None:
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(InputError, match="No space left"):
        write_forecasts(str(tmp_path / f"out{ending}"), [forecast()], LEVELS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["absent/out.csv", "file/out.csv", "folder", "n" * 300])
def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"), replacing(tmp_path / name):
        pass
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_block_leaves_no_temporary_file_behind(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def write_and_fail() -> None:
        with replacing(tmp_path / "out.txt") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG])
def test_a_place_without_room_or_permission_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    for check in (check_place, lambda path: check_output(str(path))):
        with pytest.raises(InputError, match=rf"out\.csv: cannot be written \({os.strerror(code)}"):
            check(tmp_path / "out.csv")


def test_the_check_of_a_place_leaves_nothing_behind(tmp_path: Path) -> None:
    check_place(tmp_path / "out.csv")
    assert not list(tmp_path.iterdir())


def test_a_finished_block_replaces_the_file_and_honours_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    before = os.umask(0o027)
    try:
        with replacing(path) as temporary:
            assert temporary.parent == tmp_path
            temporary.write_text("new")
            assert path.read_text() == "old"
    finally:
        os.umask(before)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
