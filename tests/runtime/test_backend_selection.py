"""Which backend runs: the one asked for or an error; by itself the best that passes a probe."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laglite import Forecaster, backends
from laglite.backends import cuda_driver, gpu_engines, open_backend, selection, tensorrt_native
from laglite.backends.availability import TENSORRT_MODULES, Availability
from laglite.backends.cuda_driver import Gpu
from laglite.backends.cuda_memory import CudaError
from laglite.backends.library_errors import explain
from laglite.backends.onnxruntime_gpu import OnnxRuntimeGpu
from laglite.backends.onnxruntime_session import CPU_PROVIDER, Engine
from laglite.backends.probe import probe
from laglite.backends.tensorrt_native import describe_tensorrt
from laglite.bundle import Bundle, open_bundle
from laglite.errors import BackendError, BundleError, InputError, missing

NO_GPU = Availability("cuda", "", "there is no NVIDIA driver", "install it")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


class Machine:
    """Which GPU backends are installed, and what opening each of them gives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[str] = []
        self._patch = monkeypatch
        monkeypatch.setattr(selection, "_has_cuda", lambda: False)
        self._find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", self._spec)
        self._tensorrt = False

    def _spec(self, name: str, package: str | None = None) -> Any:
        if name.startswith("tensorrt"):
            # Of stubs alone there is a folder, and no module in it.
            installed = self._tensorrt and name == "tensorrt"
            return types.SimpleNamespace(origin="tensorrt/__init__.py" if installed else None)
        return self._find(name, package)

    def cuda(self, result: Exception | None = None, wrong: float = 0.0) -> None:
        self._patch.setattr(selection, "_has_cuda", lambda: True)
        self._patch.setattr(gpu_engines, "open_cuda", self._opener("cuda", result, wrong))

    def tensorrt(self, result: Exception | None = None, compiled: bool = True) -> None:
        self._tensorrt = True
        self._patch.setattr(selection, "were_compiled", lambda bundle, precision: compiled)
        self._patch.setattr(tensorrt_native, "open_tensorrt", self._opener("tensorrt", result, 0.0))

    def _opener(self, name: str, result: Exception | None, wrong: float) -> Callable[..., Any]:
        engine = Engine(name, {CPU_PROVIDER: {}}, memory="cpu")

        def open_it(bundle: Bundle, precision: str) -> OnnxRuntimeGpu:
            self.opened.append(name)
            if result is not None:
                raise result
            return Distorted(bundle, precision, engine, wrong)

        self._patch.setattr(
            selection, "_describe", lambda name: Availability(name, f"{name} 1.0, Test GPU")
        )
        return open_it


class Distorted(OnnxRuntimeGpu):
    """A backend whose prefill is `wrong` by so much."""

    def __init__(self, bundle: Bundle, precision: str, engine: Engine, wrong: float) -> None:
        super().__init__(bundle, precision, engine)
        self._wrong = wrong

    def prefill(self, *given: Any) -> Any:
        arguments, prompts = super().prefill(*given)
        return {name: values + self._wrong for name, values in arguments.items()}, prompts


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Machine:
    caplog.set_level(logging.INFO, "laglite")
    return Machine(monkeypatch)


