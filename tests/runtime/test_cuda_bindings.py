"""The double of cuda.bindings.runtime beside the real module: names, and numbers of arguments."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from laglite.backends import cuda_memory
from laglite.backends.cuda_memory import OLD_DRIVER, OUT_OF_MEMORY, Cuda, CudaError
from tests.cuda_double import CudaDouble

runtime: Any = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
NAMES = sorted(name for name in vars(CudaDouble) if name.startswith("cuda"))
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(CudaDouble, name))]


def test_the_double_has_what_the_code_calls_and_no_more() -> None:
    code = Path(cuda_memory.__file__).read_text()
    called = set(re.findall(r'"(cuda[A-Z]\w+)"', code)) - {OUT_OF_MEMORY, OLD_DRIVER}
    assert called == set(FUNCTIONS) - {"cudaGetErrorName", "cudaGetErrorString"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_call_takes_as_many_arguments_as_the_double_does(name: str) -> None:
    ours = list(inspect.signature(getattr(CudaDouble, name)).parameters)[1:]  # without self
    theirs = list(inspect.signature(getattr(runtime, name)).parameters)
    assert len(ours) == len(theirs), theirs


def test_constants_have_the_names_of_the_double() -> None:
    assert int(runtime.cudaStreamNonBlocking) == CudaDouble.cudaStreamNonBlocking
    for group in ("cudaMemcpyKind", "cudaStreamCaptureMode", "cudaError_t"):
        for name in vars(getattr(CudaDouble, group)):
            if name.startswith("cuda"):
                assert hasattr(getattr(runtime, group), name), f"{group}.{name}"


def test_results_come_behind_an_error_that_is_a_number() -> None:
    error, *results = runtime.cudaGetErrorName(runtime.cudaError_t.cudaErrorMemoryAllocation)
    assert int(error) == 0
    assert results == [b"cudaErrorMemoryAllocation"]


def test_without_a_gpu_the_first_call_names_cudas_error() -> None:
    error, _ = runtime.cudaGetDeviceCount()
    if int(error) == 0:
        pytest.skip("there is a GPU")
    with pytest.raises(CudaError, match=f"failed with {error.name}"):
        Cuda()
