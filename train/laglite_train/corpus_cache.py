"""Files of series, laid out once for memory-mapping in a cache folder.

A cached file is known by its path, size and time of change: hashing the content of a large corpus
at every start would cost as much as reading it. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from laglite.atomic_file import alone_in
from laglite.errors import InputError
from laglite_train.corpus_source import Note, read_rows
from laglite_train.corpus_store import SeriesStore, open_store, write_store

LAYOUT = 1  # of the stores; another number leaves older ones unused
LARGE_BYTES = 1 << 28
REFUSAL = "the corpus cache cannot be written ({}); set XDG_CACHE_HOME to another folder"


def cached_series(path: Path, cache: Path, note: Note) -> SeriesStore:
    """The series of a file, mapped from `cache`; laid out there first if need be.

    Processes that need the same file at once take turns, so that one of them does the work. A
    store that is damaged, or older than the file, is made anew. Raises InputError if the file
    cannot be read or the folder cannot be written.
    """
    path = path.resolve()
    place, state = _key(path)
    stem = cache / f"{place}-{state}-{path.stem[:40]}"
    store = open_store(stem)
    if store is not None:
        return store
    with alone_in(cache, REFUSAL):
        store = open_store(stem)  # another process may have been faster
        if store is not None:
            return store
        if path.stat().st_size >= LARGE_BYTES:
            note(f"{path}: laying out its values in {cache}, once")
        write_store(stem, read_rows(path, note))
        if _key(path) != (place, state):
            raise InputError(f"{path}: the file changed while it was read; start again")
        for old in cache.glob(f"{place}-*"):
            if not old.name.startswith(f"{stem.name}."):
                old.unlink(missing_ok=True)
    store = open_store(stem)
    if store is None:
        raise InputError(f"{stem}: what was just written cannot be read back; check the disk")
    return store


def _key(path: Path) -> tuple[str, str]:
    """A name for the place of a file, and one for its state."""
    status = path.stat()
    state = f"{LAYOUT} {status.st_size} {status.st_mtime_ns}"
    place, now = (hashlib.sha256(text.encode()).hexdigest() for text in (str(path), state))
    return place[:16], now[:16]
