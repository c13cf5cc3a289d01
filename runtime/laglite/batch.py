"""Batches of series: prompts of one length encoded together, then a series to each thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from laglite.backends import Backend
from laglite.decoding import PathRequest, Prefilled, prefill, sample_paths
from laglite.errors import InputError
from laglite.heads import HEADS
from laglite.memory import available_memory, gigabytes
from laglite.spec import ModelSpec

Paths = tuple[NDArray[np.float32], NDArray[np.float32] | None]

CACHE_BYTES = 64 << 20  # of the prompts' keys and values that wait at once
MOST_SERIES = 64
UNASKED_BYTES = 256 << 20  # what paths may take before the system is asked how much is left


def check_paths_fit(spec: ModelSpec, paths: int, horizon: int, series: int) -> None:
    """Raises InputError where so many paths, of `series` at once, take more than memory holds."""
    cache = 2 * 8 * spec.num_layers * spec.width  # twice: it is copied into a larger one
    step = cache + 16 * HEADS[spec.head].fine_draws + 16  # draws in double and single precision
    size = series * paths * (horizon * step + 4 * (spec.max_lag + 2 * spec.num_features))
    if size <= UNASKED_BYTES:
        return
    available = available_memory()
    if available is not None and size > available:
        raise InputError(
            f"{paths:,} paths of {horizon:,} steps need about {gigabytes(size)} of memory, and "
            f"{gigabytes(available)} are left; ask for fewer paths or a shorter horizon"
        )


def chunks(spec: ModelSpec, context: int, count: int, threads: int) -> Iterator[range]:
    """Rows 0 .. count - 1 in parts whose prompt caches fit the memory set aside for them.

    Every part but the last has at least a row for each thread, and a multiple of them.
    """
    one = 8 * spec.num_layers * spec.width * (context + 1)  # keys and values, four bytes each
    size = max(1, min(CACHE_BYTES // one, MOST_SERIES) // threads) * threads
    for begin in range(0, count, size):
        yield range(begin, min(count, begin + size))


def sample_many(
    backend: Backend,
    spec: ModelSpec,
    requests: Sequence[PathRequest],
    pool: ThreadPoolExecutor,
    shards: int,
) -> list[Paths]:
    """Sample paths of every request (see `sample_paths`), as each would get alone.

    Prompts of unlike lengths are not encoded together: padding changes the order of sums.
    """
    rows_of: dict[int, list[int]] = {}
    for row, request in enumerate(requests):
        rows_of.setdefault(len(request.prompt.tokens), []).append(row)
    ready: dict[int, Prefilled] = {}
    for rows in rows_of.values():
        rotary = requests[rows[0]].rotary(spec)
        found = prefill(backend, [requests[row].prompt for row in rows], rotary)
        ready.update(zip(rows, found, strict=True))

    def decode(row: int) -> Paths:
        return sample_paths(backend, spec, requests[row], ready[row], shards)

    return list(pool.map(decode, range(len(requests))))
