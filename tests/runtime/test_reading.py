"""Reading CSV and Parquet: what comes out, what is said about it, and what is refused where."""

from __future__ import annotations

import io
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from laglite.errors import InputError, MissingDependencyError
from laglite.reading import Columns, covariates_over, read_series
from tests.runtime.conftest import Read

NAN = np.nan
LONG = Columns(item="id", time="ds", target="y")


def days(*numbers: int) -> list[str]:
    return [f"2024-05-{number:02d}" for number in numbers]


def test_a_long_table_becomes_a_series_for_each_id_in_order_of_appearance(read: Read) -> None:
    rng = np.random.default_rng(1)
    index = pd.MultiIndex.from_product([pd.date_range("2024-02-27", periods=40), ["b", "a", "7"]])
    frame = pd.DataFrame({"y": rng.normal(size=120) * 1e6}, index=index.set_names(["ds", "id"]))
    frame.loc[rng.random(120) < 0.3, "y"] = NAN
    series, _ = read(frame.reset_index().to_csv(index=False))
    assert [each.item_id for each in series] == ["b", "a", "7"]
    for each in series:
        np.testing.assert_array_equal(each.values, frame.xs(each.item_id, level="id")["y"])
        assert each.start == np.datetime64("2024-02-27")
        assert each.freq is not None
        assert each.freq.alias == "D"


def test_a_single_series_needs_no_id(read: Read) -> None:
    (series,), notes = read("month,sales\n2024-01,1\n2024-02,2.5\n2024-03,-3e2\n")
    assert series.item_id is None
    assert series.values.tolist() == [1, 2.5, -300]
    assert series.start == np.datetime64("2024-01-01")
    assert notes[0] == "columns: time 'month', target 'sales'"
    assert notes[1].endswith("frequency 'MS' (all 2 steps are 1 month), from the timestamps")


@pytest.mark.parametrize("text", ["y\n1\n2\n\n", "1\n2\n", "1\r\n2\r\n", "1\r2", "\ufeffy\n1\n2\n"])
def test_one_column_is_the_values_with_or_without_a_header(read: Read, text: str) -> None:
    (series,), notes = read(text)
    assert series.values.tolist() == [1, 2]
    assert (series.item_id, series.start, series.freq, notes) == (None, None, None, [])


def test_a_frequency_without_times_is_kept(read: Read) -> None:
    (series,), _ = read("1\n2\n", freq="15min")
    assert series.start is None
    assert series.freq is not None
    assert series.freq.alias == "15min"


@pytest.mark.parametrize("cell", ["", " ", "NaN", "nan", "NA", "n/a", "null", "None"])
def test_an_empty_cell_is_a_missing_value(read: Read, cell: str) -> None:
    (series,), _ = read(f"ds,y\n2024-05-01,1\n2024-05-02,{cell}\n2024-05-03,3\n")
    np.testing.assert_array_equal(series.values, [1, NAN, 3])


def test_a_gap_in_the_timestamps_becomes_a_missing_value(read: Read) -> None:
    times = pd.DatetimeIndex(days(1, 2, 4, 5, 9))
    (series,), notes = read({"ds": times, "y": np.arange(5.0)})
    expected = pd.Series(np.arange(5.0), times).asfreq("D")
    np.testing.assert_array_equal(series.values, expected)
    assert "4 timestamps are absent" in notes[1]
    assert "first: 2024-05-03" in notes[1]


def test_a_given_frequency_puts_even_one_row_on_a_grid(read: Read) -> None:
    (series,), notes = read("ds,y\n2024-05-01,1\n", freq="h")
    assert (series.values.tolist(), series.start) == ([1], np.datetime64("2024-05-01"))
    assert not any("frequency" in note for note in notes)
    (series,), _ = read("ds,y\n2024-05-01,1\n2024-05-01 02:00,3\n", freq="h")
    np.testing.assert_array_equal(series.values, [1, NAN, 3])


