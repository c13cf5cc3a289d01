"""Parquet files and Arrow tables to tables, with pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from laglite.errors import InputError, missing
from laglite.reading.memory import check_fits
from laglite.reading.tables import Table, Zoned

MEMORY_A_CELL = 16  # a number in Arrow and in NumPy; lists and text come on top


def read_parquet(path: Path) -> Table:
    """A whole file. Raises InputError."""
    pa, _, pq = import_pyarrow("reading Parquet")
    names, rows = parquet_outline(path)
    if rows == 0:
        raise InputError(f"{path}: the table has no rows")
    check_fits(str(path), rows * len(names) * MEMORY_A_CELL, f"a table of {rows:,} rows")
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error
    return arrow_table(str(path), table, 0)


def read_row_groups(path: Path, rows: int) -> Iterator[Table]:
    """A Parquet file as tables of at most `rows` rows, one after the other. Raises InputError."""
    pa, _, pq = import_pyarrow("reading Parquet")
    first = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield arrow_table(str(path), pa.Table.from_batches([batch]), first)
                first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error


def parquet_outline(path: Path) -> tuple[Sequence[str], int]:
    """Names of a Parquet file's columns, and how many rows it has. Raises InputError."""
    pa, _, pq = import_pyarrow("reading Parquet")
    if not path.is_file():
        raise InputError(f"{path}: cannot be read (no such file)")
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow.names, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error


def import_pyarrow(purpose: str) -> tuple[Any, Any, Any]:
    """pyarrow, its compute and its Parquet module. Raises MissingDependencyError."""
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing("pyarrow", "tables", purpose) from error
    return pa, pc, pq


def arrow_table(source: str, table: Any, first: int) -> Table:
    """Cells of an Arrow table whose first row is row `first` of the file."""
    pa, pc, _ = import_pyarrow("reading tables")
    cells, zones = [], {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)  # noqa: PLW2901
        read = _cells(pa, column)
        if pa.types.is_timestamp(column.type) and column.type.tz is not None:
            wall = _cells(pa, pc.local_timestamp(column))
            zones[name] = Zoned(column.type.tz, np.subtract(wall, read))
            read = wall
        cells.append(read)
    rows = range(first, first + table.num_rows)
    return Table(source, table.column_names, cells, rows, zones)


def _cells(pa: Any, column: Any) -> Sequence[Any]:
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
