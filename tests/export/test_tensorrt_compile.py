"""`laglite compile` over a double of TensorRT: what is written, kept, refused and made anew."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from laglite.backends import cuda_driver
from laglite.backends.device import Capacity
from laglite.backends.engine_files import engines_root
from laglite.backends.library_errors import Fault
from laglite.bundle import manifest_digest, open_bundle
from laglite.cli import main
from tests import tensorrt_double
from tests.cuda_double import CudaDouble
from tests.tensorrt_double import GPU, TensorRtDouble, forget, install

SIZES = ["--series", "3", "--paths", "20", "--context", "40", "--horizon", "12"]
Compile = Callable[..., Result]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TensorRtDouble:
    module = TensorRtDouble(CudaDouble())
    install(monkeypatch, module)
    monkeypatch.delenv("LAGLITE_ENGINES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return module


@pytest.fixture
def compile_(double: TensorRtDouble, tiny_bundle: Path) -> Compile:
    def run(*more: str) -> Result:
        return CliRunner().invoke(main, ["compile", str(tiny_bundle), *SIZES, *more])

    return run


def test_engines_lie_in_the_users_cache_beside_what_tells_all_about_them(
    compile_: Compile, tiny_bundle: Path, tmp_path: Path
) -> None:
    done = compile_()
    assert done.exit_code == 0, done.output
    path = Path(done.stdout.strip())
    assert path.is_relative_to(tmp_path / "cache" / "laglite" / "engines")
    manifest = json.loads((path / "engines.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["target"] == {
        "bundle": "lag_llama_tiny",
        "bundle_sha256": manifest_digest(tiny_bundle),
        "precision": "fp32",
        "flavour": "tensorrt",
        "version": "10.3.0",
        "gpu": "Double (compute capability 8.7)",
    }
    assert manifest["capacity"] == {"series": 3, "paths": 20, "context": 40, "steps": 12}
    assert list(manifest["engines"]) == ["prefill", "step", "device_step"]
    for name, engine in manifest["engines"].items():
        content = (path / engine["file"]).read_bytes()
        assert len(content) == engine["size"]
        assert hashlib.sha256(content).hexdigest() == engine["sha256"]
        graph = (tiny_bundle / engine["graph"]).read_bytes()
        assert hashlib.sha256(graph).hexdigest() == engine["graph_sha256"]
        assert engine["graph"] == f"fp32/{name}.onnx"
    tensors = {each["name"]: each for each in manifest["engines"]["prefill"]["tensors"]}
    assert tensors["tokens"]["is_input"]
    assert tensors["tokens"]["least"][:2] == [1, 1]
    assert tensors["tokens"]["largest"][:2] == [3, 40]
    assert tensors["prompt_key_0"]["largest"][-1] == 41
    assert not tensors["prompt_key_0"]["is_input"]
    fixed = {each["name"]: each for each in manifest["engines"]["device_step"]["tensors"]}
    assert fixed["values"]["largest"] == [12, 3, 20]
    assert fixed["step"]["dtype"] == "int64"
    assert all(each["least"] == each["largest"] for each in fixed.values())


def test_float32_products_are_not_rounded(compile_: Compile, double: TensorRtDouble) -> None:
    assert compile_().exit_code == 0
    assert double.cleared == ["TF32"] * 3


def test_timings_of_one_build_serve_the_next(compile_: Compile, double: TensorRtDouble) -> None:
    assert compile_().exit_code == 0
    assert double.timings_given == [b"", b"t", b"tt"]
    assert compile_("--precision", "fp16").exit_code == 0
    assert double.timings_given[3] == b"ttt"


def test_damaged_timings_are_measured_anew(
    compile_: Compile, double: TensorRtDouble, tmp_path: Path
) -> None:
    path = Path(compile_().stdout.strip())
    (timings,) = (tmp_path / "cache" / "laglite" / "engines").glob("timings-*.cache")
    timings.write_bytes(b"damaged")
    del double.timings_given[:]
    assert compile_("--rebuild").exit_code == 0
    assert double.timings_given == [b"damaged", b"", b"t", b"tt"]
    assert timings.read_bytes() == b"ttt"
    assert path.is_dir()


def test_engines_that_are_there_stay_unless_they_are_made_anew(
    compile_: Compile, double: TensorRtDouble
) -> None:
    path = Path(compile_().stdout.strip())
    built = len(double.cleared)
    again = compile_()
    assert again.exit_code == 0
    assert "there already" in again.stderr
    assert again.stdout.strip() == str(path)
    assert len(double.cleared) == built
    larger = compile_("--paths", "50")
    assert larger.exit_code == 1
    assert "engines for 3 series, 20 paths, context 40 and horizon 12 are there" in larger.stderr
    assert compile_("--paths", "50", "--rebuild").exit_code == 0
    assert json.loads((path / "engines.json").read_text())["capacity"]["paths"] == 50


def test_engines_no_longer_listed_are_removed_with_the_list_that_named_them(
    compile_: Compile, double: TensorRtDouble
) -> None:
    path = Path(compile_().stdout.strip())
    (path / "step-000000000000.engine").write_bytes(b"of an earlier build")
    assert compile_("--rebuild").exit_code == 0
    listed = {
        e["file"] for e in json.loads((path / "engines.json").read_text())["engines"].values()
    }
    assert {file.name for file in path.glob("*.engine")} == listed


def test_an_interrupted_build_leaves_the_old_engines_usable(
    compile_: Compile, double: TensorRtDouble
) -> None:
    path = Path(compile_().stdout.strip())
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    double.refused_nodes = ["ScatterND"]  # of the device step, which is built last
    done = compile_("--rebuild")
    assert done.exit_code == 1
    assert "device_step.onnx: TensorRT refuses this graph: no importer for ScatterND" in done.stderr
    after = {file.name: file.read_bytes() for file in path.iterdir()}
    assert before.items() <= after.items()
    assert not [name for name in after if name.endswith(".part")]


def test_of_two_builds_at_once_one_stays_whole(
    double: TensorRtDouble, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laglite_export import tensorrt_engines

    replacing, main_thread = tensorrt_engines.replacing, threading.current_thread()
    written: list[Path] = []

    def build(series: int) -> None:
        bundle = open_bundle(tiny_bundle)
        tensorrt_engines.build_engines(
            bundle, "fp32", Capacity(series, 20, 40, 12), GPU, tmp_path, lambda text: None
        )

    other = threading.Thread(target=build, args=(2,))

    def replacing_slowly(path: Path) -> AbstractContextManager[Path]:
        if threading.current_thread() is main_thread:
            written.append(path)
            if len(written) == 2:  # the other build has all the time it can use
                other.start()
                other.join(0.5)
        return replacing(path)

    monkeypatch.setattr(tensorrt_engines, "replacing", replacing_slowly)
    build(3)
    other.join()
    (manifest,) = tmp_path.glob("*/*/engines.json")
    listed = {e["file"] for e in json.loads(manifest.read_text())["engines"].values()}
    assert {file.name for file in manifest.parent.glob("*.engine")} == listed


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_built(
    compile_: Compile, double: TensorRtDouble
) -> None:
    path = Path(compile_().stdout.strip())
    (path / "engines.json").unlink()
    (path / "engines.json").mkdir()
    del double.cleared[:]
    done = compile_()
    assert done.exit_code == 1
    assert "engines.json: is a directory" in done.stderr
    assert double.cleared == []


def test_capacities_beyond_what_a_tensor_holds_are_refused(
    compile_: Compile, double: TensorRtDouble
) -> None:
    done = compile_("--series", "100000", "--paths", "100000")
    assert done.exit_code == 1
    assert "100,000 series x 100,000 paths" in done.stderr
    assert "more than the 2,147,483,647 that TensorRT takes" in done.stderr
    assert double.cleared == []


def test_an_output_of_unknown_shape_is_refused(
    compile_: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_double, "_value", lambda axis, sizes: -1)
    done = compile_()
    assert done.exit_code == 1
    assert "TensorRT cannot tell the shape of 'prompt_key_0'" in done.stderr


@pytest.mark.parametrize(
    ("value", "expected"),
    [("~/own", "home/own"), ("own", "work/own"), ("", "cache/laglite/engines")],
)
def test_the_folder_of_engines_does_not_depend_on_where_one_asks(
    double: TensorRtDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    expected: str,
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAGLITE_ENGINES", value)
    assert engines_root() == tmp_path / expected


def test_a_relative_output_folder_is_named_in_full(
    compile_: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = compile_("--output", "engines")
    assert done.exit_code == 0, done.output
    assert f"export LAGLITE_ENGINES={tmp_path / 'engines'}" in done.stderr
    assert Path(done.stdout.strip()).is_absolute()


def test_the_output_folder_is_where_the_runtime_is_told_to_look(
    compile_: Compile, tmp_path: Path
) -> None:
    done = compile_("--output", str(tmp_path / "engines"))
    assert done.exit_code == 0
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "engines")
    assert f"export LAGLITE_ENGINES={tmp_path / 'engines'}" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_an_output_that_cannot_be_written_is_an_error(compile_: Compile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = compile_("--output", str(tmp_path / "file"))
    assert done.exit_code == 2
    done = compile_("--output", str(tmp_path / "file" / "below"))
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


def test_eight_bits_are_refused(compile_: Compile) -> None:
    done = compile_("--precision", "int8")
    assert done.exit_code == 1
    assert "only with symmetric inputs" in done.stderr


def test_an_unknown_precision_is_refused(compile_: Compile) -> None:
    done = compile_("--precision", "bf16")
    assert done.exit_code == 1
    assert "'bf16'" in done.stderr


def test_tensorrt_needs_the_gpu_that_its_engines_are_for(
    compile_: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("the NVIDIA driver finds no GPU", "see that nvidia-smi lists one")
    monkeypatch.setattr(cuda_driver, "find_gpu", lambda: fault)
    done = compile_()
    assert done.exit_code == 1
    assert "builds engines on the GPU they will run on: the NVIDIA driver finds no" in done.stderr


def test_rtx_engines_built_without_a_device_say_so_and_run_on_any(
    double: TensorRtDouble,
    compile_: Compile,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault = Fault("there is no NVIDIA driver", "install it")
    double.__name__ = "tensorrt_rtx"
    monkeypatch.setattr(cuda_driver, "find_gpu", lambda: fault)
    done = compile_("--context", "300", "--horizon", "45")
    assert done.exit_code == 0, done.output
    assert "none: built without a device; nothing was run" in done.stderr
    path = Path(done.stdout.strip())
    target = json.loads((path / "engines.json").read_text())["target"]
    assert target["gpu"] == "none: built without a device"
    assert target["flavour"] == "tensorrt_rtx"
    assert double.timings_given == []
    monkeypatch.setattr(cuda_driver, "find_gpu", lambda: GPU)
    done = CliRunner().invoke(main, ["verify", str(tiny_bundle), "--backend", "tensorrt"])
    assert done.exit_code == 0, done.output


def test_without_tensorrt_the_extra_is_named(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    forget(monkeypatch)
    done = CliRunner().invoke(main, ["compile", str(tiny_bundle)])
    assert done.exit_code == 1
    assert "needs tensorrt, which is not installed: pip install 'laglite[tensorrt]'" in done.stderr
