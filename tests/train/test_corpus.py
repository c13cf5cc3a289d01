"""Corpora in the Parquet series format."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laglite.errors import InputError
from laglite.tokens import TimeAxis
from laglite_train.corpus import read_corpus

ROW: dict[str, Any] = {
    "item_id": "a",
    "start": datetime(2024, 1, 1),
    "freq": "h",
    "target": [float(value) for value in range(10)],
}
NAN = float("nan")


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


def test_short_and_all_missing_series_are_left_out_and_so_are_empty_sets(tmp_path: Path) -> None:
    mixed = write(
        tmp_path / "mixed.parquet",
        {"item_id": "short", "target": [1.0] * 7},
        {"item_id": "missing", "target": [NAN] * 20},
        {"item_id": "just", "target": [1.0] * 8},
        {"item_id": "one value", "target": [NAN] * 9 + [1.0]},
    )
    short = write(tmp_path / "short.parquet", {"target": [1.0] * 7})
    groups = read_corpus([short, mixed], shortest=8)
    assert [group.name for group in groups] == ["mixed"]
    assert {"just"} <= {series.item_id for series in groups[0].series} <= {"just", "one value"}


def test_a_corpus_with_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"target": [1.0] * 7}, {"target": [NAN] * 9})
    with pytest.raises(InputError, match="no series of at least 8 values in 1 files"):
        read_corpus([path], shortest=8)


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
