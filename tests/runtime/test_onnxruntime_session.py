"""Sessions run where they were asked to, or not at all: by stand-ins for onnxruntime on a GPU."""

from __future__ import annotations

import ctypes
import os
import types
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from laglite.backends import gpu_engines, gpu_libraries, onnxruntime_session
from laglite.backends.cuda_driver import Gpu
from laglite.backends.gpu_engines import (
    CUDA,
    TENSORRT,
    open_cuda,
    open_onnxruntime_tensorrt,
)
from laglite.backends.gpu_libraries import describe
from laglite.backends.library_errors import explain
from laglite.backends.onnxruntime_session import (
    CPU,
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    open_session,
)
from laglite.bundle import Bundle, open_bundle
from laglite.errors import BackendError, missing

GPU = Gpu("Test GPU", (8, 7), (13, 0))
FALLBACK, ASSIGNMENT = "session.disable_cpu_ep_fallback", "session.record_ep_graph_assignment_info"


class FakeSession:
    """What a session says of itself; `opened` are those made."""

    opened: list[FakeSession]
    severities: list[int]

    def __init__(self, source: str, options: Any, **given: Any) -> None:
        self.options, self.given = options, given
        self.opened.append(self)
        self.providers = [name for name, _ in given["providers"]] + [CPU_PROVIDER]
        self.assigned: dict[str, list[str]] = {}

    def get_providers(self) -> list[str]:
        return self.providers

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return [
            types.SimpleNamespace(
                ep_name=name,
                get_nodes=lambda kinds=kinds: [types.SimpleNamespace(op_type=k) for k in kinds],
            )
            for name, kinds in self.assigned.items()
        ]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    """A class of sessions in the place of onnxruntime's."""

    class Session(FakeSession):
        pass

    Session.opened, Session.severities = [], []
    module = types.SimpleNamespace(
        SessionOptions=onnxruntime.SessionOptions,
        InferenceSession=Session,
        set_default_logger_severity=Session.severities.append,
    )
    monkeypatch.setattr(onnxruntime_session, "import_onnxruntime", lambda: module)
    return Session


def entry(session: FakeSession, key: str) -> str | None:
    try:
        return str(session.options.get_session_config_entry(key))
    except RuntimeError:  # not set
        return None


def test_a_gpu_session_asks_for_float32_products_and_no_fallback(fake: type[FakeSession]) -> None:
    open_session(Path("x.onnx"), CUDA)
    (session,) = fake.opened
    ((name, options),) = session.given["providers"]
    assert (name, options["use_tf32"]) == (CUDA_PROVIDER, "0")
    assert "enable_cuda_graph" not in options
    assert session.given["enable_fallback"] == 0
    assert entry(session, ASSIGNMENT) == "1"
    assert entry(session, FALLBACK) is None


def test_only_a_gpu_session_is_sparing_of_memory_and_silences_warnings_of_its_kernels(
    fake: type[FakeSession],
) -> None:
    open_session(Path("x.onnx"), CPU)
    assert fake.severities == []
    open_session(Path("x.onnx"), CUDA)
    assert fake.severities == [3]
    assert [session.options.enable_mem_pattern for session in fake.opened] == [True, False]


def test_a_captured_session_must_run_on_the_gpu_whole(fake: type[FakeSession]) -> None:
    open_session(Path("x.onnx"), CUDA, sizes={"series": 3}, capture=True)
    (session,) = fake.opened
    assert dict(session.given["providers"])[CUDA_PROVIDER]["enable_cuda_graph"] == "1"
    assert entry(session, FALLBACK) == "1"
    assert "enable_cuda_graph" not in CUDA.providers[CUDA_PROVIDER]


def test_another_provider_than_the_one_asked_for_is_an_error(fake: type[FakeSession]) -> None:
    """As onnxruntime does, which only logs that a provider could not be made."""
    fake.get_providers = lambda self: [CPU_PROVIDER]  # type: ignore[method-assign]
    with pytest.raises(BackendError, match=f"runs on {CPU_PROVIDER} instead of {CUDA_PROVIDER}"):
        open_session(Path("x.onnx"), CUDA)


