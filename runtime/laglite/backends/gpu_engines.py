"""onnxruntime's two ways to a GPU: the CUDA provider, and TensorRT through onnxruntime."""

from __future__ import annotations

import os

from laglite.backends.gpu_libraries import describe
from laglite.backends.onnxruntime_gpu import OnnxRuntimeGpu
from laglite.backends.onnxruntime_session import CUDA_PROVIDER, TENSORRT_PROVIDER, Engine
from laglite.bundle import Bundle
from laglite.errors import BackendError
from laglite.user_cache import user_cache

CUDA_OPTIONS = {
    "use_tf32": "0",  # products of 10-bit mantissas are not within 1e-4 of float32's
    "arena_extend_strategy": "kSameAsRequested",  # not to the next power of two
}
CUDA = Engine("cuda", {CUDA_PROVIDER: CUDA_OPTIONS}, captures=True)
TENSORRT = Engine("onnxruntime-tensorrt", {TENSORRT_PROVIDER: {}, CUDA_PROVIDER: CUDA_OPTIONS})


def open_cuda(bundle: Bundle, precision: str) -> OnnxRuntimeGpu:
    """Onnxruntime's CUDA provider. Raises BackendError."""
    return _open(bundle, precision, CUDA)


def open_onnxruntime_tensorrt(bundle: Bundle, precision: str) -> OnnxRuntimeGpu:
    """Onnxruntime's TensorRT provider, whose engines are kept in the user's cache.

    For float32 it switches off TF32 in NVIDIA's libraries for the whole process, if nothing was
    said about that: the provider has no option for it. Raises BackendError.
    """
    if precision == "fp32":
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    folder = user_cache(TENSORRT.backend)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"{folder}: engines cannot be kept there ({error.strerror}); "
            "set XDG_CACHE_HOME to a folder that can be written to"
        ) from error
    options = {  # onnxruntime takes these words alone, no 0 or 1
        "trt_fp16_enable": str(precision == "fp16"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }
    providers = {TENSORRT_PROVIDER: options, CUDA_PROVIDER: CUDA_OPTIONS}
    return _open(bundle, precision, Engine(TENSORRT.backend, providers))


def _open(bundle: Bundle, precision: str, engine: Engine) -> OnnxRuntimeGpu:
    found = describe(engine)
    if not found.available:
        raise found.error()
    return OnnxRuntimeGpu(bundle, precision, engine)
