"""Corpora in the Parquet series format."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laglite.errors import InputError, LagliteWarning
from laglite.frequency import parse_frequency
from laglite.tokens import TimeAxis
from laglite_train.corpus import read_corpus

ROW: dict[str, Any] = {
    "item_id": "a",
    "start": datetime(2024, 1, 1),
    "freq": "h",
    "target": [float(value) for value in range(10)],
}
NAN = float("nan")
DAYS = parse_frequency("D")


def write(path: Path, *rows: dict[str, Any]) -> Path:
    pq.write_table(pa.Table.from_pylist([{**ROW, **row} for row in rows]), path)
    return path


def test_a_file_is_one_set_of_its_series_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "load.parquet",
        {"item_id": "north"},
        {"item_id": "south", "start": datetime(2023, 2, 3), "freq": "D", "target": [7.5] * 12},
    )
    (group,) = read_corpus([path], shortest=8)
    assert group.name == "load"
    assert [series.item_id for series in group.series] == ["north", "south"]
    assert group.points == 22
    north, south = group.series
    assert north.values.dtype == np.float32
    np.testing.assert_array_equal(north.values, np.arange(10))
    assert north.axis == TimeAxis.of("2024-01-01", "h")
    assert south.axis == TimeAxis.of("2023-02-03", "D")


def test_missing_values_are_nan_whether_null_or_nan(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"target": [None, 1.0, NAN, *[2.0] * 7]})
    values = read_corpus([path], shortest=8)[0].series[0].values
    np.testing.assert_array_equal(values, [NAN, 1.0, NAN, *[2.0] * 7])


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.int32()), pa.list_(pa.float32(), 9), pa.large_list(pa.float64())],
    ids=str,
)
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_any_list_of_numbers_and_any_time_unit_is_read(
    tmp_path: Path, kind: pa.DataType, unit: str
) -> None:
    columns = {
        "item_id": ["a"],
        "start": pa.array([ROW["start"]], pa.timestamp(unit)),
        "freq": ["h"],
        "target": pa.array([list(range(9))], kind),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (series,) = read_corpus([tmp_path / "a.parquet"], shortest=8)[0].series
    np.testing.assert_array_equal(series.values, np.arange(9))
    assert series.axis == TimeAxis.of("2024-01-01", "h")


def test_folders_give_their_parquet_files_by_name_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("b", "a"):
        write(folder / f"{name}.parquet", {})
    (folder / "README.md").write_text("notes")
    single = write(tmp_path / "single.parquet", {})
    groups = read_corpus([folder, single], shortest=8)
    assert [group.name for group in groups] == ["a", "b", "single"]


def test_folders_are_searched_in_depth_but_not_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/c", ".trash", "a"):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name / f"{name[-1]}.parquet", {})
    assert [group.name for group in read_corpus([tmp_path], shortest=8)] == ["a", "c"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    places = ["x/raw/load", "y/raw/load", "y/clean/load", "y/raw/wind"]
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / f"{place}.parquet", {})
    table = tmp_path / "y" / "raw" / "wind.csv"
    table.write_text("value\n" + "1\n" * 9)
    files = [tmp_path / f"{place}.parquet" for place in places]
    names = [group.name for group in read_corpus([*files, table], shortest=8)]
    assert names[:3] == ["x/raw/load", "y/raw/load", "clean/load"]
    assert names[3].endswith("y/raw/wind.parquet")
    assert names[4].endswith("y/raw/wind.csv")


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {})
    notes: list[str] = []
    assert len(read_corpus([tmp_path, path], shortest=8, note=notes.append)) == 1
    assert notes == [f"{path}: given twice, read once"]


def test_a_set_of_several_frequencies_is_split_on_request(tmp_path: Path) -> None:
    mixed = write(
        tmp_path / "mixed.parquet",
        {"item_id": "first"},
        {"item_id": "monthly", "freq": "MS"},
        {"item_id": "second"},
    )
    plain = write(tmp_path / "plain.parquet", {})
    (group, _) = read_corpus([mixed, plain], shortest=8)
    assert group.freqs.tolist() == ["h", "MS", "h"]
    groups = read_corpus([mixed, plain], shortest=8, split_frequencies=True)
    assert [group.name for group in groups] == ["mixed/h", "mixed/MS", "plain"]
    assert [series.item_id for series in groups[0].series] == ["first", "second"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_long_table_is_a_set_of_its_series(tmp_path: Path, ending: str) -> None:
    days = pd.date_range("2024-03-01", periods=9, freq="D")
    frame = pd.DataFrame({
        "id": ["north"] * 9 + ["south"] * 8,
        "timestamp": [*days, *days.delete(3)],
        "value": [*np.arange(9.0), *np.arange(8.0)],
    })  # fmt: skip
    path = tmp_path / f"load.{ending}"
    if ending == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    notes: list[str] = []
    (group,) = read_corpus([path], shortest=8, note=notes.append)
    assert any("frequency 'D'" in note for note in notes)
    north, south = group.series
    assert (north.item_id, south.item_id) == ("north", "south")
    assert (str(north.axis.start), north.axis.freq) == ("2024-03-01T00:00:00.000000", DAYS)
    np.testing.assert_array_equal(north.values, np.arange(9))
    np.testing.assert_array_equal(south.values, [0, 1, 2, NAN, 3, 4, 5, 6, 7])


def test_a_column_of_plain_values_is_a_series_without_times(tmp_path: Path) -> None:
    path = tmp_path / "sensor.csv"
    path.write_text("value\n" + "".join(f"{k}\n" for k in range(9)))
    (group,) = read_corpus([path], shortest=8)
    assert group.series[0].item_id == "sensor"
    assert group.series[0].axis == TimeAxis()
    assert group.freqs.tolist() == [""]


def test_a_long_value_beyond_single_precision_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "id,timestamp,value\n" + "".join(f"x,{year},1e39\n" for year in range(2000, 2009))
    )
    with pytest.raises(InputError, match=r"a\.csv, series 'x': value 1e\+39 at 0 is beyond single"):
        read_corpus([path], shortest=8, note=lambda _: None)


def test_a_parquet_file_by_another_ending_is_known_by_its_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pq", {})
    assert read_corpus([path], shortest=8)[0].name == "a"


def test_covariates_have_one_value_for_each_step(tmp_path: Path) -> None:
    rows = [[[1.0] * 10, [NAN] * 10], None, [], [[*range(13)]]]
    path = write(tmp_path / "a.parquet", *({"covariates": row} for row in rows))
    first, second, third, ahead = read_corpus([path], shortest=8)[0].series
    assert first.covariates is not None
    assert first.covariates.dtype == np.float32
    np.testing.assert_array_equal(first.covariates, rows[0])
    assert second.covariates is third.covariates is None
    np.testing.assert_array_equal(ahead.covariates, [np.arange(10)])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0] * 10, [1.0] * 9], "a covariate has 9 values, the target 10; give one for each"),
        ([[1.0] * 10, None], "a covariate is missing"),
        ([[1.0] * 9 + [float("inf")]], r"a covariate holds an infinite value \(inf\)"),
    ],
)
def test_bad_covariates_are_named_by_row(tmp_path: Path, value: Any, message: str) -> None:
    path = write(
        tmp_path / "a.parquet",
        {"covariates": [[1.0] * 10]},
        {"item_id": "bad", "covariates": value},
    )
    with pytest.raises(InputError, match=rf"a\.parquet, row 1 \(bad\): {message}"):
        read_corpus([path], shortest=8)


def test_covariates_of_another_type_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"covariates": [1.0] * 10})
    with pytest.raises(InputError, match=r"row 0 \(a\): covariates must be a list of lists of num"):
        read_corpus([path], shortest=8)


def test_short_and_all_missing_series_are_left_out_and_so_are_empty_sets(tmp_path: Path) -> None:
    mixed = write(
        tmp_path / "mixed.parquet",
        {"item_id": "short", "target": [1.0] * 7},
        {"item_id": "missing", "target": [NAN] * 20},
        {"item_id": "just", "target": [1.0] * 8},
        {"item_id": "one value", "target": [NAN] * 9 + [1.0]},
    )
    short = write(tmp_path / "short.parquet", {"target": [1.0] * 7})
    empty = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(short)[:0], empty)
    notes: list[str] = []
    groups = read_corpus([short, empty, mixed], shortest=8, note=notes.append)
    assert [group.name for group in groups] == ["mixed"]
    assert [series.item_id for series in groups[0].series] == ["just", "one value"]
    assert notes == [
        f"{short}: data set 'short' is skipped, of its 1 series: 1 shorter than 8 values",
        f"{empty}: data set 'empty' is skipped, it is empty",
        f"{mixed}: of 4 series, left out: 1 shorter than 8 values, 1 without an observed value",
    ]


def test_what_is_left_out_is_a_warning_where_no_one_takes_notes(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.parquet", {}, {"target": [1.0]})]
    with pytest.warns(LagliteWarning, match="of 2 series, left out: 1 shorter than 8 values"):
        read_corpus(paths, shortest=8)


def test_a_corpus_with_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"target": [1.0] * 7}, {"target": [NAN] * 9})
    message = (
        "no series of at least 8 values in 1 files "
        r"\(1 shorter than 8 values, 1 without an observed value\)"
    )
    with pytest.raises(InputError, match=message):
        read_corpus([path], shortest=8, note=lambda _: None)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.parquet: no such file or folder"):
        read_corpus([tmp_path / "none.parquet"], shortest=8)


def test_a_folder_without_parquet_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=r"data: no \*\.parquet file"):
        read_corpus([tmp_path / "data"], shortest=8)


@pytest.mark.parametrize("content", [b"", b"item_id,start,freq,target\n", b"PAR1" * 20])
def test_a_file_of_another_format_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: not a readable Parquet file"):
        read_corpus([path], shortest=8)


@pytest.mark.parametrize("column", ROW)
def test_a_missing_column_is_named_with_the_format(tmp_path: Path, column: str) -> None:
    rest = {name: value for name, value in ROW.items() if name != column}
    pq.write_table(pa.Table.from_pylist([rest]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet: column '{column}' is missing; .*item_id"):
        read_corpus([tmp_path / "a.parquet"], shortest=8)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("start", None, "None is not a point in time"),
        ("freq", None, "frequency 'None' is not known"),
        ("freq", "fortnight", "frequency 'fortnight' is not known"),
        ("target", None, ""),
        ("target", [float("inf")] * 10, "infinite"),
    ],
    ids=["no start", "no freq", "unknown freq", "no target", "infinite target"],
)
def test_a_bad_row_is_named_by_number_and_item(
    tmp_path: Path, column: str, value: Any, message: str
) -> None:
    path = write(tmp_path / "a.parquet", {}, {"item_id": "bad", column: value})
    with pytest.raises(InputError, match=rf"a\.parquet, row 1 \(bad\): .*{message}"):
        read_corpus([path], shortest=8)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("start", "2024-02-30"),
        ("start", 20240101),
        ("target", 1.0),
        ("target", ["one"] * 10),
        ("target", [[1.0]] * 10),
    ],
)
def test_a_column_of_the_wrong_type_is_an_error_of_its_first_row(
    tmp_path: Path, column: str, value: Any
) -> None:
    path = write(tmp_path / "a.parquet", {column: value})
    with pytest.raises(InputError, match=r"a\.parquet, row 0 \(a\): "):
        read_corpus([path], shortest=8)
