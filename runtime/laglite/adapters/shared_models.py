"""Models of adapters, opened once: libraries copy and rebuild their estimators all the time."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from laglite.bundle import locate, manifest_digest
from laglite.forecaster import Forecaster

MOST_MODELS = 8  # kept open at once


def shared_model(
    model: str | Path | None, *, backend: str, precision: str, threads: int | None
) -> Forecaster:
    """What `Forecaster.load` gives, the same one each time while the bundle is unaltered."""
    path = locate(model)
    return _opened(path, manifest_digest(path), backend, precision, threads)


@lru_cache(MOST_MODELS)
def _opened(
    path: Path, digest: str, backend: str, precision: str, threads: int | None
) -> Forecaster:
    """`digest` tells a bundle from another one at the same place."""
    return Forecaster.load(path, backend=backend, precision=precision, threads=threads)