def test_named_columns_are_taken_without_a_word(read: Read) -> None:
    text = "ds,key,when,y,amount\n2024-01-01,a,2024-05-01,8,1\n2024-01-02,a,2024-05-02,9,2\n"
    (series,), notes = read(text, Columns("key", "when", "amount"), freq="D")
    assert (series.item_id, series.start) == ("a", np.datetime64("2024-05-01"))
    assert series.values.tolist() == [1, 2]
    assert notes == []


@pytest.mark.parametrize(
    ("header", "note"),
    [
        ("unique_id,ds,y", "columns: id 'unique_id', time 'ds', target 'y'"),
        ("\ufeffunique_id,ds,y", "columns: id 'unique_id', time 'ds', target 'y'"),
        ("shop,DATE,sold", "columns: id 'shop', time 'DATE', target 'sold'"),
        (" shop , when , sold ", "columns: id 'shop', time 'when', target 'sold'"),
        ("shop,ds,y,price", "columns: id 'shop', time 'ds', target 'y'"),
    ],
)
def test_a_usual_name_or_the_only_fitting_column_is_guessed(
    read: Read, header: str, note: str
) -> None:
    price = ",5" * (header.count(",") - 2)
    (series,), notes = read(f"{header}\n" + "".join(f"a,{day},1{price}\n" for day in days(1, 2, 3)))
    assert series.values.tolist() == [1, 1, 1]
    assert notes[0] == note


@pytest.mark.parametrize("times", [days(1, 2, 3), pd.DatetimeIndex(days(1, 2, 3)).date])
def test_parquet_takes_text_dates_nulls_and_integers(read: Read, times: Any) -> None:
    (series,), _ = read({"ds": pa.array(times), "y": pa.array([1, None, 3], pa.int32())})
    np.testing.assert_array_equal(series.values, [1, NAN, 3])
    assert series.start == np.datetime64("2024-05-01")


@pytest.mark.parametrize("ids", [[1, 2], [1_000_001, 1_000_002], [2**53, 2**53 + 1]])
def test_integer_ids_stay_apart(read: Read, ids: list[int]) -> None:
    series, _ = read({"id": np.repeat(ids, 3), "ds": days(1, 2, 3) * 2, "y": np.arange(6.0)})
    assert [each.item_id for each in series] == [str(number) for number in ids]


def test_integers_of_a_parquet_column_are_no_times(read: Read) -> None:
    with pytest.raises(InputError, match="row 0, column 'year'"):
        read({"year": [2001, 2002, 2003], "y": [1.0, 2.0, 3.0]}, Columns(time="year"))


def test_the_parquet_series_format_holds_a_series_in_each_row(read: Read) -> None:
    table = {
        "item_id": ["a", "b"],
        "start": ["2024-05-01", "2024-05-01 06:00"],
        "freq": ["D", "15min"],
        "target": [[1.0, None, 3.0], [4.0]],
    }
    (a, b), notes = read(table)
    np.testing.assert_array_equal(a.values, [1, NAN, 3])
    assert (a.item_id, a.start) == ("a", np.datetime64("2024-05-01"))
    assert (b.item_id, b.start) == ("b", np.datetime64("2024-05-01T06:00"))
    assert [each.freq and each.freq.alias for each in (a, b)] == ["D", "15min"]
    assert notes == []


@pytest.mark.parametrize(
    "wrong", [{"start": "soon"}, {"freq": "X"}, {"target": ["x"]}, {"target": 5.0}], ids=str
)
def test_a_fault_in_the_series_format_names_the_row(read: Read, wrong: dict[str, Any]) -> None:
    right = {"item_id": "a", "start": "2024-05-01", "freq": "D", "target": [1.0]}
    rows = [{**right, **wrong}]
    if "target" not in wrong:
        rows = [right, *rows]
    with pytest.raises(InputError, match=rf"row {len(rows) - 1} \(a\)"):
        read(pa.Table.from_pylist(rows))


def test_a_dash_reads_csv_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"y\n1\n2\n")))
    (series,) = read_series("-", Columns(), None, print)
    assert series.values.tolist() == [1, 2]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(InputError, match="standard input: the file is empty"):
        read_series("-", Columns(), None, print)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "folder/none.csv", "."])
