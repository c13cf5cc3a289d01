"""Tables to series: long tables, single series, and the Parquet series format.

Each series comes out on a regular grid, NaN where a value is missing. Every error names file, row
and column; what was guessed or filled in is told to `note`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.errors import FrequencyError, InputError
from laglite.frequency import (
    Frequency,
    Timestamps,
    format_timestamp,
    infer_frequency,
    parse_frequency,
    parse_timestamp,
    step_numbers,
    timestamps_at,
)
from laglite.reading.columns import Columns, Note, check_column, choose_columns
from laglite.reading.files import (
    Table,
    is_missing,
    parquet_outline,
    read_row_groups,
    read_table,
)

SERIES_FORMAT = ("item_id", "start", "freq", "target")
LONGEST_GRID = 1_000_000


@dataclass(frozen=True)
class InputSeries:
    """One series as read: values float64 [length], and its time axis where it has one.

    `covariates` float64 [length + steps ahead, num], NaN where missing; None if none were named.
    """

    item_id: str | None
    values: NDArray[np.float64]
    start: np.datetime64 | None
    freq: Frequency | None
    covariates: NDArray[np.float64] | None = None


def read_series(path: str, columns: Columns, freq: str | None, note: Note) -> list[InputSeries]:
    """Read all series of a CSV or Parquet file, "-" for CSV on standard input.

    With covariates, rows without a value at the end of a series are the steps to come. In the
    series format a covariate's cell is a list of numbers, or a list of such lists, that may be
    longer than the target. `note` receives what was guessed or filled in. Raises InputError or
    FrequencyError.
    """
    given = None if freq is None else parse_frequency(freq)
    table = read_table(path)
    if set(SERIES_FORMAT) <= set(table.names):
        if given is not None:
            note(f"{table.source}: states each series' own frequency; {given.alias!r} is not used")
        return _from_series_format(table, columns.covariates)
    chosen = choose_columns(table, columns, note)
    names = (str(chosen.target), *chosen.covariates)
    cells = np.stack([_numbers(table, name) for name in names], axis=-1)
    times = None if chosen.time is None else _times(table, chosen.time, note)
    rows = np.asarray(table.rows)
    series = []
    for item, index in _rows_by_item(table, chosen.item).items():
        where = table.source if item is None else f"{table.source}, series {item!r}"
        if times is None:
            series.append(_input_series(item, cells[index], None, given))
        else:
            grid = _on_grid(where, times[index], cells[index], rows[index], given, note)
            series.append(_input_series(item, *grid))
    if times is not None and given is None:
        aliases = Counter(one.freq.alias for one in series if one.freq is not None)
        kinds = ", ".join(
            f"{alias!r}" if len(aliases) == 1 else f"{alias!r} for {count}"
            for alias, count in aliases.most_common()
        )
        note(f"{table.source}: frequency {kinds}, from the timestamps")
    return series


def count_streamed(path: str) -> int:
    """How many series `stream_series` can read of a file bit by bit; 0 for other formats."""
    if not path.endswith(".parquet"):
        return 0
    names, rows = parquet_outline(Path(path))
    return rows if set(SERIES_FORMAT) <= set(names) else 0


def stream_series(path: str, columns: Columns, count: int) -> Iterator[list[InputSeries]]:
    """The series of a file in the Parquet series format, `count` at a time. Raises InputError."""
    for table in read_row_groups(Path(path), count):
        yield _from_series_format(table, columns.covariates)


def _input_series(
    item: str | None,
    cells: NDArray[np.float64],
    start: np.datetime64 | None,
    freq: Frequency | None,
) -> InputSeries:
    """A series from rows of its value and covariates [rows, 1 + num]."""
    values = cells[:, 0]
    if cells.shape[1] == 1:
        return InputSeries(item, values, start, freq)
    observed = np.flatnonzero(~np.isnan(values))
    length = int(observed[-1]) + 1 if len(observed) else len(values)
    return InputSeries(item, values[:length], start, freq, cells[:, 1:])


def _from_series_format(table: Table, covariates: tuple[str, ...]) -> list[InputSeries]:
    """Rows of the Parquet series format."""
    for name in covariates:
        check_column(table, name)
    series = []
    columns = [table.column(name) for name in SERIES_FORMAT]
    for place, (row, item, start, freq, target) in enumerate(
        zip(table.rows, *columns, strict=True)
    ):
        where = f"{table.source}, row {row} ({item})"
        if not isinstance(target, list) or is_missing(item):
            wrong = "item_id is missing" if is_missing(item) else "target must be a list of numbers"
            raise InputError(f"{where}: {wrong}")
        try:
            values = np.asarray(target, np.float64)
            axis = parse_timestamp(start), parse_frequency(freq)
            known = [_covariate_lists(name, table.column(name)[place]) for name in covariates]
            together = np.concatenate(known).T if known else None
        except (InputError, TypeError, ValueError) as error:
            raise InputError(f"{where}: {error}") from error
        if together is not None and len(together) < len(values):
            raise InputError(
                f"{where}: {len(together)} values of covariates for {len(values)} of the target"
            )
        series.append(InputSeries(str(item), values, *axis, together))
    return series


def _covariate_lists(name: str, cell: Any) -> NDArray[np.float64]:
    """A cell of one or several covariates as [num, rows]. Raises InputError."""
    try:
        lists = np.atleast_2d(np.asarray(cell, np.float64))
    except (TypeError, ValueError):
        lists = np.empty(0)
    if not isinstance(cell, list) or lists.ndim != 2:
        raise InputError(f"{name} must be a list of numbers, or several of one length")
    return lists


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    """A column as float64, NaN where missing; names the first cell that is no finite number."""
    cells = table.column(name)
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
        values = cells.astype(np.float64)
    else:
        values = np.empty(len(cells), np.float64)
        for place, cell in enumerate(cells):
            try:
                values[place] = math.nan if is_missing(cell) else float(cell)
            except (TypeError, ValueError):
                decimal = isinstance(cell, str) and "," in cell
                hint = "; write decimals with a point" if decimal else ""
                raise InputError(
                    f"{_cell(table, place, name)}: {cell!r} is not a number{hint}"
                ) from None
    if np.isinf(values).any():
        raise InputError(
            f"{_cell(table, int(np.isinf(values).argmax()), name)}: infinite value; "
            "leave the cell empty if the value is missing"
        )
    return values


def _cell(table: Table, place: int, name: str) -> str:
    """Where a cell is, for messages."""
    return f"{table.source}, row {table.rows[place]}, column {name!r}"


def _times(table: Table, name: str, note: Note) -> Timestamps:
    """A column as datetime64[us]; a constant time zone is dropped, a changing one refused."""
    cells = table.column(name)
    stamps = np.empty(len(cells), "datetime64[us]")
    zones = {table.zones.get(name, "")}
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        stamps[:] = cells
        if np.isnat(stamps).any():
            place = int(np.isnat(stamps).argmax())
            raise InputError(f"{_cell(table, place, name)}: the time is missing")
    else:
        for place, cell in enumerate(cells):
            try:
                stamps[place] = parse_timestamp(cell)
            except InputError as error:
                raise InputError(f"{_cell(table, place, name)}: {error}") from error
            zones = {_zone(cell)} if place == 0 else zones | {_zone(cell)}
            if len(zones) > 1:
                raise InputError(
                    f"{_cell(table, place, name)}: the time zone changes within the column; "
                    "write all times in one zone"
                )
    if zones != {""}:
        note(f"time zone {zones.pop()} dropped: calendar features follow the wall clock")
    return stamps


def _zone(cell: Any) -> str:
    """The zone suffix of an ISO time, "" if it has none."""
    text = str(cell).strip()
    if text.endswith(("Z", "z")):
        return "Z"
    clock = text[10:]
    sign = max(clock.rfind("+"), clock.rfind("-"))
    return clock[sign:] if sign > 0 else ""


def _rows_by_item(table: Table, item: str | None) -> dict[str | None, list[int]]:
    """Places of each series' rows, in the order of their first appearance."""
    if item is None:
        return {None: list(range(len(table.rows)))}
    places: dict[str | None, list[int]] = {}
    for place, cell in enumerate(table.column(item)):
        if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
            raise InputError(f"{_cell(table, place, item)}: the id is missing")
        whole = isinstance(cell, float) and cell.is_integer()
        places.setdefault(str(int(cell)) if whole else str(cell), []).append(place)
    return places


