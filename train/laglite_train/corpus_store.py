"""Series on disk as one flat array: values memory-mapped, a compact index, no object a series.

A store is two files. `NAME.f32` holds little-endian float32: all targets and covariates one after
the other. `NAME.index` holds where each series lies, its start, frequency and id: 32 bytes of
SHA-256, then an npz of plain arrays (no pickle) that the hash covers.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from laglite.atomic_file import replacing
from laglite.errors import InputError
from laglite.frequency import parse_frequency
from laglite.tokens import TimeAxis
from laglite_train.corpus_source import RowBatch

DIGEST_BYTES = 32


@dataclass(frozen=True)
class Series:
    """One series of a corpus.

    `values` float32 [length] with NaN where missing, `covariates` float32 [num, length] or None.
    Both are read-only views of the file where the series comes from a stored corpus.
    """

    item_id: str
    axis: TimeAxis
    values: NDArray[np.float32]
    covariates: NDArray[np.float32] | None = None


class SeriesStore:
    """An opened store; pickles as its path, so that workers map the same pages.

    `lengths` and `first_observed` (place of the first value that is not missing, the length if
    all are) are int64 [series].
    """

    def __init__(self, stem: Path, index: Mapping[str, NDArray[Any]]) -> None:
        self.stem = stem
        self.lengths: NDArray[np.int64] = index["lengths"]
        self.first_observed: NDArray[np.int64] = index["first_observed"]
        self._index = index
        self._frequencies = [parse_frequency(alias) for alias in index["aliases"][1:]]
        self._values = np.empty(0, np.float32)
        if index["total"]:
            self._values = np.memmap(values_path(stem), "<f4", "r").view(np.ndarray)

    @property
    def freqs(self) -> NDArray[np.str_]:
        """Frequency alias of each series, "" without times. [series]."""
        aliases: NDArray[np.str_] = self._index["aliases"][self._index["frequency"]]
        return aliases

    @property
    def covariate_counts(self) -> NDArray[np.int64]:
        """How many covariates each series has. int64 [series]."""
        counts: NDArray[np.int64] = self._index["covariate_counts"]
        return counts

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[Callable[[Path], SeriesStore], tuple[Path]]:
        return _reopen, (self.stem,)

    def series(self, row: int) -> Series:
        """Series number `row`, its values a view of the mapped file."""
        index = self._index
        begin, length = int(index["offsets"][row]), int(self.lengths[row])
        frequency = int(index["frequency"][row])
        axis = TimeAxis()
        if frequency:
            axis = TimeAxis(index["starts"][row], self._frequencies[frequency - 1])
        covariates, count = None, int(index["covariate_counts"][row])
        if count:
            first = int(index["covariate_offsets"][row])
            covariates = self._values[first : first + count * length].reshape(count, length)
        name = index["id_bytes"][index["id_ends"][row] : index["id_ends"][row + 1]]
        values = self._values[begin : begin + length]
        return Series(name.tobytes().decode(), axis, values, covariates)


@dataclass(frozen=True)
class StoredSeries(Sequence[Series]):
    """Some rows of a store (all: None), each built when it is asked for."""

    store: SeriesStore
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.store) if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Series: ...
    @overload
    def __getitem__(self, place: slice) -> StoredSeries: ...
    def __getitem__(self, place: int | slice) -> Series | StoredSeries:
        if isinstance(place, slice):
            return StoredSeries(self.store, self.row_numbers[place])
        at = range(len(self))[place]
        return self.store.series(at if self.rows is None else int(self.rows[at]))

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """Rows of the store, in order. int64 [series]."""
        return np.arange(len(self.store)) if self.rows is None else self.rows

    def pick(self, of_store: NDArray[Any]) -> NDArray[Any]:
        """The entries of these rows in an array of the store's."""
        return of_store if self.rows is None else of_store[self.rows]


def values_path(stem: Path) -> Path:
    """The file of values of the store `stem`."""
    return stem.with_name(f"{stem.name}.f32")