def test_products_given_to_another_provider_are_an_error(
    fake: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    assigned = {CUDA_PROVIDER: ["MatMul", "Add"], CPU_PROVIDER: ["Gather", "MatMul", "MatMul"]}
    made = fake.__init__

    def init(self: FakeSession, *arguments: Any, **given: Any) -> None:
        made(self, *arguments, **given)
        self.assigned = assigned

    monkeypatch.setattr(fake, "__init__", init)
    with pytest.raises(BackendError, match=rf"\(2 MatMul on {CPU_PROVIDER}\); update onnx"):
        open_session(Path("x.onnx"), CUDA)
    del assigned[CPU_PROVIDER][1:]  # what remains works out shapes
    open_session(Path("x.onnx"), CUDA)


def test_an_older_onnxruntime_that_cannot_tell_is_believed(
    fake: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FakeSession, "get_provider_graph_assignment_info")
    open_session(Path("x.onnx"), CUDA)


def test_what_onnxruntime_raises_is_explained(
    fake: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(*arguments: Any, **given: Any) -> None:
        raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected ; GPU=-1")

    monkeypatch.setattr(fake, "__init__", init)
    with pytest.raises(BackendError, match="'cuda' cannot load x.onnx: the NVIDIA driver finds no"):
        open_session(Path("x.onnx"), CUDA)


def test_without_onnxruntime_each_backend_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise missing("onnxruntime", "cpu", "forecasting")

    monkeypatch.setattr(gpu_libraries, "import_onnxruntime", absent)
    assert describe(CPU).remedy == "pip install 'laglite[cpu]'"
    assert describe(CUDA).remedy == "pip install 'laglite[gpu]'"
    assert describe(CUDA).problem == "onnxruntime is not installed"


class FakeModule:
    """onnxruntime-gpu in a folder of its own."""

    __version__ = "1.0"

    def __init__(self, folder: Path, *providers: str) -> None:
        self.__file__ = str(folder / "__init__.py")
        self._providers = [*providers, CPU_PROVIDER]
        (folder / "capi").mkdir()

    def get_available_providers(self) -> list[str]:
        return self._providers

    def preload_dlls(self) -> None:
        print("Failed to load libcublasLt.so.13")


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeModule:
    module = FakeModule(tmp_path, CUDA_PROVIDER, TENSORRT_PROVIDER)
    monkeypatch.setattr(gpu_libraries, "import_onnxruntime", lambda: module)
    monkeypatch.setattr(gpu_libraries, "installed", lambda: ["onnxruntime-gpu 1.0"])
    monkeypatch.setattr(gpu_libraries, "find_gpu", lambda: GPU)
    return module


def test_a_gpu_backend_that_loads_is_available_with_wheel_and_gpu(
    wheel: FakeModule, capsys: pytest.CaptureFixture[str]
) -> None:
    found = describe(CUDA)
    assert found.available
    assert found.version == "onnxruntime-gpu 1.0, Test GPU (compute capability 8.7)"
    assert capsys.readouterr().out == ""  # what preload_dlls prints does not get among results


def test_a_wheel_for_the_cpu_is_told_from_one_for_gpus(
    wheel: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "_providers", [CPU_PROVIDER])
    monkeypatch.setattr(gpu_libraries, "installed", lambda: ["onnxruntime 1.0"])
    found = describe(CUDA)
    assert found.problem == f"onnxruntime 1.0 was built without {CUDA_PROVIDER}"
    assert "laglite[gpu]" in found.remedy


def test_two_wheels_in_one_folder_are_named(
    wheel: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "_providers", [CPU_PROVIDER])
    both = ["onnxruntime 1.0", "onnxruntime-gpu 1.1"]
    monkeypatch.setattr(gpu_libraries, "installed", lambda: both)
    found = describe(CUDA)
    assert "onnxruntime 1.0 and onnxruntime-gpu 1.1 are installed over each other" in found.problem
    assert found.remedy.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")


def test_a_machine_without_a_driver_is_said_to_have_none(
    wheel: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = explain("libcuda.so.1: cannot open shared object file: No such file or directory")
    monkeypatch.setattr(gpu_libraries, "find_gpu", lambda: fault)
    found = describe(CUDA)
    assert not found.available
    assert found.problem == fault.problem


@pytest.mark.parametrize(
    ("engine", "library", "missed"),
    [(CUDA, "cuda", "libcudnn.so.9"), (TENSORRT, "tensorrt", "libnvinfer.so.10")],
)
def test_a_library_that_does_not_load_is_named(
    wheel: FakeModule,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    engine: Any,
    library: str,
    missed: str,
) -> None:
    for name in ("shared", library):
        (tmp_path / "capi" / f"libonnxruntime_providers_{name}.so").touch()

    def load(path: str, mode: int) -> None:
        if library in path.rpartition("/")[2]:
            raise OSError(f"{missed}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", load)
    found = describe(engine)
    assert found.problem == explain(f"{missed}: cannot open shared object file").problem
    with pytest.raises(BackendError, match=f"backend '{engine.backend}' cannot run: "):
        raise found.error()


def test_a_real_loader_error_is_shown_as_it_is(wheel: FakeModule, tmp_path: Path) -> None:
    (tmp_path / "capi" / "libonnxruntime_providers_shared.so").write_bytes(b"not a library")
    assert "libonnxruntime_providers_shared.so" in describe(CUDA).problem


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def test_an_unavailable_engine_is_not_opened(
    wheel: FakeModule, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "_providers", [CPU_PROVIDER])
    with pytest.raises(BackendError, match="backend 'cuda' cannot run: onnxruntime-gpu 1.0 was"):
        open_cuda(bundle, "fp32")


@pytest.mark.parametrize(
    ("precision", "half", "tf32"), [("fp32", "False", "0"), ("fp16", "True", None)]
)
def test_engines_of_onnxruntime_are_kept_in_the_users_cache(
    wheel: FakeModule,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    precision: str,
    half: str,
    tf32: str | None,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")  # and gone again after the test
    opened: list[Any] = []

    def keep(bundle: Bundle, precision: str, engine: Any) -> None:
        opened.append(engine)

    monkeypatch.setattr(gpu_engines, "OnnxRuntimeGpu", keep)
    open_onnxruntime_tensorrt(bundle, precision)
    (engine,) = opened
    options = engine.providers[TENSORRT_PROVIDER]
    folder = tmp_path / "cache" / "laglite" / "onnxruntime-tensorrt"
    assert options["trt_engine_cache_path"] == str(folder)
    assert options["trt_fp16_enable"] == half
    # Of other values onnxruntime says: "should be 'True' or 'False'".
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "True"
    assert list(engine.providers) == [TENSORRT_PROVIDER, CUDA_PROVIDER]
    assert list(engine.plain().providers) == [CUDA_PROVIDER]
    assert folder.is_dir()
    assert os.environ.get("NVIDIA_TF32_OVERRIDE") == tf32


def test_a_cache_that_cannot_be_written_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    with pytest.raises(BackendError, match="engines cannot be kept there .* set XDG_CACHE_HOME"):
        open_onnxruntime_tensorrt(bundle, "fp32")
