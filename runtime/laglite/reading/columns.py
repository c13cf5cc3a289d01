"""Which column is which: as named, or guessed where there is no doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laglite.errors import InputError
from laglite.reading.files import Table, is_date, is_missing, is_number

Note = Callable[[str], None]

ID_NAMES = ("unique_id", "item_id", "series_id", "series", "id")
TIME_NAMES = ("ds", "timestamp", "datetime", "date", "time", "month", "year")
TARGET_NAMES = ("y", "target", "value", "values")


@dataclass(frozen=True)
class Columns:
    """Column names as the caller gives them; None: guess. Covariates are never guessed."""

    item: str | None = None
    time: str | None = None
    target: str | None = None
    covariates: tuple[str, ...] = ()


def choose_columns(table: Table, columns: Columns, note: Note) -> Columns:
    """Fill in the columns that were not named, saying which, or ask where it is ambiguous."""
    named = [n for n in (columns.item, columns.time, columns.target) if n is not None]
    for name in (*named, *columns.covariates):
        check_column(table, name)
    taken = (*named, *columns.covariates)
    twice = next((name for name in columns.covariates if taken.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{table.source}: the covariate {twice!r} is named for something else too")
    free = [n for n in table.names if n not in taken]
    time = columns.time
    if time is None:
        datelike = [n for n in free if _looks_like_times(n, table.column(n))]
        time = _one(table, "time", datelike, TIME_NAMES, "--time-column")
        free = [n for n in free if n != time]
    item = columns.item
    if item is None:
        texts = [n for n in free if _is_text(table.column(n))]
        usual = [n for n in free if n.lower() in ID_NAMES]
        item = _one(table, "id", usual or texts, ID_NAMES, "--id-column")
        free = [n for n in free if n != item]
    target = columns.target
    if (
        table.names == [item]
        and columns.item is None
        and not _is_text(table.column(table.names[0]))
    ):
        free, item = [table.names[0]], None  # the only column there is holds the values
    if target is None:
        target = _one(table, "target", free, TARGET_NAMES, "--target-column")
        if target is None:
            raise InputError(
                f"{table.source}: no column of values among {', '.join(table.names)}; "
                "name it with --target-column"
            )
    chosen = Columns(item, time, target, columns.covariates)
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
    if name not in table.names:
        raise InputError(
            f"{table.source}: no column {name!r}; the columns are {', '.join(table.names)}"
        )


def _one(
    table: Table, role: str, candidates: list[str], usual: Sequence[str], option: str
) -> str | None:
    """The only candidate, or the one with a usual name."""
    if len(candidates) <= 1:
        return candidates[0] if candidates else None
    by_name = [name for name in candidates if name.lower() in usual]
    if len(by_name) == 1:
        return by_name[0]
    raise InputError(
        f"{table.source}: several columns could be the {role} column "
        f"({', '.join(candidates)}); choose with {option}"
    )


def _is_text(cells: Sequence[Any]) -> bool:
    first = next((c for c in cells if not is_missing(c)), None)
    return isinstance(first, str) and not is_number(first)


def _looks_like_times(name: str, cells: Sequence[Any]) -> bool:
    """Dates, or bare years or text under a usual name: then a bad date is an error of its row."""
    usual = name.lower() in TIME_NAMES
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        return True
    first = next((cell for cell in cells if not is_missing(cell)), None)
    if isinstance(first, str) and is_number(first):
        return usual and is_date(first)
    return is_date(first) or (usual and isinstance(first, str))