def test_without_gpu_libraries_the_cpu_is_chosen_and_nothing_said(
    machine: Machine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_backend("auto", bundle, "fp32", 1).name == "cpu"
    assert caplog.messages == []


def test_cuda_is_installed_where_onnxruntime_has_its_provider(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    providers = ["CPUExecutionProvider"]
    module = types.SimpleNamespace(get_available_providers=lambda: providers)
    monkeypatch.setattr(selection, "import_onnxruntime", lambda: module)
    assert not selection._has_cuda()
    providers.insert(0, "CUDAExecutionProvider")
    assert selection._has_cuda()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not selection._has_cuda()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_gpu_that_passes_is_chosen_and_named(
    machine: Machine, bundle: Bundle, caplog: pytest.LogCaptureFixture, precision: str
) -> None:
    machine.cuda()
    assert open_backend("auto", bundle, precision, 1).name == "cuda"
    assert caplog.messages == ["backend 'cuda': cuda 1.0, Test GPU"]
    assert caplog.records[0].levelname == "INFO"


def test_tensorrt_is_left_out_without_a_word_for_a_model_that_was_never_compiled(
    machine: Machine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine.tensorrt(BackendError("not asked"), compiled=False)
    assert open_backend("auto", bundle, "fp32", 1).name == "cpu"
    assert machine.opened == []
    assert caplog.messages == []


def test_compiled_engines_come_first(machine: Machine, bundle: Bundle) -> None:
    machine.cuda()
    machine.tensorrt()
    assert open_backend("auto", bundle, "fp32", 1).name == "tensorrt"
    assert machine.opened == ["tensorrt"]


@pytest.mark.parametrize(
    "refusal",
    [
        BackendError("no engines of tiny; compile them on this device: laglite compile tiny"),
        missing("cuda.bindings", "tensorrt", "backend 'tensorrt'"),
    ],
)
def test_without_engines_the_next_is_chosen_and_the_reason_named(
    machine: Machine, bundle: Bundle, caplog: pytest.LogCaptureFixture, refusal: Exception
) -> None:
    machine.tensorrt(refusal)
    machine.cuda()
    assert open_backend("auto", bundle, "fp32", 1).name == "cuda"
    assert machine.opened == ["tensorrt", "cuda"]
    assert caplog.messages == [f"backend 'cuda': cuda 1.0, Test GPU; {refusal}"]


def test_where_no_gpu_runs_the_cpu_is_chosen_with_a_warning(
    machine: Machine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine.cuda(NO_GPU.error())
    assert open_backend("auto", bundle, "fp32", 1).name == "cpu"
    assert caplog.records[0].levelname == "WARNING"
    assert caplog.messages == [
        "backend 'cpu', since no GPU can be used: "
        "backend 'cuda' cannot run: there is no NVIDIA driver; install it"
    ]


def test_a_gpu_that_gives_wrong_numbers_is_not_chosen(
    machine: Machine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine.cuda(wrong=0.5)
    assert open_backend("auto", bundle, "fp32", 1).name == "cpu"
    assert "backend 'cuda' gives wrong numbers" in caplog.text


def test_a_gpu_asked_for_that_gives_wrong_numbers_is_an_error(
    machine: Machine, bundle: Bundle
) -> None:
    machine.cuda(wrong=float("nan"))
    with pytest.raises(BackendError, match=r"gives wrong numbers: df is nan by the prefill and"):
        open_backend("cuda", bundle, "fp32", 1)


def test_a_gpu_asked_for_that_cannot_run_is_an_error_and_never_the_cpu(
    machine: Machine, bundle: Bundle
) -> None:
    machine.cuda(NO_GPU.error())
    with pytest.raises(BackendError, match="there is no NVIDIA driver; install it"):
        open_backend("cuda", bundle, "fp32", 1)


def test_eight_bits_are_for_the_cpu(
    machine: Machine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine.cuda()
    machine.tensorrt()
    assert open_backend("auto", bundle, "int8", 1).name == "cpu"
    assert machine.opened == caplog.messages == []
    for name in ("cuda", "tensorrt", "onnxruntime-tensorrt"):
        with pytest.raises(BackendError, match=f"{name}': precision 'int8' is for the CPU; use"):
            open_backend(name, bundle, "int8", 1)


def test_half_precision_on_the_cpu_is_warned_about_unless_the_cpu_was_asked_for(
    machine: Machine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_backend("cpu", bundle, "fp16", 1).name == "cpu"
    assert caplog.messages == []
    machine.cuda(NO_GPU.error())
    assert open_backend("auto", bundle, "fp16", 1).name == "cpu"
    first, second = caplog.messages
    assert "there is no NVIDIA driver" in first
    assert second.startswith("precision 'fp16' is for GPUs: on the CPU choose 'fp32'")


def test_names_and_precisions_that_do_not_exist_are_refused(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="'tpu' is not known; one of: auto, cpu, cuda, onnx"):
        open_backend("tpu", bundle, "fp32", 1)
    with pytest.raises(BundleError, match="no precision 'int4'"):
        open_backend("cuda", bundle, "int4", 1)


def test_every_backend_is_described(machine: Machine) -> None:
    names = [found.backend for found in selection.availability()]
    assert names == ["cpu", "cuda", "onnxruntime-tensorrt", "tensorrt"]


def test_the_probe_passes_on_every_precision(bundle: Bundle) -> None:
    for name in bundle.precisions:
        probe(open_backend("cpu", bundle, name, 1), bundle.spec, bundle.precision(name))


def test_the_probe_allows_rounding_alone(bundle: Bundle) -> None:
    engine = Engine("cuda", {CPU_PROVIDER: {}}, memory="cpu")
    strict = dataclasses.replace(bundle.precision("fp32"), tolerance=1e-4)
    probe(Distorted(bundle, "fp32", engine, 5e-4), bundle.spec, strict)
    with pytest.raises(BackendError, match="wrong numbers"):
        probe(Distorted(bundle, "fp32", engine, 0.1), bundle.spec, strict)


def test_a_forecaster_on_a_gpu_does_not_split_paths_over_threads(bundle: Bundle) -> None:
    backend = OnnxRuntimeGpu(bundle, "fp32", Engine("cuda", {CPU_PROVIDER: {}}, memory="cpu"))
    backend.device = None
    made: list[int] = []
    decoder = backend.decoder

    def counting(prompt: Any, paths: int, steps: int) -> Any:
        made.append(paths)
        return decoder(prompt, paths, steps)

    backend.decoder = counting  # type: ignore[method-assign]
    Forecaster(bundle, backend, 4).predict(
        range(30), horizon=2, num_samples=40, start="2024-01-01", freq="h"
    )
    assert made == [40]


class TensorRt:
    """Which TensorRT is installed, by a stand-in for the module that finds it."""

    FLAVOUR, VERSION = "tensorrt", "10.3.0"


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "laglite.backends.tensorrt_module"
    monkeypatch.setitem(sys.modules, name, TensorRt)  # type: ignore[arg-type]
    monkeypatch.setattr(backends, "tensorrt_module", TensorRt, raising=False)
    monkeypatch.setattr(cuda_driver, "find_gpu", lambda: Gpu("Test GPU", (8, 7), (12, 6)))
    monkeypatch.setattr(tensorrt_native, "Cuda", object)


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_is_described_by_version_and_gpu() -> None:
    found = describe_tensorrt()
    assert found.available
    assert found.version == "tensorrt 10.3.0, Test GPU (compute capability 8.7)"


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_without_a_gpu_or_its_bindings_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise missing("cuda.bindings", "tensorrt", "backend 'tensorrt'")

    monkeypatch.setattr(tensorrt_native, "Cuda", absent)
    found = describe_tensorrt()
    assert found.problem == "backend 'tensorrt' needs cuda.bindings, which is not installed"
    assert found.remedy == "pip install 'laglite[tensorrt]'"
    fault = explain("CUDA failure 100: no CUDA-capable device is detected")
    monkeypatch.setattr(cuda_driver, "find_gpu", lambda: fault)
    assert describe_tensorrt().problem == "the NVIDIA driver finds no GPU"
    assert describe_tensorrt().version == "tensorrt 10.3.0"


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("cudaErrorInsufficientDriver", "cuda-bindings<13"),
        ("cudaErrorDevicesUnavailable", "see in nvidia-smi"),
    ],
)
def test_tensorrt_without_a_driver_for_its_bindings_says_what_cuda_says(
    monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    def old() -> None:
        raise CudaError("cudaSetDevice", name, "why")

    monkeypatch.setattr(tensorrt_native, "Cuda", old)
    found = describe_tensorrt()
    assert found.problem == f"CUDA: cudaSetDevice failed with {name} (why)"
    assert remedy in found.remedy


def test_tensorrt_that_is_not_installed_is_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in TENSORRT_MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "laglite.backends.tensorrt_module", raising=False)
    monkeypatch.delattr(backends, "tensorrt_module", raising=False)
    found = describe_tensorrt()
    assert found.problem == "TensorRT is not installed"
    assert found.remedy == "pip install 'laglite[tensorrt]'"
