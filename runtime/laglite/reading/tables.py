"""Tables as read from any format: cells by column, and what a single cell means."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError

Note = Callable[[str], None]

MISSING_TEXTS = frozenset({"", "nan", "na", "n/a", "null", "none"})
MOST_COLUMNS = 100_000
NAMES_SHOWN = 20
THOUSANDS = re.compile(r"[+-]?\d{1,3}([,. '_\u00a0\u202f]\d{3})+([.,]\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Zoned:
    """The time zone of a column whose type has one: its name, and wall clock minus UTC of each row.

    `offsets` timedelta64[us] [rows]
    """

    name: str
    offsets: NDArray[np.timedelta64]


@dataclass(frozen=True)
class Table:
    """Cells of a file or frame by column.

    `rows` are the numbers a person would look for: lines of a text file, rows from 0 otherwise.
    `zones` holds the time zone of columns whose type has one; their cells are wall-clock times.
    `decimal` is the decimal mark of numbers written as text. Raises InputError for names that
    stand there twice, or too many of them.
    """

    source: str
    names: Sequence[str]
    cells: Sequence[Sequence[Any]]
    rows: Sequence[int]
    zones: Mapping[str, Zoned] = field(default_factory=dict)
    decimal: str = "."

    def __post_init__(self) -> None:
        check_width(self.source, len(self.names))
        if len(self._places) < len(self.names):
            ((twice, _),) = Counter(self.names).most_common(1)
            raise InputError(f"{self.source}: the header names column {twice!r} twice")

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def column(self, name: str) -> Sequence[Any]:
        """The cells of a column that is there."""
        return self.cells[self._places[name]]

    def where(self, place: int, name: str) -> str:
        """Where a cell is, for messages; `place` counts from 0."""
        return f"{self.source}, row {self.rows[place]}, column {name!r}"


def check_width(source: str, columns: int) -> None:
    """Raises InputError for more columns than any table of series has."""
    if columns > MOST_COLUMNS:
        raise InputError(
            f"{source}: {columns:,} columns, of at most {MOST_COLUMNS:,}; "
            "write a long table instead: a row for each series and time"
        )


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first ones if there are many."""
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else shown


def as_number(cell: Any, decimal: str = ".") -> float:
    """A cell as a number, NaN where it stands for a missing one. Raises ValueError, TypeError."""
    if is_missing(cell):
        return math.nan
    if isinstance(cell, str):
        if "_" in cell or (decimal == "," and "." in cell):
            raise ValueError(cell)  # thousands separators, which float() would take or misread
        if decimal == ",":
            cell = cell.replace(",", ".")
    try:
        return float(cell)
    except OverflowError:  # of a whole number in JSON
        return math.inf


def is_number(cell: Any, decimal: str = ".") -> bool:
    """Whether a cell is a number or stands for a missing one."""
    try:
        as_number(cell, decimal)
    except (TypeError, ValueError):
        return False
    return True


def number_hint(cell: Any, decimal: str = ".") -> str:
    """What to do about a text that is nearly a number, "" for anything else."""
    text = cell.strip() if isinstance(cell, str) else ""
    if THOUSANDS.fullmatch(text):
        return "write numbers without thousands separators"
    if decimal == "," and DECIMAL_COMMA.fullmatch(text.replace(".", ",")):
        return "the decimal mark of this file is a comma"
    if DECIMAL_COMMA.fullmatch(text):
        return "write decimals with a point, or give --decimal ','"
    return ""


def is_missing(cell: Any) -> bool:
    """Whether a cell stands for a missing value."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING_TEXTS
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
