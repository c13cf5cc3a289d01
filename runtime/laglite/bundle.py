"""Bundles: a model as a directory, checked before anything of it is used.

The format is specified in docs/bundle-format.md. Opening reads JSON and hashes files; nothing in a
bundle is ever executed as Python or unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from laglite.errors import BundleError, SpecError
from laglite.spec import ModelSpec

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SHIPPED = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Precision:
    """The files of one precision, and how far it was from PyTorch when it was exported.

    `device_step`, which draws where it runs, is None in bundles that have none.
    """

    name: str
    prefill: Path
    step: Path
    tolerance: float
    max_difference: float
    device_step: Path | None = None

    @property
    def cache_dtype(self) -> str:
        """What keys and values are in this precision's graphs."""
        return "float16" if self.name == "fp16" else "float32"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every file named in its manifest is there and unaltered."""

    path: Path
    name: str
    spec: ModelSpec
    precisions: Mapping[str, Precision]
    verification: Path
    manifest: Mapping[str, Any]

    def precision(self, name: str) -> Precision:
        """The precision called `name`. Raises BundleError if the bundle has none of that name."""
        if name not in self.precisions:
            raise BundleError(
                f"{self.path}: no precision {name!r}; this bundle has {', '.join(self.precisions)}"
            )
        return self.precisions[name]


def shipped_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}"))


def locate(model: str | Path | None) -> Path:
    """The directory of a shipped model's name (None: "base"), or of a path.

    Raises BundleError if there is neither.
    """
    if model is None:
        model = "base"
    if isinstance(model, str) and model in shipped_models():
        return SHIPPED / model
    path = Path(model)
    if not path.is_dir():
        raise BundleError(
            f"{path}: neither a model directory nor a shipped model ({', '.join(shipped_models())})"
        )
    return path


def manifest_digest(path: Path) -> str:
    """The sha256 (hex) of a bundle's manifest, which holds those of all its files.

    Raises BundleError if it cannot be read.
    """
    return hashlib.sha256(_manifest_bytes(path)).hexdigest()


def open_bundle(path: Path) -> Bundle:
    """Read and check a bundle directory.

    Raises BundleError for a missing, damaged or newer manifest, a path that leaves the directory,
    and a file that is missing or not the one the manifest describes.
    """
    manifest = _read_manifest(path)
    try:
        for name, entry in manifest["files"].items():
            _check_file(path, name, int(entry["bytes"]), str(entry["sha256"]))
        precisions = {
            name: Precision(
                name,
                _listed(path, manifest, entry["prefill"]),
                _listed(path, manifest, entry["step"]),
                float(entry["tolerance"]),
                float(entry["max_difference"]),
                _listed(path, manifest, entry["device_step"]) if "device_step" in entry else None,
            )
            for name, entry in manifest["precisions"].items()
        }
        return Bundle(
            path,
            str(manifest["name"]),
            ModelSpec.from_dict(manifest["model"]),
            precisions,
            _listed(path, manifest, manifest["verification"]),
            manifest,
        )
    except SpecError as error:
        raise BundleError(f"{path / MANIFEST}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"{path / MANIFEST}: damaged ({type(error).__name__}: {error}); export it again"
        ) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    content = _manifest_bytes(path)
    try:
        manifest: dict[str, Any] = json.loads(content.decode())
    except ValueError as error:
        raise BundleError(f"{file}: not valid JSON ({error}); export the bundle again") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int):
        raise BundleError(f"{file}: no schema_version; this is not a laglite bundle")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{file}: schema version {version} is newer than this laglite reads "
            f"({SCHEMA_VERSION}); upgrade laglite"
        )
    if version < 1:
        raise BundleError(f"{file}: schema version {version} does not exist")
    return manifest


def _manifest_bytes(path: Path) -> bytes:
    file = path / MANIFEST
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read; is {path} a laglite bundle?") from error


def _check_file(root: Path, name: str, size: int, sha256: str) -> None:
    file = _inside(root, name)
    if not file.is_file():
        raise BundleError(f"{file}: missing from the bundle; copy it again in full")
    if file.stat().st_size != size:
        raise BundleError(
            f"{file}: {file.stat().st_size} bytes where the manifest says {size}; "
            "the file was cut or altered"
        )
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise BundleError(f"{file}: its sha256 is not the manifest's; the file was altered")


def _inside(root: Path, name: str) -> Path:
    """`root / name`, refused if it could be anywhere else."""
    parts = PurePosixPath(name).parts
    escapes = not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name
    file = root.joinpath(*parts)
    if escapes or not file.resolve().is_relative_to(root.resolve()):
        raise BundleError(f"{root / MANIFEST}: the path {name!r} leaves the bundle; not opened")
    return file


def _listed(root: Path, manifest: Mapping[str, Any], name: str) -> Path:
    """A file that the manifest uses; it must be among those whose hash was checked."""
    if name not in manifest["files"]:
        raise BundleError(f"{root / MANIFEST}: {name!r} is used but not listed under files")
    return _inside(root, name)
