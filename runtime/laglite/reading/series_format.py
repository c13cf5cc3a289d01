"""The series format: a series a row, as Parquet or JSON lines (those of GluonTS among them)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.frequency import Frequency, parse_frequency, parse_timestamp
from laglite.reading.columns import check_column
from laglite.reading.input_series import InputSeries
from laglite.reading.tables import Note, Table, is_missing

SERIES_FORMAT = ("item_id", "start", "freq", "target")


def is_series_format(table: Table) -> bool:
    """Whether each row is a series: by the names, or by a list as target beside a start."""
    if all(name in table for name in SERIES_FORMAT):
        return True
    if "start" not in table or "target" not in table:
        return False
    return isinstance(next(iter(table.column("target")), None), list)


def from_series_format(
    table: Table, covariates: tuple[str, ...], given: Frequency | None, note: Note
) -> list[InputSeries]:
    """The series of a table; `given` is the frequency of a table that states none.

    Rows without item_id are named by their number. Raises InputError that names the row.
    """
    for name in covariates:
        check_column(table, name)
    if "freq" in table and given is not None:
        note(f"{table.source}: states each series' own frequency; {given.alias!r} is not used")
    elif "freq" not in table and given is None:
        raise InputError(f"{table.source}: states no frequency; give it (--freq), or a key freq")
    series: list[InputSeries] = []
    first_rows: dict[str, int] = {}
    for place, row in enumerate(table.rows):
        item = table.column("item_id")[place] if "item_id" in table else str(row)
        where = f"{table.source}, row {row} ({item})"
        if is_missing(item):
            raise InputError(f"{where}: item_id is missing")
        before = first_rows.setdefault(str(item), row)
        if before != row:
            raise InputError(f"{where}: the item_id is that of row {before}; each needs its own")
        series.append(_one(table, place, where, str(item), covariates, given))
    return series


def _one(
    table: Table,
    place: int,
    where: str,
    item: str,
    covariates: tuple[str, ...],
    given: Frequency | None,
) -> InputSeries:
    values = _floats(table.column("target")[place])
    if values is None or values.ndim != 1:
        raise InputError(f"{where}: target must be a list of numbers, null or NaN where missing")
    try:
        start = parse_timestamp(table.column("start")[place])
        freq = parse_frequency(table.column("freq")[place]) if "freq" in table else given
        known = [_covariate_lists(name, table.column(name)[place]) for name in covariates]
        together = np.concatenate(known).T if known else None
    except ValueError as error:  # InputError too; covariates of several lengths
        raise InputError(f"{where}: {error}") from error
    if together is not None and len(together) < len(values):
        raise InputError(
            f"{where}: {len(together)} values of covariates for {len(values)} of the target"
        )
    return InputSeries(item, values, start, freq, together)


def _covariate_lists(name: str, cell: Any) -> NDArray[np.float64]:
    """A cell of one or several covariates as [num, rows]. Raises InputError."""
    lists = _floats(cell)
    if lists is None or lists.ndim > 2:
        raise InputError(f"{name} must be a list of numbers, or several of one length")
    return np.atleast_2d(lists)


def _floats(cell: Any) -> NDArray[np.float64] | None:
    """A list of numbers, or of lists of one length; None for anything else."""
    try:
        return np.asarray(cell, np.float64) if isinstance(cell, list) else None
    except (TypeError, ValueError, OverflowError):
        return None
