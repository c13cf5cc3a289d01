"""NVIDIA's own parser and builder, which need no GPU, on every graph that ships."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner

from laglite.backends import cuda_driver
from laglite.backends.device import Capacity
from laglite.backends.library_errors import Fault
from laglite.bundle import SHIPPED
from laglite.cli import main
from laglite.errors import BackendError

trt: Any = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
STUBS = Path(__file__).parents[2] / "stubs" / "tensorrt" / "__init__.pyi"
GRAPHS = sorted(SHIPPED.glob("*/fp*/*.onnx"))
SIZES = Capacity(series=4, paths=20, context=64, steps=24)


@pytest.fixture(autouse=True)
def rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build with TensorRT for RTX, and as where there is no GPU."""
    module = pytest.importorskip("laglite.backends.tensorrt_module")
    if module.FLAVOUR != "tensorrt_rtx":
        pytest.skip("TensorRT itself is installed, and comes first")
    monkeypatch.setattr(cuda_driver, "find_gpu", lambda: Fault("no GPU", "none"))


def test_every_kind_of_graph_ships() -> None:
    names = {f"{path.parent.name}/{path.stem}" for path in GRAPHS}
    assert names == {
        f"{precision}/{graph}"
        for precision in ("fp32", "fp16")
        for graph in ("prefill", "step", "device_step")
    }


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda path: "-".join(path.parts[-3:]))
def test_the_parser_takes_the_graph_and_finds_its_tensors(graph: Path) -> None:
    from laglite_export import tensorrt_engines as engines

    found = {
        tensor.name: tensor
        for tensor in engines.graph_tensors(trt.Builder(engines.LOG), graph, SIZES, fixed=False)
    }
    declared = onnx.load(graph, load_external_data=False).graph
    types = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16",
             onnx.TensorProto.INT64: "int64"}  # fmt: skip
    assert list(found) == [info.name for info in (*declared.input, *declared.output)]
    for infos, is_input in ((declared.input, True), (declared.output, False)):
        for info in infos:
            kind, tensor = info.type.tensor_type, found[info.name]
            assert tensor.is_input is is_input
            assert tensor.dtype == types[kind.elem_type]
            assert len(tensor.largest) == len(kind.shape.dim)
            for axis, low, high in zip(kind.shape.dim, tensor.least, tensor.largest, strict=True):
                assert 1 <= low <= high
                if axis.dim_value:
                    assert low == high == axis.dim_value


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda path: "-".join(path.parts[-3:]))
def test_no_input_or_output_is_a_shape_which_would_lie_on_the_host(graph: Path) -> None:
    from laglite_export import tensorrt_engines as engines

    network = engines._parse(trt.Builder(engines.LOG), graph)
    tensors = [network.get_input(place) for place in range(network.num_inputs)]
    tensors += [network.get_output(place) for place in range(network.num_outputs)]
    assert [each.name for each in tensors if each.is_shape_tensor] == []


@pytest.mark.parametrize(("model", "precision"), [("base", "fp32"), ("nano", "fp16")])
def test_engines_are_built_here_and_described(model: str, precision: str, tmp_path: Path) -> None:
    sizes = ["--series", "4", "--paths", "20", "--horizon", "24"]
    done = CliRunner().invoke(
        main, ["compile", model, "--precision", precision, "--output", str(tmp_path), *sizes]
    )
    assert done.exit_code == 0, done.output
    assert "none: built without a device; nothing was run" in done.stderr
    path = Path(done.stdout.strip())
    manifest = json.loads((path / "engines.json").read_text())
    assert manifest["target"]["version"] == trt.__version__
    assert manifest["target"]["gpu"] == "none: built without a device"
    for name, engine in manifest["engines"].items():
        content = (path / engine["file"]).read_bytes()
        assert len(content) == engine["size"] > 100_000
        declared = onnx.load(SHIPPED / model / engine["graph"], load_external_data=False).graph
        assert [each["name"] for each in engine["tensors"]] == [
            info.name for info in (*declared.input, *declared.output)
        ], name


def test_the_parser_refuses_graphs_of_eight_bits_as_compile_does() -> None:
    from laglite_export import tensorrt_engines as engines

    with pytest.raises(BackendError, match="Non-zero zero point is not supported"):
        engines.build_engine(SHIPPED / "nano" / "int8" / "step.onnx", SIZES, False, b"")


def test_a_graph_with_unknown_dimensions_is_refused(tmp_path: Path) -> None:
    from laglite_export import tensorrt_engines as engines

    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch"])
        for name in ("x", "y")
    ]
    node = onnx.helper.make_node("Exp", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "other", values[:1], values[1:])
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "o.onnx"
    )
    with pytest.raises(BackendError, match="'x' has a dimension 'batch'"):
        engines.build_engine(tmp_path / "o.onnx", SIZES, False, b"")


def test_the_names_that_the_code_is_typed_against_are_the_modules() -> None:
    tree = ast.parse(STUBS.read_text())
    checked = 0
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        owner = getattr(trt, node.name)
        for part in ast.walk(node):
            if isinstance(part, ast.FunctionDef):
                name = "__class__" if part.name == "__buffer__" else part.name  # Python 3.12's
            elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                name = part.target.id
            elif isinstance(part, ast.ClassDef) and part is not node:
                name = part.name
            else:
                continue
            inner = getattr(owner, "Severity", None)
            assert hasattr(owner, name) or hasattr(inner, name), f"{node.name}.{name}"
            checked += 1
    assert checked > 40


WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxruntime", "pandas", "cuda"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import laglite.backends.tensorrt_native
from laglite.cli import main
main(sys.argv[1:])
"""


def test_compile_needs_nothing_but_tensorrt(tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ["compile", str(tiny_bundle), "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "engines.json").is_file()
