"""Dates as spreadsheets and statistical offices write them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from laglite.cli import main
from laglite.errors import InputError
from laglite.frequency import parse_timestamp
from laglite.reading import Columns, TableForm
from laglite.reading.dates import as_iso, is_date

FORMS = {
    "dmy": ("%d/%m/%Y", "%d.%m.%Y %H:%M", "%d-%m-%YT%H:%M:%S", "%d/%m/%Y, %I:%M:%S %p"),
    "mdy": ("%m/%d/%Y", "%m-%d-%Y %H:%M", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S%p"),
    None: ("%Y/%m/%d", "%Y.%m.%d %H:%M:%S", "%Y-%m-%d %I:%M %p", "%Y-%m-%dT%H:%M"),
}
MOMENTS = st.datetimes(datetime(1678, 1, 1), datetime(2261, 1, 1))


def column(dates: list[str]) -> str:
    return "ds,y\n" + "".join(f'"{one}",{number}\n' for number, one in enumerate(dates))


def starts(found: tuple[Any, list[str]]) -> str:
    ((series,), _) = found
    return str(series.start.astype("datetime64[m]"))


@given(MOMENTS, st.sampled_from([(order, form) for order in FORMS for form in FORMS[order]]))
def test_a_date_is_read_as_pandas_reads_it_by_its_format(
    moment: datetime, chosen: tuple[str | None, str]
) -> None:
    order, form = chosen
    text = moment.strftime(form.replace("%Y", f"{moment.year:04d}"))
    expected = pd.to_datetime(text, format=form).to_datetime64()
    assert parse_timestamp(as_iso(text, order)) == expected
    assert is_date(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1/2/2024", "2024-02-01"),
        (" 2024/1/2 5:07 ", "2024-01-02 05:07"),
        ("1/2/2024 12:00 AM", "2024-02-01 00:00"),
        ("1/2/2024 12:30 pm", "2024-02-01 12:30"),
        ("1.2.2024 5:00 +02:00", "2024-02-01 05:00+02:00"),
        ("2024Q1", "2024-01-01"),
        ("2024-q4", "2024-10-01"),
        ("2024 M7", "2024-07-01"),
        ("2024M12", "2024-12-01"),
    ],
)
def test_forms_of_spreadsheets_and_statistical_offices(text: str, expected: str) -> None:
    assert as_iso(text, "dmy") == expected


@pytest.mark.parametrize(
    "cell",
    [
        "30.2.2024", "1/2/24", "1/2/20244", "1/2-2024", "2024Q5", "2024M13", "2024M0", "13/13/2024",
        "1/2/2024 13:00 AM", "1/2/2024 5", "1/2/2024x", "2024-01-02", "2024-01-02 05:00", "1.5",
        "\u0661/2/2024", 20240102, None,
    ],
)  # fmt: skip
def test_what_is_no_such_date_is_left_as_it_is(cell: Any) -> None:
    assert as_iso(cell, "dmy") is cell


@pytest.mark.parametrize(
    ("dates", "start", "note"),
    [
        (["30/1/2024", "31/1/2024", "1/2/2024"], "2024-01-30T00:00", "day first, as '30/1/2024'"),
        (["1/30/2024", "1/31/2024", "2/1/2024"], "2024-01-30T00:00", "month first, as '1/30/2024'"),
        (["11-1-2024", "12-1-2024", "13-1-2024"], "2024-01-11T00:00",
         "day first, as '13-1-2024' in row 4 shows"),
        (["1.2.2024", "2.2.2024", "3.2.2024"], "2024-02-01T00:00", "day first, as is usual"),
        (["1/31/2024 11:00 PM", "2/1/2024 12:00 AM", "2/1/2024 1:00 AM"], "2024-01-31T23:00",
         "month first"),
    ],
)  # fmt: skip
def test_a_column_tells_which_number_is_the_day(
    read: Callable[..., Any], dates: list[str], start: str, note: str
) -> None:
    found = read(column(dates))
    assert starts(found) == start
    assert sum(note in one for one in found[1]) == 1


def test_a_column_of_a_parquet_file_tells_too(read: Callable[..., Any]) -> None:
    found = read({"ds": ["30/1/2024", "31/1/2024", "1/2/2024"], "y": [1.0, 2.0, 3.0]})
    assert starts(found) == "2024-01-30T00:00"


@pytest.mark.parametrize(("order", "freq"), [("dmy", "MS"), ("mdy", "D")])
def test_a_given_order_decides(read: Callable[..., Any], order: str, freq: str) -> None:
    text = column(["1/1/2024", "1/2/2024", "1/3/2024", "1/4/2024"])
    ((series,), notes) = read(text, Columns(form=TableForm(date_order=order)))
    assert series.freq.alias == freq
    assert not any("first" in note for note in notes)


@pytest.mark.parametrize(
    ("dates", "order", "message"),
    [
        (["1/1/2024", "1/2/2024"], None, "row 2, column 'ds': '1/1/2024' may have the day or the"),
        (["13/1/2024", "1/14/2024"], None,
         "column 'ds': '13/1/2024' in row 2 has the day first and '1/14/2024' in row 3 the month"),
        (["1/13/2024", "1/14/2024"], "dmy", "row 2, column 'ds': '1/13/2024' is not a timestamp"),
        (["30/1/2024", "31/1/2024", "32/1/2024"], None, "row 4, .* '32/1/2024' is not a timestamp"),
        (["1/2/24", "1/3/24"], None, "row 2, column 'ds': '1/2/24' is not a timestamp"),
    ],
)  # fmt: skip
def test_dates_that_leave_it_open_or_do_not_exist_are_refused(
    read: Callable[..., Any], dates: list[str], order: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(column(dates), Columns(form=TableForm(date_order=order)))


def test_quarters_give_their_first_days(read: Callable[..., Any]) -> None:
    quarters = [f"{year}-Q{quarter}" for year in (2022, 2023) for quarter in (1, 2, 3, 4)]
    ((series,), _) = read(column(quarters))
    assert (str(series.start)[:10], series.freq.alias) == ("2022-01-01", "QS")


def test_the_command_takes_the_order(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "months.csv"
    path.write_text(column([f"1/{month}/2024" for month in range(1, 13)]))
    command = ["forecast", str(path), "--horizon", "1", "--model", str(tiny_bundle)]
    done = CliRunner().invoke(main, [*command, "--date-order", "dmy", "--samples", "4"])
    assert done.stdout.splitlines()[1].startswith("2025-01-01,")
    done = CliRunner().invoke(main, [*command, "--date-order", "mdy", "--samples", "4"])
    assert done.stdout.splitlines()[1].startswith("2024-01-13,")
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, "give --date-order dmy or mdy" in done.stderr) == (1, True)
