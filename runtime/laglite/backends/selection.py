"""Choice of a backend by name, or of the best that runs here."""

from __future__ import annotations

from laglite.backends.onnxruntime_cpu import OnnxRuntimeCpu
from laglite.backends.protocol import Backend
from laglite.bundle import Bundle
from laglite.errors import BackendError, InputError

BACKENDS = ("auto", "cpu", "cuda", "onnxruntime-tensorrt", "tensorrt")


def open_backend(name: str, bundle: Bundle, precision: str, threads: int) -> Backend:
    """Load a bundle's graphs into the backend called `name`.

    Raises InputError for an unknown name, BackendError for one that cannot run.
    """
    if name not in BACKENDS:
        raise InputError(f"backend {name!r} is not known; one of: {', '.join(BACKENDS)}")
    if name not in ("auto", "cpu"):
        raise BackendError(
            f"backend {name!r} is not part of this version of laglite; use backend 'cpu'"
        )
    return OnnxRuntimeCpu(bundle, precision, threads)
