"""Dates as spreadsheets and statistical offices write them, as ISO text.

`2021/3/4`, `2021Q1` and `2021M03` have one meaning. Of `3/4/2021` the whole column must tell
which of the first two numbers is the day, or the caller.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from laglite.errors import InputError
from laglite.frequency import parse_timestamp
from laglite.reading.tables import Note, Table

DATE_ORDERS = {"dmy": "day first", "mdy": "month first"}
LAST_MONTH = 12
YEAR, MONTH, DAY = r"(?P<year>\d{4})", r"(?P<month>\d\d?)", r"(?P<day>\d\d?)"
MARK, CLOCK = r"(?P<mark>[./-])", r"(?!\d)(?P<clock>.*)"
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.+-]+Z?)?", re.ASCII)  # most columns, and soon told
_YEAR_FIRST = re.compile(f"{YEAR}{MARK}{MONTH}(?P=mark){DAY}{CLOCK}", re.ASCII)
_YEAR_LAST = {
    "dmy": re.compile(f"{DAY}{MARK}{MONTH}(?P=mark){YEAR}{CLOCK}", re.ASCII),
    "mdy": re.compile(f"{MONTH}{MARK}{DAY}(?P=mark){YEAR}{CLOCK}", re.ASCII),
}
_PERIOD = re.compile(r"(\d{4})[- ]?([QqMm])(\d\d?)", re.ASCII)
_CLOCK = re.compile(
    r"(?:[Tt]|,? +)(\d\d?)(:\d\d(?::\d\d(?:\.\d+)?)?)(?: ?([AaPp])[Mm])? ?([Zz+-].*)?", re.ASCII
)


def as_iso(cell: Any, order: str | None) -> Any:
    """The same time as ISO text, if it is text that needs that; `order` is one of `DATE_ORDERS`.

    What is no date is left as it is.
    """
    if not isinstance(cell, str) or _ISO.fullmatch(cell):
        return cell
    try:
        return _iso_text(cell.strip(), order) or cell
    except ValueError:  # the 30th of February, or 25 o'clock
        return cell


def is_date(cell: Any) -> bool:
    """Whether a cell can be read as a point in time, in either order."""
    rewritten = (as_iso(cell, order) for order in DATE_ORDERS)
    try:
        parse_timestamp(next((text for text in rewritten if text is not cell), cell))
    except InputError:
        return False
    return True


def find_date_order(table: Table, name: str, note: Note) -> str | None:
    """Which number of a column's dates is the day, None if none of them has the year last.

    Raises InputError if the dates leave it open, or contradict one another.
    """
    shows: dict[str, int] = {}
    first = None
    cells = table.column(name)
    for place, cell in enumerate(cells):
        found = _YEAR_LAST["dmy"].fullmatch(cell.strip()) if isinstance(cell, str) else None
        if found is None:
            continue
        first = first or (place, found["mark"])
        for order, number in (("dmy", found["day"]), ("mdy", found["month"])):
            if int(number) > LAST_MONTH:
                shows.setdefault(order, place)
    if first is None:
        return None
    place, mark = first
    if len(shows) > 1:
        one, other = (f"{cells[place]!r} in row {table.rows[place]}" for place in shows.values())
        raise InputError(
            f"{table.source}, column {name!r}: {one} has the day first and {other} the month; "
            "write all dates alike, as 2021-03-04"
        )
    if shows:
        ((order, place),) = shows.items()
        evidence = f"as {cells[place]!r} in row {table.rows[place]} shows"
    elif mark == ".":  # nowhere is the month first between points
        order, evidence = "dmy", "as is usual between points"
    else:
        raise InputError(
            f"{table.where(place, name)}: {cells[place]!r} may have the day or the month first, "
            "and no date there tells which; give --date-order dmy or mdy, or write 2021-03-04"
        )
    note(f"{table.source}: dates with the {DATE_ORDERS[order]}, {evidence}")
    return order


def _iso_text(text: str, order: str | None) -> str | None:
    """None for other forms. Raises ValueError for a day or an hour that does not exist."""
    found = _YEAR_FIRST.fullmatch(text)
    if found is None and order is not None:
        found = _YEAR_LAST[order].fullmatch(text)
    if found is not None:
        day = date(int(found["year"]), int(found["month"]), int(found["day"]))
        return day.isoformat() + _iso_clock(found["clock"])
    period = _PERIOD.fullmatch(text)
    if period is None:
        return None
    months = 3 if period[2] in "Qq" else 1
    return date(int(period[1]), months * (int(period[3]) - 1) + 1, 1).isoformat()


def _iso_clock(clock: str) -> str:
    """` 5:00 PM` as ` 17:00`. Raises ValueError for what is no time of day."""
    if not clock:
        return ""
    found = _CLOCK.fullmatch(clock)
    if found is None:
        raise ValueError(clock)
    hour, half = int(found[1]), found[3]
    if half is not None:
        if not 1 <= hour <= 12:
            raise ValueError(clock)
        hour = hour % 12 + (12 if half in "Pp" else 0)
    return f" {hour:02d}{found[2]}{(found[4] or '').strip()}"
