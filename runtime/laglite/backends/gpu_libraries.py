"""The libraries of onnxruntime's GPU providers: whether they load here, and if not, why."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from laglite.backends.availability import Availability
from laglite.backends.cuda_driver import find_gpu
from laglite.backends.library_errors import GPU_WHEEL, Fault, explain
from laglite.backends.onnxruntime_session import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    Engine,
    import_onnxruntime,
)
from laglite.errors import MissingDependencyError

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
LIBRARIES = {CUDA_PROVIDER: "cuda", TENSORRT_PROVIDER: "tensorrt"}


def describe(engine: Engine) -> Availability:
    """Whether an engine's provider can be loaded: its wheel, the driver, the GPU, the libraries."""
    try:
        ort = import_onnxruntime()
    except MissingDependencyError:
        extra = "cpu" if engine.provider == CPU_PROVIDER else "gpu"
        return Availability(
            engine.backend,
            "",
            "onnxruntime is not installed",
            f"pip install 'laglite[{extra}]'",
        )
    wheel = " and ".join(installed()) or f"onnxruntime {ort.__version__}"
    fault = None
    if engine.provider not in ort.get_available_providers():
        fault = _not_built_in(engine.provider, wheel)
    if fault is not None or engine.provider == CPU_PROVIDER:
        return _availability(engine, wheel, fault)
    gpu = find_gpu()
    if isinstance(gpu, Fault):
        return _availability(engine, wheel, gpu)
    return _availability(engine, f"{wheel}, {gpu}", _load(ort, engine.provider))


def installed() -> list[str]:
    """Distributions of onnxruntime, each with its version."""
    found = []
    for name in DISTRIBUTIONS:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def _availability(engine: Engine, found: str, fault: Fault | None) -> Availability:
    if fault is None:
        return Availability(engine.backend, found)
    return Availability(engine.backend, found, fault.problem, fault.remedy)


def _not_built_in(provider: str, wheel: str) -> Fault:
    if len(installed()) > 1:
        problem = f"{wheel} are installed over each other, and the one without {provider} won"
        return Fault(problem, GPU_WHEEL)
    return Fault(f"{wheel} was built without {provider}", GPU_WHEEL)


def _load(ort: Any, provider: str) -> Fault | None:
    """Load a provider's library as onnxruntime would, which tells its log alone why it cannot."""
    _preload(ort, provider)
    folder = Path(ort.__file__).parent / "capi"
    for name in ("shared", LIBRARIES[provider]):
        library = folder / f"libonnxruntime_providers_{name}.so"
        if not library.exists():  # part of onnxruntime itself in some builds
            continue
        try:
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        except OSError as error:
            return explain(str(error))
    return None


def _preload(ort: Any, provider: str) -> None:
    """Load the CUDA and TensorRT that were installed as wheels, if any; `_load` says if it failed.

    onnxruntime would look for them only where the system does.
    """
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            ort.preload_dlls()
    if LIBRARIES[provider] == "tensorrt" and importlib.util.find_spec("tensorrt") is not None:
        with contextlib.suppress(ImportError, OSError):
            importlib.import_module("tensorrt")
