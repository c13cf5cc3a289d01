"""A stand-in for the NVIDIA driver's library, as ctypes would show it."""

from __future__ import annotations

import ctypes
from typing import Any

NAME, CAPABILITY, CUDA_VERSION = b"Test GPU", {75: 8, 76: 7}, 12060
TEXTS = {2: b"out of memory", 100: b"no CUDA-capable device is detected"}


class FakeDriver:
    """Calls give `codes` by function name, else 0; contexts taken and given back are counted."""

    def __init__(self, codes: dict[str, int] | None = None, free: int = 10**9) -> None:
        self.codes, self.free = codes or {}, free
        self.contexts = self.pushed = 0

    def cuInit(self, flags: int) -> int:
        return self.codes.get("cuInit", 0)

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return self.codes.get("cuDeviceGet", 0)

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = CUDA_VERSION
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> int:
        name.value = NAME[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: ctypes.c_int) -> int:
        value._obj.value = CAPABILITY[which]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: ctypes.c_int) -> int:
        self.contexts += 1
        return self.codes.get("cuDevicePrimaryCtxRetain", 0)

    def cuDevicePrimaryCtxRelease_v2(self, device: ctypes.c_int) -> int:
        self.contexts -= 1
        return 0

    def cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:
        self.pushed += 1
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        self.pushed -= 1
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = self.free, 2 * self.free
        return self.codes.get("cuMemGetInfo_v2", 0)

    def cuGetErrorString(self, code: int, text: Any) -> int:
        if code not in TEXTS:
            return 1
        text._obj.value = TEXTS[code]
        return 0
