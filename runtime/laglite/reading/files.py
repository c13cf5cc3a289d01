"""Files to tables: CSV with the standard library, Parquet with pyarrow."""

from __future__ import annotations

import csv
import io
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from laglite.errors import InputError, missing

MISSING_TEXTS = frozenset({"", "nan", "na", "n/a", "null", "none"})


@dataclass(frozen=True)
class Table:
    """Cells of a file by column; `row_numbers` are those a person would look for in the file."""

    source: str
    names: Sequence[str]
    cells: Sequence[Sequence[Any]]
    first_row: int

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
    rows = [(n, row) for n, row in enumerate(_csv_rows(source, text), start=1) if any(row)]
    if not rows:
        raise InputError(f"{source}: the file is empty")
    _, header = rows[0]
    if all(is_number(cell) for cell in header):  # plain values without a header
        names, body = [f"column {n + 1}" for n in range(len(header))], rows
    else:
        names, body = [name.strip() for name in header], rows[1:]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{source}: the header names column {twice!r} twice")
    if not body:
        raise InputError(f"{source}: there is a header, but no row of values")
    for number, row in body:
        if len(row) != len(names):
            raise InputError(
                f"{source}, row {number}: {len(row)} cells where the header has {len(names)}"
            )
    if body[-1][0] - body[0][0] != len(body) - 1:
        blank = next(a for (a, _), (b, _) in itertools.pairwise(body) if b != a + 1) + 1
        raise InputError(
            f"{source}, row {blank}: a blank line between the values; "
            "write NaN if a value is missing, or remove the line"
        )
    cells = list(zip(*(row for _, row in body), strict=True))
    return Table(source, names, cells, body[0][0])


def _csv_rows(source: str, text: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{source}: not valid CSV ({error})") from error


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing("pyarrow", "tables", "reading Parquet") from error
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error
    if table.num_rows == 0:
        raise InputError(f"{path}: the table has no rows")
    cells = [_arrow_cells(pa, column) for column in table.columns]
    return Table(str(path), table.column_names, cells, 0)


def _arrow_cells(pa: Any, column: Any) -> Sequence[Any]:
    """Python or NumPy values of one column; numbers keep their type, null becomes NaN."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers: Sequence[Any] = column.to_numpy().astype(np.float64)
        return numbers
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        stamps: Sequence[Any] = column.to_numpy().astype("datetime64[us]")
        return stamps
    values: Sequence[Any] = column.to_pylist()
    return values
