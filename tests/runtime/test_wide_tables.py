"""Wide tables: a time column, and a series in each of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from laglite.errors import InputError
from laglite.reading import Columns, TableForm
from tests.runtime.conftest import Read

WIDE = Columns(form=TableForm(wide=True))
FRAME = pd.DataFrame(
    {"north": [1.0, 2.0, np.nan, 4.0], "south": [5.0, 6.0, 7.0, 8.0]},
    index=pd.date_range("2024-05-01", periods=4, name="when"),
)


@pytest.mark.parametrize("index", [True, False], ids=["csv", "parquet"])
def test_several_columns_of_numbers_beside_the_times_are_a_series_each(
    read: Read, index: bool
) -> None:
    content: Any = FRAME.to_csv() if index else FRAME.reset_index()
    series, notes = read(content if index else {n: content[n] for n in content.columns})
    assert [each.item_id for each in series] == ["north", "south"]
    for each in series:
        np.testing.assert_array_equal(each.values, FRAME[each.item_id])
        assert each.start == np.datetime64("2024-05-01")
        assert each.freq is not None
        assert each.freq.alias == "D"
    assert notes[0] == "wide table: 2 series, one for each column, time 'when'"


def test_a_gap_is_a_missing_value_of_every_series(read: Read) -> None:
    series, notes = read(FRAME.drop(FRAME.index[1]).to_csv())
    expected = FRAME.copy()
    expected.iloc[1] = np.nan
    for each in series:
        np.testing.assert_array_equal(each.values, expected[each.item_id])
    assert "1 timestamp is absent" in notes[1]


@pytest.mark.parametrize(
    "header", ["when,y,price", "when,value,b", "shop,when,y", "when,unique_id,b"]
)
def test_usual_names_keep_a_table_long(read: Read, header: str) -> None:
    rows = FRAME.fillna(3).to_csv(header=False)
    names = header.split(",")
    if names[0] == "shop":
        rows = "".join(f"a,{line.rsplit(',', 1)[0]}\n" for line in rows.splitlines())
    if "unique_id" in names:
        rows = "".join(f"2024-05-0{day},1,{day}\n" for day in range(1, 5))
    series, _ = read(f"{header}\n{rows}")
    assert len(series) == 1


def test_wide_forces_what_the_names_would_not_say(read: Read) -> None:
    text = FRAME.rename(columns={"north": "y"}).to_csv()
    assert len(read(text)[0]) == 1
    assert [each.item_id for each in read(text, WIDE)[0]] == ["y", "south"]


def test_a_target_column_picks_one(read: Read) -> None:
    (series,), _ = read(FRAME.to_csv(), Columns(target="south"))
    assert series.item_id is None
    np.testing.assert_array_equal(series.values, FRAME["south"])


def test_numbers_may_name_the_series_beside_a_usual_name(read: Read) -> None:
    series, _ = read(FRAME.rename_axis("ds").set_axis(["101", "102"], axis=1).to_csv())
    assert [each.item_id for each in series] == ["101", "102"]


def test_wide_rows_without_times_are_taken_in_their_order(read: Read) -> None:
    series, notes = read("a,b\n1,2\n3,4\n", WIDE)
    assert [each.values.tolist() for each in series] == [[1, 3], [2, 4]]
    assert series[0].start is None
    assert notes == ["wide table: 2 series, one for each column"]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("ds,a,b\n2024-05-01,1,x\n", WIDE, "row 2, column 'b': 'x' is not a number"),
        ("ds,a,a\n2024-05-01,1,2\n", Columns(), "the header names column 'a' twice"),
        ("ds\n2024-05-01\n", WIDE, "no column of values beside 'ds'"),
        ("a,b\n1,2\n", Columns(), "choose with --target-column, or give --wide if each of them"),
        (
            "ds,a,b\n2024-05-01,1,2\n",
            Columns(target="a", form=TableForm(wide=True)),
            "each column is a series; leave out --target-column, or --wide",
        ),
        (
            "ds,a,b\n2024-05-01,1,2\n",
            Columns(covariates=("a",), form=TableForm(wide=True)),
            "each column is a series; leave out --covariates, or --wide",
        ),
    ],
)
def test_a_wide_table_that_makes_no_sense_is_refused(
    read: Read, text: str, columns: Columns, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(text, columns)
