"""The TensorRT module: the one place that chooses it and says which it is.

`tensorrt` from 10.3 on, or TensorRT for RTX, under the name of its metapackage or of its bindings.
Importing this module raises MissingDependencyError where there is none.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from laglite.backends.availability import TENSORRT_MODULES
from laglite.backends.engine_files import RTX
from laglite.errors import BackendError, missing

if TYPE_CHECKING:
    import tensorrt as trt

DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "BOOL": "bool"}


def _module() -> ModuleType:
    for name in TENSORRT_MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:  # its libraries, not the module
            raise BackendError(f"{name} is installed but cannot be loaded: {error}") from error
        if hasattr(module, "Builder"):  # type stubs leave a folder of this name
            return module
    raise missing("tensorrt", "tensorrt", "running or compiling TensorRT engines")


if not TYPE_CHECKING:
    trt = _module()

FLAVOUR = RTX if trt.__name__.startswith(RTX) else "tensorrt"
VERSION = str(trt.__version__)


class Log(trt.ILogger):
    """Keeps TensorRT's errors for the messages of ours, and is silent otherwise."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity <= trt.ILogger.Severity.ERROR:
            self._errors.append(msg.strip())

    def errors(self) -> str:
        """What was logged since the last call, in one line."""
        text = "; ".join(self._errors) or "TensorRT gave no reason"
        self._errors.clear()
        return text


LOG = Log()  # a process has one: TensorRT keeps the first that it is given


def dtype_name(dtype: trt.DataType) -> str:
    """NumPy's name of a tensor's type. Raises BackendError for one that no graph has."""
    if dtype.name not in DTYPES:
        raise BackendError(f"tensors of TensorRT's type {dtype.name} are not known")
    return DTYPES[dtype.name]


__all__ = ["FLAVOUR", "LOG", "VERSION", "dtype_name", "trt"]
