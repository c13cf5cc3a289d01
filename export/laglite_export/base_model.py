"""What training goes on from: a checkpoint, or a bundle's weights read back into PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laglite.bundle import locate, open_bundle
from laglite_export.bundle_weights import load_bundle_model
from laglite_train.checkpoint import load_checkpoint
from laglite_train.model import LagLlama

UNSPECIFIED = "unspecified"


@dataclass(frozen=True)
class Base:
    """A network, where its bundle is (None: a checkpoint), what is known."""

    model: LagLlama
    bundle: Path | None
    name: str
    license_name: str
    training: Mapping[str, Any]


def load_base(source: str) -> Base:
    """A checkpoint file, a bundle directory or a shipped model's name.

    Raises CheckpointError, BundleError.
    """
    path = Path(source)
    if path.is_file() or path.suffix == ".ckpt":
        loaded = load_checkpoint(path)
        training = {"origin": loaded.origin, **loaded.training}
        return Base(loaded.model, None, path.stem, UNSPECIFIED, training)
    bundle = open_bundle(locate(source))
    return Base(
        load_bundle_model(bundle),
        bundle.path,
        bundle.name,
        str(bundle.manifest.get("license", UNSPECIFIED)),
        bundle.manifest.get("training") or {},
    )
