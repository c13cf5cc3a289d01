"""Tables to series: long tables, single series, and the Parquet series format.

Each series comes out on a regular grid, NaN where a value is missing. Every error names file, row
and column; what was guessed or filled in is told to `note`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    timestamps,
)
from laglite.reading.columns import Columns, Note, choose_columns
from laglite.reading.files import Table, is_missing, read_table

SERIES_FORMAT = ("item_id", "start", "freq", "target")
LONGEST_GRID = 1_000_000


@dataclass(frozen=True)
class InputSeries:
    """One series as read: values float64 [length], and its time axis where it has one."""

    item_id: str | None
    values: NDArray[np.float64]
    start: np.datetime64 | None
    freq: Frequency | None


def read_series(path: str, columns: Columns, freq: str | None, note: Note) -> list[InputSeries]:
    """Read all series of a CSV or Parquet file, "-" for CSV on standard input.

    `note` receives what was guessed or filled in. Raises InputError or FrequencyError.
    """
    given = None if freq is None else parse_frequency(freq)
    table = read_table(path)
    if set(SERIES_FORMAT) <= set(table.names):
        return _from_series_format(table)
    chosen = choose_columns(table, columns, note)
    targets = _numbers(table, str(chosen.target))
    times = None if chosen.time is None else _times(table, chosen.time, note)
    rows = _rows_by_item(table, chosen.item)
    series = []
    for item, index in rows.items():
        where = table.source if item is None else f"{table.source}, series {item!r}"
        picked = np.array(index)
        if times is None:
            series.append(InputSeries(item, targets[picked], None, given))
            continue
        numbers = picked + table.first_row
        series.append(
            _on_grid(where, item, times[picked], targets[picked], numbers, given, freq, note)
        )
    return series


def _from_series_format(table: Table) -> list[InputSeries]:
    """Rows of the Parquet series format."""
    series = []
    for row, (item, start, freq, target) in enumerate(
        zip(*(table.column(name) for name in SERIES_FORMAT), strict=True)
    ):
        try:
            values = np.asarray(target, np.float64)
            series.append(
                InputSeries(str(item), values, parse_timestamp(start), parse_frequency(freq))
            )
        except (InputError, TypeError, ValueError) as error:
            raise InputError(f"{table.source}, row {row} ({item}): {error}") from error
    return series


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    """A column as float64, NaN where missing; names the first cell that is no finite number."""
    values = np.empty(len(table.column(name)), np.float64)
    for row, cell in enumerate(table.column(name)):
        try:
            values[row] = math.nan if is_missing(cell) else float(cell)
        except (TypeError, ValueError):
            hint = "; write decimals with a point" if isinstance(cell, str) and "," in cell else ""
            raise InputError(
                f"{table.source}, row {row + table.first_row}, column {name!r}: "
                f"{cell!r} is not a number{hint}"
            ) from None
        if math.isinf(values[row]):
            raise InputError(
                f"{table.source}, row {row + table.first_row}, column {name!r}: "
                "infinite value; leave the cell empty if the value is missing"
            )
    return values


def _times(table: Table, name: str, note: Note) -> Timestamps:
    """A column as datetime64[us]; a constant time zone is dropped, a changing one refused."""
    cells = table.column(name)
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        times: Timestamps = cells
        if np.isnat(times).any():
            row = int(np.isnat(times).argmax()) + table.first_row
            raise InputError(f"{table.source}, row {row}, column {name!r}: the time is missing")
        return times
    stamps = np.empty(len(cells), "datetime64[us]")
    zones: set[str] = set()
    for row, cell in enumerate(cells):
        try:
            stamps[row] = parse_timestamp(cell)
        except InputError as error:
            raise InputError(
                f"{table.source}, row {row + table.first_row}, column {name!r}: {error}"
            ) from error
        zones.add(_zone(cell))
        if len(zones) > 1:
            raise InputError(
                f"{table.source}, row {row + table.first_row}, column {name!r}: the time zone "
                "changes within the column; write all times in one zone"
            )
    if zones != {""}:
        note(f"time zone {zones.pop()} dropped: calendar features follow the times as written")
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
    """Row indices of each series, in the order of their first appearance."""
    if item is None:
        return {None: list(range(len(table.cells[0])))}
    rows: dict[str | None, list[int]] = {}
    for row, cell in enumerate(table.column(item)):
        if is_missing(cell):
            raise InputError(
                f"{table.source}, row {row + table.first_row}, column {item!r}: the id is missing"
            )
        name = f"{cell:g}" if isinstance(cell, float) else str(cell)
        rows.setdefault(name, []).append(row)
    return rows


def _on_grid(
    where: str,
    item: str | None,
    times: Timestamps,
    values: NDArray[np.float64],
    row_numbers: NDArray[np.int64],
    given: Frequency | None,
    alias: str | None,
    note: Note,
) -> InputSeries:
    """Put one series on its regular grid; gaps become NaN."""
    gaps = np.diff(times).astype(np.int64)
    if (gaps <= 0).any():
        at = int((gaps <= 0).argmax()) + 1
        stamp, row = format_timestamp(times[at]), int(row_numbers[at])
        if gaps[at - 1] == 0:
            raise InputError(f"{where}, row {row}: {stamp} appears twice; keep one value for each")
        raise InputError(
            f"{where}, row {row}: {stamp} comes after {format_timestamp(times[at - 1])}; "
            "sort the rows by time"
        )
    try:
        freq = infer_frequency(times) if given is None else given
    except FrequencyError as error:
        raise FrequencyError(f"{where}: {error}") from error
    if given is None:
        note(f"{where}: frequency {freq.alias!r} (from {len(times)} timestamps)")
    steps = step_numbers(times, freq)
    span = int(steps[-1]) + 1
    if span > max(LONGEST_GRID, 100 * len(times)):
        raise FrequencyError(
            f"{where}: {len(times)} rows span {span:,} steps of frequency {freq.alias!r}; "
            "is the frequency right?"
        )
    grid = timestamps(times[0], freq, 0, span)
    off = grid[steps] != times
    if off.any() or (np.diff(steps) < 1).any():
        at = int(off.argmax()) if off.any() else int((np.diff(steps) < 1).argmax()) + 1
        raise FrequencyError(
            f"{where}, row {int(row_numbers[at])}: {format_timestamp(times[at])} is not on the "
            f"grid of frequency {alias or freq.alias!r} from {format_timestamp(times[0])}"
        )
    filled = np.full(len(grid), np.nan)
    filled[steps] = values
    absent = len(grid) - len(times)
    if absent:
        first = format_timestamp(grid[np.setdiff1d(np.arange(len(grid)), steps)[0]])
        note(f"{where}: {absent} timestamps are absent, taken as missing values (first: {first})")
    return InputSeries(item, filled, times[0], freq)
