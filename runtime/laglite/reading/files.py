"""Files to tables: CSV with the standard library, Parquet with pyarrow."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laglite.errors import InputError, missing
from laglite.frequency import parse_timestamp

MISSING_TEXTS = frozenset({"", "nan", "na", "n/a", "null", "none"})


@dataclass(frozen=True)
class Table:
    """Cells of a file by column.

    `rows` are the numbers a person would look for: lines of a CSV, rows from 0 of a Parquet file.
    `zones` names the time zone of columns whose type has one; their times are wall-clock times.
    """

    source: str
    names: Sequence[str]
    cells: Sequence[Sequence[Any]]
    rows: Sequence[int]
    zones: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> Sequence[Any]:
        return self.cells[self.names.index(name)]


def read_table(path: str) -> Table:
    """Read a CSV or Parquet file, "-" for CSV on standard input. Raises InputError."""
    return _read_parquet(Path(path)) if path.endswith(".parquet") else _read_csv(path)


def is_number(cell: Any) -> bool:
    """Whether a cell is a number or stands for a missing one."""
    try:
        float(cell)
    except (TypeError, ValueError):
        return isinstance(cell, str) and cell.strip().lower() in MISSING_TEXTS
    return True


def is_date(cell: Any) -> bool:
    """Whether a cell can be read as a point in time."""
    try:
        parse_timestamp(cell)
    except InputError:
        return False
    return True


def is_missing(cell: Any) -> bool:
    """Whether a cell stands for a missing value."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING_TEXTS
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _read_csv(path: str) -> Table:
    source = "standard input" if path == "-" else path
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text (byte {error.start})") from error
    rows = _csv_rows(source, text)
    if not rows:
        raise InputError(f"{source}: the file is empty")
    names, body = _split_header(source, rows)
    if not body:
        raise InputError(f"{source}: there is a header, but no row of values")
    for number, row in body:
        if not any(row):
            raise InputError(
                f"{source}, row {number}: a blank line between the values; "
                "write NaN if a value is missing, or remove the line"
            )
        if len(row) != len(names):
            raise InputError(
                f"{source}, row {number}: {len(row)} cells where the header has {len(names)}"
            )
    cells = list(zip(*(row for _, row in body), strict=True))
    return Table(source, names, cells, [number for number, _ in body])


def _csv_rows(source: str, text: str) -> list[tuple[int, list[str]]]:
    """Rows with their line numbers, without blank lines at either end."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{source}, row {reader.line_num}: not valid CSV ({error})") from error
    filled = [place for place, (_, row) in enumerate(rows) if any(row)]
    return rows[filled[0] : filled[-1] + 1] if filled else []


def _split_header(
    source: str, rows: list[tuple[int, list[str]]]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names and the rows below them; plain values need no header."""
    number, first = rows[0]
    values = [cell for cell in first if is_number(cell) or is_date(cell)]
    if len(values) == len(first):
        return [f"column {n + 1}" for n in range(len(first))], rows
    stray = next((cell for cell in values if cell.strip()), None)
    if stray is not None and len(first) > 1:
        raise InputError(
            f"{source}, row {number}: {stray!r} is a value, not a column's name; "
            "add a first line that names the columns"
        )
    names = [name.strip() for name in first]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{source}: the header names column {twice!r} twice")
    return names, rows[1:]


def read_row_groups(path: Path, rows: int) -> Iterator[Table]:
    """A Parquet file as tables of at most `rows` rows, one after the other. Raises InputError."""
    pa, _, pq = _pyarrow()
    first = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield _arrow_table(path, pa.Table.from_batches([batch]), first)
                first += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error


def parquet_outline(path: Path) -> tuple[Sequence[str], int]:
    """Names of a Parquet file's columns, and how many rows it has. Raises InputError."""
    pa, _, pq = _pyarrow()
    if not path.is_file():
        raise InputError(f"{path}: cannot be read (no such file)")
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow.names, file.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error


def _pyarrow() -> tuple[Any, Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing("pyarrow", "tables", "reading Parquet") from error
    return pa, pc, pq


def _read_parquet(path: Path) -> Table:
    pa, _, pq = _pyarrow()
    if not path.is_file():
        raise InputError(f"{path}: cannot be read (no such file)")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error
    if table.num_rows == 0:
        raise InputError(f"{path}: the table has no rows")
    return _arrow_table(path, table, 0)


def _arrow_table(path: Path, table: Any, first: int) -> Table:
    """Cells of an Arrow table whose first row is row `first` of the file."""
    pa, pc, _ = _pyarrow()
    cells, zones = [], {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_timestamp(column.type) and column.type.tz is not None:
            zones[name] = column.type.tz
            column = pc.local_timestamp(column)  # noqa: PLW2901
        cells.append(_arrow_cells(pa, column))
    rows = range(first, first + table.num_rows)
    return Table(str(path), table.column_names, cells, rows, zones)


def _arrow_cells(pa: Any, column: Any) -> Sequence[Any]:
    """NumPy values of a column of numbers or times, Python values of any other."""
    kind = column.type
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and column.null_count == 0):
        numbers: Sequence[Any] = column.to_numpy()
        return numbers
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        stamps: Sequence[Any] = column.to_numpy().astype("datetime64[us]")
        return stamps
    values: Sequence[Any] = column.to_pylist()
    return values
