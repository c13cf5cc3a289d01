"""Choice of a backend by name, or of the best that runs here.

What only GPUs need is imported when one is asked for or its libraries are there.
"""

from __future__ import annotations

import importlib.util
import logging

from laglite.backends.availability import TENSORRT_MODULES, Availability
from laglite.backends.engine_files import were_compiled
from laglite.backends.onnxruntime_cpu import OnnxRuntimeCpu
from laglite.backends.onnxruntime_session import CPU, CUDA_PROVIDER, import_onnxruntime
from laglite.backends.protocol import Backend
from laglite.bundle import Bundle
from laglite.errors import BackendError, InputError, MissingDependencyError

BACKENDS = ("auto", "cpu", "cuda", "onnxruntime-tensorrt", "tensorrt")
CPU_PRECISIONS, GPU_PRECISIONS = ("int8",), ("fp16",)

LOG = logging.getLogger("laglite")


def open_backend(name: str, bundle: Bundle, precision: str, threads: int) -> Backend:
    """Load a bundle's graphs into the backend called `name`; those of a GPU are tried out.

    "auto" is the best that passes: `tensorrt` if it is installed and the model was compiled, else
    `cuda`, else `cpu`. It logs which GPU it chose, and why not one whose libraries are installed.
    Raises InputError for an unknown name, BundleError for an unknown precision, BackendError or
    MissingDependencyError for a backend that cannot run.
    """
    if name not in BACKENDS:
        raise InputError(f"backend {name!r} is not known; one of: {', '.join(BACKENDS)}")
    bundle.precision(precision)
    if name == "auto":
        return _best(bundle, precision, threads)
    return _open(name, bundle, precision, threads)


def availability() -> list[Availability]:
    """What can be told of every backend without a model, in the order of `BACKENDS`."""
    return [_describe(name) for name in BACKENDS[1:]]


def _describe(name: str) -> Availability:
    from laglite.backends import gpu_engines, gpu_libraries, tensorrt_native

    if name == "tensorrt":
        return tensorrt_native.describe_tensorrt()
    engines = {each.backend: each for each in (CPU, gpu_engines.CUDA, gpu_engines.TENSORRT)}
    return gpu_libraries.describe(engines[name])


def _open(name: str, bundle: Bundle, precision: str, threads: int) -> Backend:
    if name == "cpu":
        return OnnxRuntimeCpu(bundle, precision, threads)
    if precision in CPU_PRECISIONS:
        raise BackendError(
            f"backend {name!r}: precision {precision!r} is for the CPU; "
            "use precision 'fp32' or 'fp16', or backend 'cpu'"
        )
    from laglite.backends import gpu_engines, tensorrt_native
    from laglite.backends.probe import probe

    backend: Backend
    if name == "cuda":
        backend = gpu_engines.open_cuda(bundle, precision)
    elif name == "tensorrt":
        backend = tensorrt_native.open_tensorrt(bundle, precision)
    else:
        backend = gpu_engines.open_onnxruntime_tensorrt(bundle, precision)
    probe(backend, bundle.spec, bundle.precision(precision))
    return backend


def _best(bundle: Bundle, precision: str, threads: int) -> Backend:
    refused: list[str] = []
    for name in () if precision in CPU_PRECISIONS else _installed(bundle, precision):
        try:
            backend = _open(name, bundle, precision, threads)
        except (BackendError, MissingDependencyError) as error:
            refused.append(str(error))
            continue
        others = "".join(f"; {each}" for each in refused)
        LOG.info("backend %r: %s%s", name, _describe(name).version, others)
        return backend
    if refused:
        LOG.warning("backend 'cpu', since no GPU can be used: %s", "; ".join(refused))
    if precision in GPU_PRECISIONS:
        LOG.warning(
            "precision %r is for GPUs: on the CPU choose 'fp32', or 'int8' for speed", precision
        )
    return OnnxRuntimeCpu(bundle, precision, threads)


def _installed(bundle: Bundle, precision: str) -> list[str]:
    """GPU backends whose libraries, and compiled engines, are there; the best first."""
    found = []
    specs = (importlib.util.find_spec(name) for name in TENSORRT_MODULES)
    there = any(spec is not None and spec.origin is not None for spec in specs)  # stubs have none
    if there and were_compiled(bundle, precision):
        found.append("tensorrt")
    if _has_cuda():
        found.append("cuda")
    return found


def _has_cuda() -> bool:
    """Whether an onnxruntime is installed that was built with the CUDA provider."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    return CUDA_PROVIDER in import_onnxruntime().get_available_providers()
