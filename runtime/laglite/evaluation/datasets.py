"""What to evaluate on: one file of series, or a folder of data sets with a manifest."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from laglite.errors import InputError
from laglite.evaluation.seasonal_naive import default_season
from laglite.reading import Columns, InputSeries, read_series
from laglite.reading.tables import Note

MANIFEST = "manifest.csv"
ENDINGS = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson")


@dataclass(frozen=True)
class DataSet:
    """Where a data set is and how to measure on it; `season` None: from the frequency."""

    name: str
    path: str
    horizon: int
    season: int | None
    freq: str | None


def list_datasets(
    source: str, horizon: int | None, season: int | None, freq: str | None
) -> list[DataSet]:
    """The file at `source` (- is standard input), or the data sets of the folder there.

    A folder has a `manifest.csv` with the columns `dataset` (a file's name without its ending),
    `horizon` and, where known, `seasonality` and `freq`; `horizon`, `season` and `freq` come
    before it. Raises InputError.
    """
    if not Path(source).is_dir():
        if horizon is None:
            raise InputError(f"{source}: how many steps ahead? give --horizon")
        name = "standard input" if source == "-" else Path(source).stem
        return [DataSet(name, source, horizon, season, freq)]
    manifest = Path(source) / MANIFEST
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{manifest}: cannot be read ({reason}); a folder needs one") from error
    rows = list(csv.DictReader(text.splitlines()))
    if not rows:
        raise InputError(f"{manifest}: lists no data set")
    found = [
        _dataset(manifest, line, row, horizon, season, freq) for line, row in enumerate(rows, 2)
    ]
    names = [dataset.name for dataset in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{manifest}: lists {twice!r} twice")
    return found


def read_dataset(dataset: DataSet, columns: Columns, note: Note) -> list[InputSeries]:
    """The series of a data set; `note` receives what was guessed. Raises InputError."""
    series = read_series(dataset.path, columns, dataset.freq, note)
    if dataset.season is None:
        for season, alias in sorted(set(_seasons(series))):
            note(f"{dataset.name}: season {season}, from {alias}")
    return series


def _seasons(series: list[InputSeries]) -> Iterator[tuple[int, str]]:
    for one in series:
        known = "an unknown frequency" if one.freq is None else f"the frequency {one.freq.alias!r}"
        yield default_season(one.freq), known


def _dataset(
    manifest: Path,
    line: int,
    row: dict[str, str],
    horizon: int | None,
    season: int | None,
    freq: str | None,
) -> DataSet:
    """One line of the manifest, checked."""
    name = (row.get("dataset") or "").strip()
    if not name:
        raise InputError(f"{manifest}, row {line}: no name in a column 'dataset'")
    if horizon is None:
        horizon = _count(manifest, line, row, "horizon")
        if horizon is None:
            raise InputError(f"{manifest}, row {line}: no 'horizon'; add it, or give --horizon")
    paths = [manifest.parent / f"{name}{ending}" for ending in ENDINGS]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise InputError(
            f"{manifest}, row {line}: there is neither {paths[0]} nor {name} with another of the "
            f"endings {', '.join(ENDINGS)}"
        )
    if season is None:
        season = _count(manifest, line, row, "seasonality")
    if freq is None and path.suffix != ".parquet":  # whose series state their own
        freq = (row.get("freq") or "").strip() or None
    return DataSet(name, str(path), horizon, season, freq)


def _count(manifest: Path, line: int, row: dict[str, str], column: str) -> int | None:
    """A whole number of at least 1, None where the cell is empty or the column absent."""
    cell = (row.get(column) or "").strip()
    if not cell:
        return None
    if not cell.isdecimal() or int(cell) < 1:
        raise InputError(
            f"{manifest}, row {line}: {column} must be a whole number of at least 1, not {cell!r}"
        )
    return int(cell)
