"""Tables to series: long and wide tables, single series, and the series format.

Each series comes out on a regular grid, NaN where a value is missing. Every error names file, row
and column; what was guessed or filled in is told to `note`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.frequency import Frequency, parse_frequency
from laglite.reading.columns import Columns, choose_columns, series_columns
from laglite.reading.files import read_table, text_table
from laglite.reading.grid import Grid, describe_frequencies, on_grid
from laglite.reading.input_series import InputSeries
from laglite.reading.parquet_files import parquet_outline, read_row_groups
from laglite.reading.series_format import SERIES_FORMAT, from_series_format, is_series_format
from laglite.reading.tables import Note, Table, as_number, number_hint
from laglite.reading.text_files import decode_text
from laglite.reading.times import Times, read_times
from laglite.time_zone import TimeZone


def read_series(path: str, columns: Columns, freq: str | None, note: Note) -> list[InputSeries]:
    """Read all series of a CSV, JSON lines or Parquet file, "-" for text on standard input.

    With covariates, rows without a value at the end of a series are the steps to come. In the
    series format a covariate's cell is a list of numbers, or a list of such lists, that may be
    longer than the target. `note` receives what was guessed or filled in. Raises InputError or
    FrequencyError.
    """
    given = None if freq is None else parse_frequency(freq)
    return _any_series(read_table(path, columns.form, note), columns, given, note)


def text_series(
    source: str, raw: bytes, columns: Columns, freq: str | None, note: Note, most_values: int
) -> list[InputSeries]:
    """The series of CSV or JSON lines as they came, `source` being their name; see `read_series`.

    Raises InputError, also for more than `most_values` values, those between far times included.
    """
    given = None if freq is None else parse_frequency(freq)
    table = text_table(source, decode_text(source, raw), columns.form, note)
    return _any_series(table, columns, given, note, most_values)


def _any_series(
    table: Table,
    columns: Columns,
    given: Frequency | None,
    note: Note,
    most_values: int | None = None,
) -> list[InputSeries]:
    if is_series_format(table):
        return from_series_format(table, columns.covariates, given, note)
    return table_series(table, columns, given, note, most_values=most_values)


def count_streamed(path: str) -> int:
    """How many series `stream_series` can read of a file bit by bit; 0 for other formats."""
    if not path.endswith(".parquet"):
        return 0
    names, rows = parquet_outline(Path(path))
    return rows if set(SERIES_FORMAT) <= set(names) else 0


def stream_series(path: str, columns: Columns, count: int) -> Iterator[list[InputSeries]]:
    """The series of a file in the Parquet series format, `count` at a time. Raises InputError."""
    for table in read_row_groups(Path(path), count):
        yield from_series_format(table, columns.covariates, None, lambda _: None)


def table_series(
    table: Table,
    columns: Columns,
    given: Frequency | None,
    note: Note,
    *,
    sort: bool = False,
    most_values: int | None = None,
) -> list[InputSeries]:
    """The series of a long or wide table, in the order in which they appear.

    `given` is the frequency, None to infer it; with `sort` the rows of a series may come in any
    order, otherwise one that goes back in time is refused. `most_values` are taken, missing ones
    included. Raises InputError, FrequencyError.
    """
    chosen = choose_columns(table, columns, note)
    if chosen.form.wide:
        names = series_columns(table, chosen)
    else:
        names = [str(chosen.target), *chosen.covariates]
    cells = np.stack([_numbers(table, name) for name in names], axis=-1)
    times = None
    if chosen.time is not None:
        times = read_times(table, chosen.time, chosen.form, note)
    rows = np.asarray(table.rows)
    series: list[InputSeries] = []
    grids = []
    for item, index in rows_by_item(table, chosen.item).items():
        items = names if chosen.form.wide else [item]
        if times is None:
            series += _split(items, cells[index], None, given, None)
            continue
        where = table.source if item is None else f"{table.source}, series {item!r}"
        most_steps = None if most_values is None else most_values // len(names)
        grid, zone = _regular(
            where, times, cells, rows, index, given, note, sort=sort, most_steps=most_steps
        )
        grids.append(grid)
        most_values = None if most_values is None else most_values - grid.values.size
        series += _split(items, grid.values, grid.start, grid.freq, zone)
    if grids and given is None:
        note(f"{table.source}: {describe_frequencies(grids)}")
    return series


def _regular(
    where: str,
    times: Times,
    cells: NDArray[np.float64],
    rows: NDArray[np.int64],
    index: NDArray[np.int64],
    given: Frequency | None,
    note: Note,
    *,
    sort: bool,
    most_steps: int | None,
) -> tuple[Grid, TimeZone | None]:
    """The rows of one series on its grid, and the zone of the grid's times."""
    own = times.of(where, index, rows[index])
    if sort:
        own, order = own.sorted()
        index = index[order]
    clock = own.clock(given)
    zoned = own.offsets is not None
    grid = on_grid(
        where, clock, cells[index], rows[index], given, note, zoned=zoned, most_steps=most_steps
    )
    return grid, own.zone_of(clock, grid.freq)


def _split(
    items: Sequence[str | None],
    cells: NDArray[np.float64],
    start: np.datetime64 | None,
    freq: Frequency | None,
    zone: TimeZone | None,
) -> list[InputSeries]:
    """A series of each column for several items; for one, its value and covariates [rows, 1 + num].

    Rows without a value at the end of a series with covariates are the steps to come.
    """
    if len(items) > 1 or cells.shape[1] == 1:
        return [
            InputSeries(item, cells[:, place].copy(), start, freq, None, zone)
            for place, item in enumerate(items)
        ]
    values = cells[:, 0]
    observed = np.flatnonzero(~np.isnan(values))
    length = int(observed[-1]) + 1 if len(observed) else len(values)
    return [InputSeries(items[0], values[:length], start, freq, cells[:, 1:], zone)]


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    """A column as float64, NaN where missing; names the first cell that is no finite number."""
    cells = table.column(name)
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
        values = cells.astype(np.float64)
    else:
        values = np.empty(len(cells), np.float64)
        for place, cell in enumerate(cells):
            try:
                values[place] = as_number(cell, table.decimal)
            except (TypeError, ValueError):
                hint = number_hint(cell, table.decimal)
                raise InputError(
                    f"{table.where(place, name)}: {cell!r} is not a number{hint and '; '}{hint}"
                ) from None
    if np.isinf(values).any():
        raise InputError(
            f"{table.where(int(np.isinf(values).argmax()), name)}: infinite value; "
            "leave the cell empty if the value is missing"
        )
    return values


def rows_by_item(table: Table, item: str | None) -> Mapping[str | None, NDArray[np.int64]]:
    """Places of each series' rows, in the order of their first appearance."""
    if item is None:
        return {None: np.arange(len(table.rows))}
    places: dict[str | None, list[int]] = {}
    for place, cell in enumerate(table.column(item)):
        if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
            raise InputError(f"{table.where(place, item)}: the id is missing")
        whole = isinstance(cell, float) and cell.is_integer()
        places.setdefault(str(int(cell)) if whole else str(cell), []).append(place)
    return {name: np.asarray(some) for name, some in places.items()}
