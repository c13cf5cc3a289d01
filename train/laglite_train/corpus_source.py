"""Files of series to batches of rows, a bounded number of values at a time.

The Parquet series format (item_id, start, freq, target, optional covariates) is read in record
batches, so that a file may be larger than memory. Long tables (id, timestamp, value; CSV or
Parquet) go through the runtime's reader, which holds one whole file in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.reading import Columns, InputSeries, read_series
from laglite.tokens import TimeAxis

COLUMNS = ("item_id", "start", "freq", "target")
COVARIATES = "covariates"
BATCH_VALUES = 1 << 18
LARGEST = float(np.finfo(np.float32).max)

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]
Note = Callable[[str], None]


@dataclass(frozen=True)
class RowBatch:
    """Some series of a file, one after the other.

    `items` and `axes` have one entry a series, `lengths` and `covariate_counts` int64 [series].
    `values` float32 [sum of lengths] are the targets; `covariates` float32
    [sum of covariate_counts * lengths] one covariate after the other, series by series, without
    what a file holds beyond the target's end.
    """

    items: Sequence[str]
    axes: Sequence[TimeAxis]
    lengths: Counts
    values: Floats
    covariate_counts: Counts
    covariates: Floats


def read_rows(path: Path, note: Note) -> Iterator[RowBatch]:
    """The series of one file in order; `note` receives what a long table's reader guessed.

    Raises InputError that names the file and the row.
    """
    if path.suffix != ".parquet" and not _has_parquet_magic(path):
        yield from _long_table(path, note)
        return
    try:
        file = pq.ParquetFile(path, memory_map=True)
        kinds = {field.name: field.type for field in file.schema_arrow}
        target = kinds.get("target")
        rows_of_series = _is_list(target) or {"start", "freq"} <= kinds.keys()
        if rows_of_series or path.suffix != ".parquet":
            yield from _series_format(path, file)
            return
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from error
    yield from _long_table(path, note)


def _has_parquet_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _long_table(path: Path, note: Note) -> Iterator[RowBatch]:
    series = iter(read_series(str(path), Columns(), None, note))
    while some := list(islice(series, 1000)):
        values = [_to_float32(str(path), one, path.stem) for one in some]
        none = np.zeros(len(some), np.int64)
        yield RowBatch(
            [one.item_id or path.stem for one in some],
            [TimeAxis(one.start, one.freq) for one in some],
            np.array([len(one) for one in values], np.int64),
            np.concatenate(values),
            none,
            np.empty(0, np.float32),
        )


def _to_float32(source: str, series: InputSeries, name: str) -> Floats:
    beyond = np.abs(series.values) > LARGEST
    if beyond.any():
        at = int(beyond.argmax())
        raise InputError(
            f"{source}, series {series.item_id or name!r}: value {series.values[at]:g} at {at} is "
            "beyond single precision; rescale the series"
        )
    return series.values.astype(np.float32)


def _series_format(path: Path, file: Any) -> Iterator[RowBatch]:
    names = file.schema_arrow.names
    absent = [name for name in COLUMNS if name not in names]
    if absent:
        raise InputError(
            f"{path}: column {absent[0]!r} is missing; the series format has {', '.join(COLUMNS)}"
        )
    wanted = [*COLUMNS, *([COVARIATES] if COVARIATES in names else [])]
    first = 0
    for group in range(file.num_row_groups):
        # Rows differ in length, so each row group has its own number of rows a batch.
        meta = file.metadata.row_group(group)
        values = sum(meta.column(place).num_values for place in range(meta.num_columns))
        rows = max(1, BATCH_VALUES * meta.num_rows // max(1, values))
        for batch in file.iter_batches(rows, [group], wanted, use_threads=False):
            yield _decode(path, batch, first)
            first += batch.num_rows


def _decode(path: Path, batch: Any, first: int) -> RowBatch:
    """A record batch whose first row is row `first` of the file."""
    items = batch.column("item_id").to_pylist()

    def where(row: int) -> str:
        return f"{path}, row {first + row} ({items[row]})"

    target = batch.column("target")
    if not _is_list(target.type) or not _is_number(target.type.value_type):
        raise InputError(f"{where(0)}: target must be a list of numbers, not {target.type}")
    if target.null_count:
        raise InputError(f"{where(_first_null(target))}: target is missing")
    axes = _axes(batch, where)
    lengths = _list_lengths(target)
    values = _numbers(target.flatten())
    at = _first_infinite(values)
    if at is not None:
        row = int(np.searchsorted(np.cumsum(lengths), at, side="right"))
        place = at - int(lengths[:row].sum())
        raise InputError(f"{where(row)}: target holds an infinite value ({values[at]} at {place})")
    if COVARIATES in batch.schema.names:
        counts, covariates = _covariates(batch.column(COVARIATES), lengths, where)
    else:
        counts, covariates = np.zeros(len(items), np.int64), np.empty(0, np.float32)
    names = [f"row {first + row}" if item is None else str(item) for row, item in enumerate(items)]
    return RowBatch(names, axes, lengths, values.astype(np.float32), counts, covariates)


def _axes(batch: Any, where: Callable[[int], str]) -> list[TimeAxis]:
    starts = batch.column("start")
    if pa.types.is_timestamp(starts.type):  # nanoseconds would need pandas
        starts = starts.cast(pa.timestamp("us", starts.type.tz), safe=False)
    axes = []
    pairs = zip(starts.to_pylist(), batch.column("freq").to_pylist(), strict=True)
    for row, (start, freq) in enumerate(pairs):
        try:
            axes.append(TimeAxis.of(start, freq))
        except InputError as error:
            raise InputError(f"{where(row)}: {error}") from error
    return axes


def _covariates(column: Any, lengths: Counts, where: Callable[[int], str]) -> tuple[Counts, Floats]:
    """Covariates of each series (0 where the cell is null or empty), and their values."""
    kind = column.type
    inner_kind = kind.value_type if _is_list(kind) else None
    if pa.types.is_null(kind) or (inner_kind is not None and pa.types.is_null(inner_kind)):
        return np.zeros(len(column), np.int64), np.empty(0, np.float32)
    if not _is_list(inner_kind) or not _is_number(inner_kind.value_type):
        raise InputError(f"{where(0)}: covariates must be a list of lists of numbers, not {kind}")
    counts, inner = _list_lengths(column), column.flatten()
    rows = np.repeat(np.arange(len(column)), counts)
    if inner.null_count:
        raise InputError(f"{where(int(rows[_first_null(inner)]))}: a covariate is missing")
    sizes = _list_lengths(inner)
    wanted = lengths[rows]
    if (sizes < wanted).any():
        at = int((sizes < wanted).argmax())
        raise InputError(
            f"{where(int(rows[at]))}: a covariate has {sizes[at]} values, the target {wanted[at]}; "
            "give one for each step"
        )
    values = _numbers(inner.flatten())
    at_value = _first_infinite(values)
    if at_value is not None:
        at = int(np.searchsorted(np.cumsum(sizes), at_value, side="right"))
        raise InputError(
            f"{where(int(rows[at]))}: a covariate holds an infinite value ({values[at_value]})"
        )
    if (sizes > wanted).any():  # steps ahead of the target: for forecasts, not for training
        step = np.arange(len(values)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        values = values[step < np.repeat(wanted, sizes)]
    return counts, values.astype(np.float32)


def _is_list(kind: Any) -> bool:
    types = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return kind is not None and any(check(kind) for check in types)


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _list_lengths(column: Any) -> Counts:
    lengths: Counts = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64)


def _first_null(column: Any) -> int:
    return int(column.is_null().to_numpy(zero_copy_only=False).argmax())


def _numbers(column: Any) -> NDArray[Any]:
    """float32 as it is, anything else as float64; NaN where null."""
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values if values.dtype == np.float32 else values.astype(np.float64)


def _first_infinite(values: NDArray[Any]) -> int | None:
    """Where the first value beyond float32 is."""
    beyond = np.abs(values) > LARGEST
    return int(beyond.argmax()) if beyond.any() else None
