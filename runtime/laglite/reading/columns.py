"""Which column is which: as named, or guessed where there is no doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from laglite.errors import InputError
from laglite.reading.dates import is_date
from laglite.reading.tables import Note, Table, is_missing, is_number, listed, number_hint

ID_NAMES = ("unique_id", "item_id", "series_id", "series", "id")
TIME_NAMES = ("ds", "timestamp", "datetime", "date", "time", "month", "year")
TARGET_NAMES = ("y", "target", "value", "values")


@dataclass(frozen=True)
class TableForm:
    """How a table is written; None: find out.

    `delimiter` and `decimal` mark are those of CSV; `wide` says that each column is a series;
    `time_zone` (IANA) is that of times without a UTC offset; `date_order` ("dmy", "mdy") that of
    dates with the year last.
    """

    delimiter: str | None = None
    decimal: str | None = None
    wide: bool = False
    time_zone: str | None = None
    date_order: str | None = None


@dataclass(frozen=True)
class Columns:
    """Column names as the caller gives them; None: guess. Covariates are never guessed."""

    item: str | None = None
    time: str | None = None
    target: str | None = None
    covariates: tuple[str, ...] = ()
    form: TableForm = TableForm()


def choose_columns(table: Table, columns: Columns, note: Note) -> Columns:
    """Fill in the columns that were not named, saying which, or ask where it is ambiguous.

    The form of the result says whether the table is wide: then it names no id and no target.
    """
    named = [n for n in (columns.item, columns.time, columns.target) if n is not None]
    for name in (*named, *columns.covariates):
        check_column(table, name)
    taken = (*named, *columns.covariates)
    twice = next((name for name in taken if taken.count(name) > 1), None)
    if twice is not None:
        kind = "covariate" if twice in columns.covariates else "column"
        raise InputError(f"{table.source}: the {kind} {twice!r} is named for something else too")
    free = [n for n in table.names if n not in taken]
    time = columns.time
    if time is None:
        datelike = [n for n in free if _looks_like_times(table, n)]
        time = _one(table, "time", datelike, TIME_NAMES, "--time-column")
        free = [n for n in free if n != time]
    if columns.form.wide or _is_wide(table, columns, time, free):
        return _choose_wide(table, columns, time, note)
    item = columns.item
    if item is None:
        texts = [n for n in free if _is_text(table, n)]
        usual = [n for n in free if n.lower() in ID_NAMES]
        item = _one(table, "id", usual or texts, ID_NAMES, "--id-column")
        free = [n for n in free if n != item]
    target = columns.target
    if table.names == [item] and columns.item is None and not _is_text(table, table.names[0]):
        free, item = [table.names[0]], None  # the only column there is holds the values
    if target is None:
        target = _one(table, "target", free, TARGET_NAMES, "--target-column")
        if target is None:
            raise InputError(
                f"{table.source}: no column of values among {listed(table.names)}; "
                "name it with --target-column"
            )
    chosen = replace(columns, item=item, time=time, target=target)
    if chosen != columns and len(table.names) > 1:
        parts = [("id", item), ("time", time), ("target", target)]
        note("columns: " + ", ".join(f"{role} {name!r}" for role, name in parts if name))
    clock = next((n for n in free if n != target and n.lower() in TIME_NAMES), None)
    if time is None and clock is not None:
        note(
            f"column {clock!r} holds no dates and is left out: rows are taken in their order; "
            "write times as 2024-01-31T12:00"
        )
    return chosen


def check_column(table: Table, name: str) -> None:
    """Raises InputError if `table` has no column called `name`."""
    if name not in table:
        raise InputError(
            f"{table.source}: no column {name!r}; the columns are {listed(table.names)}"
        )


def series_columns(table: Table, columns: Columns) -> list[str]:
    """The columns of a wide table that are series: all but the times."""
    return [name for name in table.names if name != columns.time]


def _is_wide(table: Table, columns: Columns, time: str | None, free: Sequence[str]) -> bool:
    """Whether several columns of numbers beside the times can only be series."""
    return (
        time is not None
        and columns.item is None
        and columns.target is None
        and not columns.covariates
        and len(free) > 1
        and not any(n.lower() in (*ID_NAMES, *TARGET_NAMES) or _is_text(table, n) for n in free)
    )


def _choose_wide(table: Table, columns: Columns, time: str | None, note: Note) -> Columns:
    given = {"--id-column": columns.item, "--target-column": columns.target}
    clash = [option for option, name in given.items() if name is not None]
    if columns.covariates:
        clash.append("--covariates")
    if clash:
        raise InputError(
            f"{table.source}: in a wide table each column is a series; leave out {clash[0]}, "
            "or --wide"
        )
    chosen = replace(columns, time=time, form=replace(columns.form, wide=True))
    count = len(series_columns(table, chosen))
    if not count:
        raise InputError(f"{table.source}: no column of values beside {time!r}")
    said = "" if time is None else f", time {time!r}"
    note(f"wide table: {count:,} series, one for each column{said}")
    return chosen


def _one(
    table: Table, role: str, candidates: list[str], usual: Sequence[str], option: str
) -> str | None:
    """The only candidate, or the one with a usual name."""
    if len(candidates) <= 1:
        return candidates[0] if candidates else None
    by_name = [name for name in candidates if name.lower() in usual]
    if len(by_name) == 1:
        return by_name[0]
    wide = ", or give --wide if each of them is a series" if role == "target" else ""
    raise InputError(
        f"{table.source}: several columns could be the {role} column "
        f"({listed(candidates)}); choose with {option}{wide}"
    )


def _is_text(table: Table, name: str) -> bool:
    first = _first(table.column(name))
    return (
        isinstance(first, str)
        and not is_number(first, table.decimal)
        and not number_hint(first, table.decimal)  # an error of its row
    )


def _looks_like_times(table: Table, name: str) -> bool:
    """Dates, or bare years or text under a usual name: then a bad date is an error of its row."""
    usual = name.lower() in TIME_NAMES
    cells = table.column(name)
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        return True
    first = _first(cells)
    if isinstance(first, str) and is_number(first, table.decimal):
        return usual and is_date(first)
    return is_date(first) or (usual and isinstance(first, str))


def _first(cells: Sequence[Any]) -> Any:
    """The first cell that is not missing."""
    return next((cell for cell in cells if not is_missing(cell)), None)
