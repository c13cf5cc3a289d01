"""Lag-Llama's release configuration with random weights: what benchmarks beside PyTorch run."""

from __future__ import annotations

from pathlib import Path

import torch
from published_lags import PUBLISHED_LAGS

from laglite.spec import ModelSpec
from laglite_export.bundle_writer import export_bundle
from laglite_train.model import LagLlama


def release_model() -> LagLlama:
    """8 layers x 9 heads x 16, 84 lags; the same weights in every run."""
    torch.manual_seed(0)
    model = LagLlama(ModelSpec(8, 9, 16, 512, PUBLISHED_LAGS))
    model.initialise()
    return model.eval()


def release_bundle(folder: Path) -> Path:
    """The bundle of `release_model`, exported to `folder` unless it is there."""
    path = folder / "release"
    if not path.exists():
        export_bundle(release_model(), path, name="release", license_name="none", summary={})
    return path
