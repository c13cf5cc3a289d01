"""Export: a checkpoint's network to a validated bundle directory."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from laglite.atomic_file import check_unused
from laglite.backends.device import DEVICE_STEP, PREFILL
from laglite.backends.onnxruntime_cpu import OnnxRuntimeCpu
from laglite.backends.onnxruntime_device import OrtDevice
from laglite.backends.onnxruntime_session import CPU
from laglite.bundle import MANIFEST, SCHEMA_VERSION, open_bundle
from laglite.errors import BundleError, InputError
from laglite.spec import ModelSpec
from laglite.verification import verify, write_cases
from laglite.version import __version__
from laglite_export.device_step_graph import build_device_step, can_draw
from laglite_export.graph_builder import GraphBuilder, WeightFile
from laglite_export.half_precision import HalfBuilder
from laglite_export.prefill_graph import build_prefill
from laglite_export.quantisation import Int8Builder, balance
from laglite_export.step_graph import build_step
from laglite_export.vectors import make_cases
from laglite_train.model import LagLlama

TOLERANCE = 1e-4  # of fp32
# Rounding to fewer bits has no bound known beforehand: what was seen at export, and some room.
ROOM = 2.0
PRECISIONS = ("fp32", "fp16", "int8")
VERIFICATION = "verify.npz"
LOG = logging.getLogger("laglite")
BUILDERS = {PREFILL: build_prefill, "step": build_step, DEVICE_STEP: build_device_step}


def export_bundle(
    model: LagLlama,
    output: Path,
    *,
    name: str,
    license_name: str,
    summary: Mapping[str, Any],
    overwrite: bool = False,
    evaluate: Callable[[Path], Mapping[str, Any]] | None = None,
) -> float:
    """Write the bundle of `model` to the directory `output`; return the largest difference seen.

    The bundle holds the precisions fp32, int8 and, for models whose values it holds, fp16. All
    graphs are validated against PyTorch before `output` appears, whole; the difference returned is
    that of fp32. `summary` holds the manifest's "training" and "evaluation" parts; `evaluate` may
    add to it what it measures on the validated bundle, at a temporary place. Raises InputError if
    `output` exists or cannot be written, BundleError if the fp32 graphs differ from PyTorch by
    more than 1e-4.
    """
    check_output(output, overwrite=overwrite)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        build = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from error
    aside = build.with_name(f"{build.name}.replaced")
    try:
        _write_graphs(build, model, name)
        write_cases(build / VERIFICATION, make_cases(model))
        seen = dict.fromkeys(PRECISIONS, 0.0)
        _write_manifest(build, model.spec, name, license_name, summary, seen)
        seen = _validate(build)
        if evaluate is not None:
            summary = {**summary, **evaluate(build)}
        _write_manifest(build, model.spec, name, license_name, summary, seen)
        build.chmod(0o755)
        if output.exists():
            output.replace(aside)  # kept until the new one is in place
        build.replace(output)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from error
    finally:
        if aside.exists() and not output.exists():  # whatever stopped it, an interrupt too
            aside.replace(output)
        shutil.rmtree(build, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)
    return seen["fp32"]


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise InputError if `output` exists, but for a bundle that may be overwritten."""
    if not overwrite:
        check_unused(output)
    if output.exists() and not (output / MANIFEST).is_file():
        raise InputError(f"{output} exists and is no bundle: not replaced; choose another --output")


def _write_graphs(build: Path, model: LagLlama, name: str) -> None:
    weights = {
        key: tensor.detach().numpy().astype(np.float32)
        for key, tensor in model.state_dict().items()
    }
    balanced, ranges = balance(model, weights)
    for precision in PRECISIONS:
        folder = build / precision
        folder.mkdir()
        metadata = {
            "laglite.schema_version": str(SCHEMA_VERSION),
            "laglite.name": name,
            "laglite.precision": precision,
            "laglite.model": json.dumps(model.spec.to_dict()),
        }
        file = WeightFile("weights.bin")
        for graph in _graphs(model.spec, precision):
            facts = {**metadata, "laglite.graph": graph}
            if precision == "int8":
                g: GraphBuilder = Int8Builder(graph, file, ranges)
                proto = BUILDERS[graph](g, model.spec, balanced, facts)
            else:
                g = HalfBuilder(graph, file) if precision == "fp16" else GraphBuilder(graph, file)
                proto = BUILDERS[graph](g, model.spec, weights, facts)
            onnx.save(proto, folder / f"{graph}.onnx")
        file.write(folder / file.location)
        for graph in _graphs(model.spec, precision):
            onnx.checker.check_model(str(folder / f"{graph}.onnx"), full_check=True)


def _graphs(spec: ModelSpec, precision: str) -> list[str]:
    """The graphs that a precision has: on the devices for which int8 is made, the host draws."""
    drawn = precision != "int8" and can_draw(spec)
    return [graph for graph in BUILDERS if graph != DEVICE_STEP or drawn]


def _write_manifest(
    build: Path,
    spec: ModelSpec,
    name: str,
    license_name: str,
    summary: Mapping[str, Any],
    differences: Mapping[str, float],
) -> None:
    files = sorted(p for p in build.rglob("*") if p.is_file() and p.name != MANIFEST)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "license": license_name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "created_with": {"laglite": __version__, **{p: version(p) for p in ("torch", "onnx")}},
        "model": spec.to_dict(),
        "precisions": {
            precision: {
                **{graph: f"{precision}/{graph}.onnx" for graph in _graphs(spec, precision)},
                "tolerance": TOLERANCE if precision == "fp32" else ROOM * difference,
                "max_difference": difference,
            }
            for precision, difference in differences.items()
        },
        "verification": VERIFICATION,
        "files": {
            file.relative_to(build).as_posix(): {
                "bytes": file.stat().st_size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
            for file in files
        },
        **summary,
    }
    (build / MANIFEST).write_text(
        json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )


def _validate(build: Path) -> dict[str, float]:
    """Run the written bundle's own test vectors; the largest difference from PyTorch of each.

    Half precision is taken out again if it cannot hold the model's values.
    """
    bundle = open_bundle(build)
    differences = {}
    for precision in PRECISIONS:
        backend = OnnxRuntimeCpu(bundle, precision, threads=1)
        files = bundle.precision(precision)
        if files.device_step is not None:  # onnxruntime's CPU as a device, to run all graphs
            graphs = {PREFILL: files.prefill, DEVICE_STEP: files.device_step}
            backend.device = OrtDevice(CPU, graphs, files.cache_dtype, capture=False)
        results = verify(bundle, backend)
        differences[precision] = max(result.largest for result in results)
    if not differences["fp32"] <= TOLERANCE:
        raise BundleError(
            f"the exported graphs differ from PyTorch by {differences['fp32']:.2g}, more than "
            f"{TOLERANCE:g}: nothing was written"
        )
    if not np.isfinite(differences["int8"]):
        raise BundleError("the 8-bit graphs yield values that are not finite: nothing was written")
    if not np.isfinite(differences["fp16"]):
        LOG.warning("precision 'fp16' is left out: half precision cannot hold this model's values")
        del differences["fp16"]
        shutil.rmtree(build / "fp16")
    return differences
