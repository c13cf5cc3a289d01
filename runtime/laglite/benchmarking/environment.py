"""The environment of a measurement, so that figures can be compared and repeated."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

from laglite.backends.cuda_driver import Gpu, find_gpu
from laglite.backends.gpu_libraries import installed
from laglite.bundle import locate, manifest_digest
from laglite.forecaster import available_cores
from laglite.version import __version__


def environment(model: str) -> dict[str, str | int]:
    """Machine, versions, and the bundle by name, path and hash of its manifest."""
    path = locate(model)
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "gpu": str(gpu) if isinstance(gpu := find_gpu(), Gpu) else "none",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": " and ".join(installed()) or "not installed",
        "laglite": __version__,
        "model": str(path.name),
        "manifest_sha256": manifest_digest(path),
        "load_average": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "",
    }


def _processor() -> str:
    """The processor's name: from Linux, which platform does not ask, or from platform."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        pairs = (line.partition(":") for line in listing.read_text().splitlines())
        known = {name.strip(): value.strip() for name, _, value in pairs}
        for name in ("model name", "Model"):  # x86, Arm boards
            if name in known:
                return known[name]
    return platform.processor() or platform.machine()
