"""The NVIDIA driver asked directly: which GPU is there, and how much of its memory is free.

The driver's library is on every machine whose GPU works, a Jetson too, whatever wheels there are.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from laglite.backends.library_errors import Fault, explain

LIBRARY = "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Gpu:
    """The first GPU: its name, compute capability, and the newest CUDA its driver runs."""

    name: str
    capability: tuple[int, int]
    cuda: tuple[int, int]

    def __str__(self) -> str:
        major, minor = self.capability
        return f"{self.name} (compute capability {major}.{minor})"


def find_gpu() -> Gpu | Fault:
    """The GPU that CUDA calls device 0, or why there is none."""
    try:
        driver = _driver()
        device, version = ctypes.c_int(), ctypes.c_int()
        _call(driver, "cuDeviceGet", ctypes.byref(device), 0)
        _call(driver, "cuDriverGetVersion", ctypes.byref(version))
        name = ctypes.create_string_buffer(256)
        _call(driver, "cuDeviceGetName", name, len(name), device)
        capability = []
        for attribute in (MAJOR, MINOR):
            value = ctypes.c_int()
            _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
            capability.append(value.value)
    except OSError as error:
        return explain(str(error))
    major, minor = capability
    newest = (version.value // 1000, version.value % 1000 // 10)
    return Gpu(name.value.decode(errors="replace"), (major, minor), newest)


def free_memory() -> int | None:
    """Bytes of the GPU's memory that nobody uses; None where the driver does not tell."""
    try:
        driver = _driver()
        device, context = ctypes.c_int(), ctypes.c_void_p()
        _call(driver, "cuDeviceGet", ctypes.byref(device), 0)
        _call(driver, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        try:
            _call(driver, "cuCtxPushCurrent_v2", context)
            try:
                free, total = ctypes.c_size_t(), ctypes.c_size_t()
                _call(driver, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
            finally:
                driver.cuCtxPopCurrent_v2(ctypes.byref(context))
        finally:
            driver.cuDevicePrimaryCtxRelease_v2(device)
    except OSError:
        return None
    return free.value


def _driver() -> Any:
    """The driver's library, ready. Raises OSError with CUDA's own words."""
    driver = ctypes.CDLL(LIBRARY)
    _call(driver, "cuInit", 0)
    return driver


def _call(driver: Any, function: str, *arguments: Any) -> None:
    code = getattr(driver, function)(*arguments)
    if code:
        text = ctypes.c_char_p()
        known = driver.cuGetErrorString(code, ctypes.byref(text)) == 0 and text.value
        words = text.value.decode(errors="replace") if known and text.value else function
        raise OSError(f"CUDA failure {code}: {words}")
