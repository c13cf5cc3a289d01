"""Corpora in the Parquet series format: item_id, start, freq, target, one row per series."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.tokens import TimeAxis

COLUMNS = ("item_id", "start", "freq", "target")
LISTS = (pa.ListScalar, pa.FixedSizeListScalar)  # a large list is a ListScalar too


@dataclass(frozen=True)
class Series:
    """One series of a corpus; `values` float32 [length] with NaN where missing."""

    item_id: str
    axis: TimeAxis
    values: NDArray[np.float32]


@dataclass(frozen=True)
class SeriesSet:
    """One data set: a name (the file's) and its series."""

    name: str
    series: Sequence[Series]

    @property
    def points(self) -> int:
        return sum(len(series.values) for series in self.series)


def read_corpus(paths: Iterable[Path], *, shortest: int) -> list[SeriesSet]:
    """Read files, and every `*.parquet` of folders, each as one data set.

    Series of fewer than `shortest` values are left out, and so are sets with none left. Raises
    InputError for a missing path, a file of another format, or if nothing is left.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.parquet"))
            if not found:
                raise InputError(f"{path}: no *.parquet file in this folder")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    sets = [SeriesSet(file.stem, _read_file(file, shortest)) for file in files]
    kept = [group for group in sets if group.series]
    if not kept:
        raise InputError(f"no series of at least {shortest} values in {len(files)} files")
    return kept


def _read_file(path: Path, shortest: int) -> list[Series]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from error
    absent = [name for name in COLUMNS if name not in table.column_names]
    if absent:
        raise InputError(
            f"{path}: column {absent[0]!r} is missing; the series format has {', '.join(COLUMNS)}"
        )
    targets = table.column("target")
    rows: list[Series] = []
    columns = [table.column(name) for name in COLUMNS[:3]]
    for row in range(table.num_rows):
        item, start, freq = (column[row].as_py() for column in columns)
        try:
            axis = TimeAxis.of(start, freq)
            values = _values(targets[row])
        except InputError as error:
            raise InputError(f"{path}, row {row} ({item}): {error}") from error
        if len(values) >= shortest and not np.isnan(values).all():
            rows.append(Series(f"row {row}" if item is None else str(item), axis, values))
    return rows


def _values(target: Any) -> NDArray[np.float32]:
    """A `target` cell as float32, NaN where missing. Raises InputError."""
    kind = target.type
    if not isinstance(target, LISTS) or not (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        raise InputError(f"target must be a list of numbers, not {kind}")
    if not target.is_valid:
        raise InputError("target is missing")
    values = target.values.to_numpy(zero_copy_only=False).astype(np.float64)
    beyond = np.abs(values) > np.finfo(np.float32).max
    if beyond.any():
        at = int(beyond.argmax())
        raise InputError(f"target holds an infinite value ({values[at]} at {at})")
    return values.astype(np.float32)
