"""Bundles: whatever is missing, altered or unsafe is refused, each with its own error."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laglite import Forecaster
from laglite.bundle import locate, open_bundle
from laglite.errors import BundleError
from laglite.verification import read_cases

Manifest = dict[str, Any]


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[Manifest], Any]) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_bundle_opens_with_its_spec_and_precisions(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.name == "lag_llama_tiny"
    assert bundle.spec.max_lag == 1092
    assert bundle.precision("fp32").max_difference <= 1e-4
    assert [each.cache_dtype for each in bundle.precisions.values()] == [
        "float32", "float16", "float32"
    ]  # fmt: skip


def test_a_bundle_from_before_the_device_step_opens_without_one(copy: Path) -> None:
    edit(copy, lambda m: m["precisions"]["fp32"].pop("device_step"))
    precisions = open_bundle(copy).precisions
    assert precisions["fp32"].device_step is None
    assert precisions["fp16"].device_step == copy / "fp16" / "device_step.onnx"


@pytest.mark.parametrize("name", ["fp32/prefill.onnx", "fp32/weights.bin", "verify.npz"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: missing from the bundle"):
        open_bundle(copy)


def test_a_file_with_one_bit_changed_is_refused(copy: Path) -> None:
    path = copy / "fp32" / "weights.bin"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="weights.bin: its sha256 is not the manifest's"):
        open_bundle(copy)


def test_a_file_cut_short_is_refused(copy: Path) -> None:
    path = copy / "fp32" / "step.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match="step.onnx: .* bytes where the manifest says"):
        open_bundle(copy)


@pytest.mark.parametrize(
    "name", ["../secret.onnx", "/etc/hostname", "fp32/../../x", "C:\\x", "fp32\\x", ""]
)
def test_a_path_that_leaves_the_bundle_is_refused(copy: Path, name: str) -> None:
    edit(copy, lambda m: m["files"].update({name: {"bytes": 1, "sha256": "0"}}))
    with pytest.raises(BundleError, match="leaves the bundle"):
        open_bundle(copy)


def test_a_link_that_leaves_the_bundle_is_refused(copy: Path) -> None:
    outside = copy.parent / "outside.npz"
    shutil.move(copy / "verify.npz", outside)
    (copy / "verify.npz").symlink_to(outside)
    with pytest.raises(BundleError, match="leaves the bundle"):
        open_bundle(copy)


@pytest.mark.parametrize("graph", ["step", "device_step"])
def test_a_graph_whose_hash_is_not_listed_is_refused(copy: Path, graph: str) -> None:
    shutil.copy(copy / "fp32" / "step.onnx", copy / "other.onnx")
    edit(copy, lambda m: m["precisions"]["fp32"].update({graph: "other.onnx"}))
    with pytest.raises(BundleError, match="'other.onnx' is used but not listed"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=2), "schema version 2 is newer than this laglite reads"),
        (lambda m: m.update(schema_version=0), "schema version 0 does not exist"),
        (lambda m: m.pop("schema_version"), "no schema_version; this is not a laglite bundle"),
        (lambda m: m.pop("precisions"), "damaged .*precisions"),
        (lambda m: m.pop("verification"), "damaged .*verification"),
        (lambda m: m.update(files=[]), "damaged"),
        (lambda m: m["precisions"]["fp32"].update(tolerance="much"), "damaged"),
        (lambda m: m["model"].update(head="iqn"), "head 'iqn' is not known"),
        (lambda m: m["model"].pop("lags"), "model setting 'lags' is missing"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(
    copy: Path, change: Callable[[Manifest], Any], message: str
) -> None:
    edit(copy, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(copy)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00"])
def test_a_manifest_that_is_not_an_object_is_refused(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="not valid JSON|not a laglite bundle"):
        open_bundle(copy)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is .* a laglite bundle"):
        open_bundle(tmp_path)


def test_an_unknown_model_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"neither a model directory nor a shipped model \(base"):
        locate(tmp_path / "nowhere")


def test_a_graph_that_is_not_onnx_is_refused_by_name(copy: Path) -> None:
    content = b"not a graph"
    (copy / "fp32" / "step.onnx").write_bytes(content)
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(copy, lambda m: m["files"].update({"fp32/step.onnx": entry}))
    with pytest.raises(Exception, match="step.onnx: onnxruntime cannot load this graph"):
        Forecaster.load(copy)


def test_test_vectors_with_pickled_objects_are_refused(copy: Path) -> None:
    spec = open_bundle(copy).spec
    np.savez(copy / "verify.npz", **{"case_0/history": np.array([{"a": 1}], object)})
    with pytest.raises(BundleError, match="damaged test vectors"):
        read_cases(copy / "verify.npz", spec)
