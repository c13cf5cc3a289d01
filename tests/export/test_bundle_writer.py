"""Export: whole bundles or none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from laglite.bundle import open_bundle
from laglite.errors import BundleError, InputError
from laglite.spec import ModelSpec
from laglite_export import bundle_writer, device_draws
from laglite_export.bundle_writer import export_bundle
from laglite_export.graph_builder import GraphBuilder, WeightFile
from laglite_train.model import LagLlama


@pytest.fixture
def model(small_spec: ModelSpec) -> LagLlama:
    model = LagLlama(small_spec)
    model.initialise()
    return model.eval()


def write(model: LagLlama, output: Path, *, overwrite: bool = False) -> float:
    return export_bundle(
        model, output, name="n", license_name="MIT", summary={"training": {"steps": 3}},
        overwrite=overwrite,
    )  # fmt: skip


def test_the_manifest_tells_what_was_exported(model: LagLlama, tmp_path: Path) -> None:
    difference = write(model, tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["model"] == model.spec.to_dict()
    assert manifest["training"] == {"steps": 3}
    assert manifest["license"] == "MIT"
    assert manifest["precisions"]["fp32"]["max_difference"] == difference < 1e-4
    assert set(manifest["created_with"]) == {"laglite", "torch", "onnx"}
    assert open_bundle(tmp_path / "bundle").spec == model.spec


def test_exporting_twice_gives_the_same_graphs_and_weights(model: LagLlama, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(model, tmp_path / name)
    files = {p.relative_to(tmp_path / "first") for p in (tmp_path / "first").glob("*/*")}
    assert len(files) == 4 + 4 + 3
    for file in files:
        first, second = ((tmp_path / n / file).read_bytes() for n in ("first", "second"))
        assert first == second


def test_graphs_that_differ_from_pytorch_are_not_written(
    model: LagLlama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_writer, "TOLERANCE", 1e-12)
    with pytest.raises(BundleError, match="differ from PyTorch by .* nothing was written"):
        write(model, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_device_step_that_draws_wrongly_is_not_written(
    model: LagLlama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_draws, "TERMS", 1)
    with pytest.raises(BundleError, match="differ from PyTorch by .* nothing was written"):
        write(model, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept_unless_told_otherwise(model: LagLlama, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    write(model, output)
    (output / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="exists; choose another --output"):
        write(model, output)
    assert (output / "mine.txt").read_text() == "keep"
    write(model, output, overwrite=True)
    parts = ["fp16", "fp32", "int8", "manifest.json", "verify.npz"]
    assert sorted(p.name for p in output.iterdir()) == parts
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_that_is_no_bundle_is_never_replaced(model: LagLlama, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("keep")
    with pytest.raises(InputError, match="is no bundle: not replaced"):
        write(model, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (OSError(28, "No space left on device"), InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_the_old_bundle_comes_back_if_the_new_one_cannot_take_its_place(
    model: LagLlama,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    seen: type[BaseException],
) -> None:
    output = tmp_path / "bundle"
    write(model, output)
    before = (output / "manifest.json").read_bytes()
    move = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target == output and not self.name.endswith(".replaced"):
            raise error
        return move(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(seen):
        write(model, output, overwrite=True)
    assert (output / "manifest.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_an_output_that_cannot_be_written_leaves_nothing(model: LagLlama, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(model, tmp_path / "file" / "bundle")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_weight_cannot_be_stored_under_one_name_with_two_values() -> None:
    g = GraphBuilder("g", WeightFile("weights.bin"))
    g.weight("w", np.ones(3, np.float32))
    other = GraphBuilder("h", g._weights)
    with pytest.raises(ValueError, match="'w' is added twice"):
        other.weight("w", np.zeros(3, np.float32))