def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_series(str(tmp_path / name), Columns(), None, print)
    assert str(tmp_path / name) in str(caught.value)


def test_what_is_not_parquet_or_has_no_rows_is_refused(read: Read, tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text("ds,y\n")
    with pytest.raises(InputError, match=r"bad\.parquet: cannot be read as Parquet"):
        read_series(str(tmp_path / "bad.parquet"), Columns(), None, print)
    with pytest.raises(InputError, match="the table has no rows"):
        read({"ds": pa.array([], pa.string()), "y": pa.array([], pa.float64())})


def test_parquet_without_pyarrow_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'laglite\[tables\]'"):
        read_series("data.parquet", Columns(), None, print)


def test_a_missing_time_in_parquet_is_refused_with_its_row_from_zero(read: Read) -> None:
    times = pa.array([pd.Timestamp("2024-05-01"), None, pd.Timestamp("2024-05-03")])
    with pytest.raises(InputError, match="row 1, column 'ds': the time is missing"):
        read({"ds": times, "y": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"y\n1\n\xff\n", r"not UTF-8 text \(byte 4\)"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("ds,y\n", "there is a header, but no row of values"),
        ('y\n"1"2\n', "not valid CSV"),
        ("ds,y,y\n2024-05-01,1,2\n", "the header names column 'y' twice"),
        ("ds;y\n2024-05-01;1\n", r"too few timestamps.*--freq"),
        ("a,b\n1,2\n", r"several columns could be the target column \(a, b\).*--target-column"),
        ("p,q,y\nu,v,2\n", r"several columns could be the id column \(p, q\).*--id-column"),
        ("id,item_id,y\n1,1,2\n", r"several columns could be the id column.*--id-column"),
        ("ds,date,y\n2024,2024,1\n", r"be the time column \(ds, date\).*--time-column"),
        ("ds,y\n2024-05-01,1\n2024-05-02,2\n", r"too few timestamps.*--freq"),
        ("ds,y\n2024-05-01,1\n2024-05-02,1\n2024-05-03 01:00,1\n", "are not regular"),
        ("ds,y\nsoon,1\n2024-05-02,2\n2024-05-03,3\n", "row 2, column 'ds': 'soon' is not a time"),
        ("ds,y\n,1\n2024-05-02,2\n2024-05-03,3\n", "row 2, column 'ds': .* is not a time"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(read: Read, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"(?s)data\.csv.*{message}"):
        read(content)


@pytest.mark.parametrize("role", ["item", "time", "target"])
def test_a_column_that_is_not_there_is_refused_with_those_that_are(read: Read, role: str) -> None:
    with pytest.raises(InputError, match="no column 'z'; the columns are ds, y"):
        read("ds,y\n2024-05-01,1\n", Columns(**{role: "z"}))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,{day}", "2 cells where the header has 3"),
        ("a,{day},1,2", "4 cells where the header has 3"),
        ("", "a blank line between the values; write NaN"),
        (",,", "a blank line between the values; write NaN"),
        ("a,{day},x1", "column 'y': 'x1' is not a number"),
        ('a,{day},"1,5"', "column 'y': '1,5' is not a number; write decimals with a point"),
        ("a,{day},inf", "column 'y': infinite value; leave the cell empty"),
        ("a,{day},-1e999", "column 'y': infinite value; leave the cell empty"),
        ("a,,1", "column 'ds': '' is not a timestamp"),
        ("a,2024-02-30,1", "column 'ds': '2024-02-30' is not a timestamp"),
        ("a,{day} 00:00Z,1", "column 'ds': a time with a UTC offset, unlike those before"),
        (",{day},1", "column 'id': the id is missing"),
        ("a,2024-05-01,1", "2024-05-01 (appears twice; keep|comes after .*; sort the rows)"),
        ("a,2024-04-02,1", "2024-04-02 comes after 2024-05-.*; sort the rows by time"),
        ("a,{day} 01:00,1", "{day} 01:00:00 is not on the grid of frequency 'D' from 2024-05-01"),
    ],
)
@pytest.mark.parametrize("number", [3, 4, 20])
@pytest.mark.parametrize("above", ["", "\n\n"], ids=["", "blank lines above"])
def test_a_fault_is_refused_with_its_line_in_the_file(
    read: Read, line: str, message: str, number: int, above: str
) -> None:
    lines = ["id,ds,y", *(f"a,{day},1" for day in days(*range(1, 31)))]
    day = days(number - 1)[0]
    lines[number - 1] = line.format(day=day)
    row = number + len(above)
    expected = rf"data\.csv(, series 'a')?, row {row}(:|,) {message.format(day=day)}"
    with pytest.raises(InputError, match=expected):
        read(above + "\n".join(lines) + "\n", LONG, freq="D")


@pytest.mark.parametrize("freq", ["us", None])
def test_rows_that_span_an_absurd_number_of_steps_are_refused(read: Read, freq: str | None) -> None:
    times = ["2024-05-01 00:00:00.000000", "2024-05-01 00:00:00.000001", "2124-05-01 00:00"]
    with pytest.raises(InputError, match=r"3 rows span .* steps of frequency 'us'"):
        read("ds,y\n" + "".join(f"{time},1\n" for time in times), freq=freq)


def promotions(ahead: int, *, times: bool = True, item: str = "") -> str:
    """Four days of sales, and `ahead` more whose price is known."""
    lines = []
    for day in range(1, 5 + ahead):
        target = f"{day * 10}" if day < 5 else ""
        cells = [item] if item else []
        cells += [f"2024-05-{day:02d}"] if times else []
        lines.append(",".join([*cells, target, f"{day / 2}", f"{day % 2}"]))
    return "\n".join(lines) + "\n"


NAMED = Columns(covariates=("promo", "price"))


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("times", [True, False])
def test_rows_without_a_target_at_the_end_hold_the_covariates_to_come(
    read: Read, ahead: int, times: bool
) -> None:
    header = "ds,y,price,promo\n" if times else "y,price,promo\n"
    (series,), _ = read(header + promotions(ahead, times=times), NAMED)
    assert series.values.tolist() == [10, 20, 30, 40]
    assert series.covariates is not None
    np.testing.assert_array_equal(
        series.covariates, [[day % 2, day / 2] for day in range(1, 5 + ahead)]
    )
    assert (series.start is not None) == times


def test_each_series_of_a_long_table_has_its_own_covariates(read: Read) -> None:
    text = "id,ds,y,price,promo\n" + promotions(2, item="b") + promotions(3, item="a")
    (b, a), notes = read(text, NAMED)
    assert notes[0] == "columns: id 'id', time 'ds', target 'y'"
    for series, ahead in ((b, 2), (a, 3)):
        assert series.covariates is not None
        assert (len(series.values), len(series.covariates)) == (4, 4 + ahead)


def test_without_naming_covariates_rows_without_a_target_are_missing_values(read: Read) -> None:
    (series,), _ = read(
        "ds,y,price,promo\n" + promotions(2), Columns(target="y", time="ds", item=None)
    )
    np.testing.assert_array_equal(series.values, [10, 20, 30, 40, NAN, NAN])
    assert series.covariates is None


def test_a_gap_in_the_timestamps_is_a_gap_in_the_covariates(read: Read) -> None:
    text = "ds,y,price,promo\n" + promotions(2).replace("2024-05-02,20,1.0,0\n", "")
    (series,), _ = read(text, NAMED)
    np.testing.assert_array_equal(series.values, [10, NAN, 30, 40])
    assert series.covariates is not None
    assert np.isnan(series.covariates[1]).all()
    assert not np.isnan(np.delete(series.covariates, 1, axis=0)).any()


@pytest.mark.parametrize("cells", [[[1.0, 2.0, 3.0], [4.0, None, 6.0]], [7.0, 8.0, 9.0]])
def test_the_series_format_holds_covariates_as_lists(read: Read, cells: list[Any]) -> None:
    table = {
        "item_id": ["a"], "start": ["2024-05-01"], "freq": ["D"], "target": [[1.0, 2.0]],
        "covariates": [cells],
    }  # fmt: skip
    (series,), _ = read(table, Columns(covariates=("covariates",)))
    np.testing.assert_array_equal(series.covariates, np.atleast_2d(np.array(cells, np.float64)).T)
    (plain,), _ = read(table)
    assert plain.covariates is None


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([1.0], r"row 0 \(a\): 1 values of covariates for 2 of the target"),
        ([[1.0, 2.0], [1.0]], "covariates must be a list of numbers, or several of one length"),
        (["x", "y"], "covariates must be a list of numbers"),
        (None, "covariates must be a list of numbers"),
        (3.0, "covariates must be a list of numbers"),
        ([[[1.0]], [[2.0]]], "covariates must be a list of numbers"),
    ],
    ids=str,
)
def test_covariates_that_are_no_lists_as_long_as_the_target_are_refused(
    read: Read, cell: Any, message: str
) -> None:
    row = {
        "item_id": "a", "start": "2024-05-01", "freq": "D", "target": [1.0, 2.0],
        "covariates": cell,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        read(pa.Table.from_pylist([row]), Columns(covariates=("covariates",)))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(covariates=("cost",)), "no column 'cost'; the columns are ds, y, price, promo"),
        (Columns(target="y", covariates=("y",)), "the covariate 'y' is named for something else"),
        (Columns(covariates=("price", "price")), "the covariate 'price' is named for something"),
    ],
)
def test_covariates_that_are_not_there_or_named_twice_are_refused(
    read: Read, columns: Columns, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read("ds,y,price,promo\n" + promotions(1), columns)


def test_a_covariate_that_is_no_number_is_refused_with_its_row(read: Read) -> None:
    with pytest.raises(InputError, match="row 3, column 'price': 'low' is not a number"):
        read("ds,y,price,promo\n" + promotions(1).replace("1.0", "low"), NAMED)


def test_covariates_over_the_horizon_are_cut_to_it(read: Read) -> None:
    (series,), _ = read("ds,y,price,promo\n" + promotions(3), NAMED)
    assert series.covariates is not None
    known = covariates_over(series, 2, "file", NAMED.covariates)
    np.testing.assert_array_equal(known, series.covariates[:6])
    (plain,), _ = read("1\n2\n")
    assert covariates_over(plain, 2, "file", ()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (promotions(1), "1 are there, 2 are missing: add rows with an empty target"),
        (promotions(0), "0 are there, 3 are missing"),
        (promotions(3).replace(",3.0,", ",,"), "'price' is missing at 2024-05-06, but must be"),
        (promotions(3).replace("2024-05-05,,2.5,1\n", ""), "'promo' is missing at 2024-05-05"),
        ("2024-05-01,,1,2\n2024-05-02,,1,2\n2024-05-03,,1,2\n", "all 3 values are missing"),
    ],
)
def test_covariates_that_end_within_the_horizon_are_refused(
    read: Read, text: str, message: str
) -> None:
    (series,), _ = read("ds,y,price,promo\n" + text, NAMED)
    with pytest.raises(InputError, match=f"^file: .*{message}"):
        covariates_over(series, 3, "file", NAMED.covariates)


def test_covariates_to_come_are_missed_by_step_where_there_are_no_times(read: Read) -> None:
    text = "id,y,price,promo\n" + promotions(2, times=False, item="shop").replace("3.0", "")
    (series,), _ = read(text, NAMED)
    with pytest.raises(InputError, match="series 'shop': .* at step 2 after the last value"):
        covariates_over(series, 2, "file", NAMED.covariates)


def test_a_time_column_without_dates_is_named_as_left_out(read: Read) -> None:
    (series,), notes = read("timestamp,value\n1700000200,3\n1700000100,2\n1700000000,1\n")
    assert series.start is None
    assert any("column 'timestamp' holds no dates and is left out" in note for note in notes)


def test_a_missing_first_time_is_an_error_of_its_row_not_a_series_without_times(
    read: Read,
) -> None:
    times = pa.array([None, *(datetime(2024, 1, day) for day in (2, 3, 4))], pa.timestamp("us"))
    with pytest.raises(InputError, match="missing"):
        read({"ds": times, "y": np.arange(4.0)})