def index_path(stem: Path) -> Path:
    """The index of the store `stem`."""
    return stem.with_name(f"{stem.name}.index")


def write_store(stem: Path, batches: Iterable[RowBatch]) -> None:
    """Write both files, the index last; each appears whole or not at all.

    Raises InputError if they cannot be written.
    """
    with replacing(values_path(stem)) as temporary, temporary.open("wb") as file:
        index = _write_values(file, batches)
        file.flush()
        os.fsync(file.fileno())  # the index, once there, vouches for the values
    buffer = io.BytesIO()
    np.savez(buffer, **index)
    content = buffer.getvalue()
    with replacing(index_path(stem)) as temporary:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)


def open_store(stem: Path) -> SeriesStore | None:
    """The store, or None where it is absent, damaged or incomplete.

    The index is checked by its hash, the values by their size alone: reading all of them at every
    start would undo the point of mapping them.
    """
    try:
        content = index_path(stem).read_bytes()
        size = values_path(stem).stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{stem}: cannot be read ({error.strerror})") from error
    digest, archive = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(archive).digest() != digest:
        return None
    with np.load(io.BytesIO(archive), allow_pickle=False) as file:
        index = {name: file[name] for name in file.files}
    return SeriesStore(stem, index) if size == 4 * int(index["total"]) else None


def _reopen(stem: Path) -> SeriesStore:
    store = open_store(stem)
    if store is None:
        raise InputError(f"{stem}: the corpus cache changed while in use; start the run again")
    return store


def _write_values(file: io.BufferedWriter, batches: Iterable[RowBatch]) -> dict[str, NDArray[Any]]:
    """Write the values of all batches and return the arrays of the index."""
    columns: dict[str, list[NDArray[Any]]] = {
        "offsets": [], "lengths": [], "first_observed": [], "starts": [], "frequency": [],
        "covariate_counts": [], "covariate_offsets": [], "id_sizes": [], "id_bytes": [],
    }  # fmt: skip
    aliases = {"": 0}
    total = 0
    for batch in batches:
        lengths, counts = batch.lengths, batch.covariate_counts
        ids = [item.encode() for item in batch.items]
        covariate_sizes = counts * lengths
        part = {
            "offsets": total + _starts(lengths),
            "lengths": lengths,
            "first_observed": _first_observed(batch.values, lengths),
            "starts": np.array(
                ["NaT" if axis.start is None else axis.start for axis in batch.axes],
                "datetime64[us]",
            ),
            "frequency": np.array(
                [
                    aliases.setdefault("" if axis.freq is None else axis.freq.alias, len(aliases))
                    for axis in batch.axes
                ],
                np.int32,
            ),
            "covariate_counts": counts,
            "covariate_offsets": total + len(batch.values) + _starts(covariate_sizes),
            "id_sizes": np.array([len(name) for name in ids], np.int64),
            "id_bytes": np.frombuffer(b"".join(ids), np.uint8),
        }
        for name, column in part.items():
            columns[name].append(column)
        for values in (batch.values, batch.covariates):
            file.write(np.ascontiguousarray(values, "<f4").data)
            total += len(values)
    kinds = {"starts": "datetime64[us]", "frequency": np.int32, "id_bytes": np.uint8}
    index = {
        name: np.concatenate([np.empty(0, kinds.get(name, np.int64)), *parts])
        for name, parts in columns.items()
    }
    index["id_ends"] = np.concatenate([[0], np.cumsum(index.pop("id_sizes"))]).astype(np.int64)
    return {**index, "aliases": np.array(list(aliases)), "total": np.array(total)}


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of consecutive pieces of these sizes begins."""
    return np.cumsum(sizes) - sizes


def _first_observed(values: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each series' first value that is not missing, its length if there is none."""
    begins = _starts(lengths)
    observed = np.append(np.flatnonzero(~np.isnan(values)), len(values))
    first = observed[np.searchsorted(observed, begins)]
    return np.minimum(first - begins, lengths)
