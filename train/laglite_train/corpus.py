"""Training corpora: any mix of files and folders of series, memory-mapped, one set a file."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError, LagliteWarning
from laglite.user_cache import user_cache
from laglite_train.corpus_cache import cached_series
from laglite_train.corpus_source import Note
from laglite_train.corpus_store import Series, SeriesStore, StoredSeries

__all__ = ["Series", "SeriesSet", "read_corpus"]

UNTIMED = "untimed"


@dataclass(frozen=True)
class SeriesSet:
    """One data set: a name (the file's) and its series, read when they are asked for.

    `lengths`, `freqs`, `first_observed` and `covariate_counts` cost nothing a series where the set
    is stored.
    """

    name: str
    series: Sequence[Series]

    @property
    def points(self) -> int:
        """Number of values, missing ones included."""
        return int(self.lengths.sum())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of values of each series. int64 [series]."""
        if isinstance(self.series, StoredSeries):
            return self.series.pick(self.series.store.lengths)
        return np.array([len(one.values) for one in self.series], np.int64)

    @property
    def freqs(self) -> NDArray[np.str_]:
        """Frequency alias of each series as given, "" without times. [series]."""
        if isinstance(self.series, StoredSeries):
            return self.series.pick(self.series.store.freqs)
        axes = [one.axis for one in self.series]
        return np.array(["" if axis.freq is None else axis.freq.alias for axis in axes], str)

    @property
    def first_observed(self) -> NDArray[np.int64]:
        """Place of each series' first value that is not missing, its length if none is."""
        if isinstance(self.series, StoredSeries):
            return self.series.pick(self.series.store.first_observed)
        missing = [np.append(np.isnan(one.values), False) for one in self.series]
        return np.array([int(mask.argmin()) for mask in missing], np.int64)

    @property
    def covariate_counts(self) -> NDArray[np.int64]:
        """How many covariates each series has. int64 [series]."""
        if isinstance(self.series, StoredSeries):
            return self.series.pick(self.series.store.covariate_counts)
        counts = [0 if one.covariates is None else len(one.covariates) for one in self.series]
        return np.array(counts, np.int64)

    def subset(self, keep: NDArray[np.bool_]) -> SeriesSet:
        """The set with the series that the mask `keep` [series] chooses, in order."""
        places = np.flatnonzero(keep)
        if isinstance(self.series, StoredSeries):
            rows = self.series.row_numbers[places]
            return SeriesSet(self.name, StoredSeries(self.series.store, rows))
        return SeriesSet(self.name, [self.series[int(place)] for place in places])

    def by_frequency(self) -> list[SeriesSet]:
        """The set split by alias, named `NAME/ALIAS`; a set of one frequency is left as it is."""
        freqs = self.freqs
        aliases = list(dict.fromkeys(freqs.tolist()))
        if len(aliases) <= 1:
            return [self]
        return [
            SeriesSet(f"{self.name}/{alias or UNTIMED}", self.subset(freqs == alias).series)
            for alias in aliases
        ]


def read_corpus(
    paths: Iterable[Path],
    *,
    shortest: int,
    cache: Path | None = None,
    split_frequencies: bool = False,
    note: Note | None = None,
) -> list[SeriesSet]:
    """Open files, and every `*.parquet` in and below folders, each as one data set.

    Files hold the Parquet series format, or a long table (CSV or Parquet) of id, timestamp and
    value. The first opening lays their values out in the folder `cache` (that of the user if
    None), about 4 bytes a value; later ones map them, so that a corpus may be larger than memory
    and all processes share its pages.

    Series of fewer than `shortest` values or without an observed one are left out, and so are sets
    with none left: counts go to `note`, or become a LagliteWarning. With `split_frequencies`, a
    file of several frequencies gives several sets. Names are distinct: files of one stem are told
    apart by their folders.

    Raises InputError for a missing path, a file that cannot be read, a cache folder that cannot be
    written, or if nothing is left.
    """
    tell = _warn if note is None else note
    files = _find_files(paths, tell)
    folder = user_cache("corpus") if cache is None else cache
    kept: list[SeriesSet] = []
    left_out: Counter[str] = Counter()
    for file, name in zip(files, _distinct_names(files), strict=True):
        store = cached_series(file, folder, tell)
        keep, reasons = _usable(store, shortest)
        left_out += reasons
        if not keep.any():
            why = f"of its {len(store)} series: {_counts(reasons)}" if len(store) else "it is empty"
            tell(f"{file}: data set {name!r} is skipped, {why}")
            continue
        if not keep.all():
            tell(f"{file}: of {len(store)} series, left out: {_counts(reasons)}")
        group = SeriesSet(name, StoredSeries(store))
        kept.append(group if keep.all() else group.subset(keep))
    if not kept:
        counts = f" ({_counts(left_out)})" if left_out else ""
        raise InputError(f"no series of at least {shortest} values in {len(files)} files{counts}")
    if split_frequencies:
        return [part for group in kept for part in group.by_frequency()]
    return kept


def _warn(message: str) -> None:
    warnings.warn(message, LagliteWarning, stacklevel=3)


def _usable(store: SeriesStore, shortest: int) -> tuple[NDArray[np.bool_], Counter[str]]:
    """Which series can be used, and how many cannot for which reason."""
    short = store.lengths < shortest
    unseen = ~short & (store.first_observed >= store.lengths)
    reasons = {
        f"shorter than {shortest} values": int(short.sum()),
        "without an observed value": int(unseen.sum()),
    }
    return ~(short | unseen), +Counter(reasons)


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def _find_files(paths: Iterable[Path], note: Note) -> list[Path]:
    """Files as given, folders as the Parquet files in and below them, each file once."""
    files: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            found = [
                file
                for file in sorted(path.rglob("*.parquet"))
                if not any(part.startswith(".") for part in file.relative_to(path).parts)
            ]
            if not found:
                raise InputError(f"{path}: no *.parquet file in this folder")
        elif path.is_file():
            found = [path]
        else:
            raise InputError(f"{path}: no such file or folder")
        for file in found:
            if file.resolve() in files:
                note(f"{file}: given twice, read once")
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """The stem of each file, with as many of its folders as it takes to tell it from others."""
    places = [file.resolve() for file in files]
    names = [place.stem for place in places]
    depth = 1
    while clashes := {name for name, count in Counter(names).items() if count > 1}:
        depth += 1
        names = [_name(place, depth) if name in clashes else name
                 for name, place in zip(names, places, strict=True)]  # fmt: skip
    return names


def _name(place: Path, depth: int) -> str:
    """The last `depth` parts of a path; with the ending once there are no more folders."""
    if depth <= len(place.parts):
        return "/".join(place.with_suffix("").parts[-depth:])
    return "/".join(place.parts)
