"""Models opened once a process, however often they are asked for.

Other libraries copy and rebuild their estimators all the time, and a pool of processes unpickles
its work's arguments for every piece.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from laglite.bundle import locate, manifest_digest
from laglite.errors import BundleError
from laglite.forecaster import Forecaster

MOST_MODELS = 8  # kept open at once


def shared_model(
    model: str | Path | None, *, backend: str, precision: str, threads: int | None
) -> Forecaster:
    """What `Forecaster.load` gives, the same one each time while the bundle is unaltered."""
    path = locate(model)
    return _opened(path, manifest_digest(path), backend, precision, threads)


def unpickled_model(
    model: str, digest: str, backend: str, precision: str, threads: int | None
) -> Forecaster:
    """The Forecaster of the process that pickled it, or one like it in another process.

    Raises BundleError where `model` is not the bundle whose manifest has the sha256 `digest`.
    """
    path = locate(model)
    if manifest_digest(path) != digest:
        raise BundleError(f"{path}: not the bundle that was pickled; load the model anew")
    return _opened(path, digest, backend, precision, threads)


@lru_cache(MOST_MODELS)
def _opened(
    path: Path, digest: str, backend: str, precision: str, threads: int | None
) -> Forecaster:
    """`digest` tells a bundle from another one at the same place."""
    return Forecaster.load(path, backend=backend, precision=precision, threads=threads)