def _on_grid(
    where: str,
    times: Timestamps,
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    given: Frequency | None,
    note: Note,
) -> tuple[NDArray[np.float64], np.datetime64, Frequency]:
    """Values [rows, columns] on a series' regular grid, gaps as NaN; its start and frequency."""
    gaps = np.diff(times).astype(np.int64)
    if (gaps <= 0).any():
        at = int((gaps <= 0).argmax()) + 1
        stamp = format_timestamp(times[at])
        if gaps[at - 1] == 0:
            raise InputError(f"{where}, row {rows[at]}: {stamp} appears twice; keep one value")
        raise InputError(
            f"{where}, row {rows[at]}: {stamp} comes after {format_timestamp(times[at - 1])}; "
            "sort the rows by time"
        )
    try:
        freq = infer_frequency(times) if given is None else given
    except FrequencyError as error:
        raise FrequencyError(f"{where}: {error}") from error
    steps = step_numbers(times, freq)
    span = int(steps[-1]) + 1
    if span > max(LONGEST_GRID, 100 * len(times)):
        raise FrequencyError(
            f"{where}: {len(times)} rows span {span:,} steps of frequency {freq.alias!r}; "
            "is the frequency right?"
        )
    closest = int(np.diff(steps).min()) if len(times) > 2 else 1
    if closest > 1:
        raise FrequencyError(
            f"{where}: the closest rows are {closest} steps of frequency {freq.alias!r} apart; "
            "is the frequency right?"
        )
    off = timestamps_at(times[0], freq, steps) != times
    off[1:] |= np.diff(steps) < 1
    if off.any():
        at = int(off.argmax())
        raise FrequencyError(
            f"{where}, row {rows[at]}: {format_timestamp(times[at])} is not on the grid of "
            f"frequency {freq.alias!r} from {format_timestamp(times[0])}"
        )
    filled = np.full((span, values.shape[1]), np.nan)
    filled[steps] = values
    absent = np.setdiff1d(np.arange(span), steps)
    if len(absent):
        first = format_timestamp(timestamps_at(times[0], freq, absent[:1])[0])
        count = "1 timestamp is" if len(absent) == 1 else f"{len(absent)} timestamps are"
        note(f"{where}: {count} absent, taken as missing values (first: {first})")
    return filled, times[0], freq
