"""Shared fixtures: golden cases of the published implementation, and bundles made from them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from laglite import Forecaster
from laglite.spec import ModelSpec
from laglite_export.bundle_writer import export_bundle
from laglite_train.checkpoint import load_checkpoint
from laglite_train.model import LagLlama

# Whether a test passes must not depend on how busy the machine is.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

GOLDEN = Path(__file__).parent / "golden"
# A folder of further cases, such as the release configuration, which is too large to ship.
FURTHER = Path(os.environ.get("LAGLITE_GOLDEN", GOLDEN))
CASES = sorted(
    {p.name: p.with_suffix("") for d in (FURTHER, GOLDEN) for p in d.glob("*.ckpt")}.values()
)


@dataclass(frozen=True)
class Golden:
    """Numbers of the published implementation for one model and three series."""

    checkpoint: Path
    config: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    @property
    def context(self) -> int:
        return int(self.config["context_length"])

    def series(self, row: int) -> NDArray[np.float64]:
        return self.arrays[f"series_{row}"].astype(np.float64)


def read_golden(stem: Path) -> Golden:
    with np.load(stem.with_suffix(".npz")) as file:
        arrays = {name: file[name] for name in file.files}
    return Golden(
        stem.with_suffix(".ckpt"), json.loads(stem.with_suffix(".json").read_text()), arrays
    )


@pytest.fixture(scope="session", params=CASES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return read_golden(request.param)


@pytest.fixture(scope="session")
def export_to(tmp_path_factory: pytest.TempPathFactory) -> Callable[[LagLlama, str], Path]:
    """Export a model once for each name."""
    folder = tmp_path_factory.mktemp("bundles")

    def export(model: LagLlama, name: str) -> Path:
        path = folder / name
        if not path.exists():
            export_bundle(model, path, name=name, license_name="none", summary={})
        return path

    return export


@pytest.fixture(scope="session")
def golden_bundle(golden: Golden, export_to: Callable[[LagLlama, str], Path]) -> Path:
    return export_to(load_checkpoint(golden.checkpoint).model, golden.checkpoint.stem)


@pytest.fixture(scope="session")
def tiny_bundle(export_to: Callable[[LagLlama, str], Path]) -> Path:
    """The tiny Lag-Llama of the golden cases, as a bundle."""
    return export_to(load_checkpoint(GOLDEN / "lag_llama_tiny.ckpt").model, "lag_llama_tiny")


@pytest.fixture(scope="session")
def tiny(tiny_bundle: Path) -> Forecaster:
    return Forecaster.load(tiny_bundle, threads=1)


@pytest.fixture(scope="session")
def small_spec() -> ModelSpec:
    """A small model by laglite's own rules, for tests that need no trained weights."""
    return ModelSpec(
        num_layers=2,
        num_heads=2,
        head_dim=8,
        mlp_width=16,
        lags=(0, 1, 2, 3, 6, 7, 23, 24),
        scaling="iqr",
        history="carry",
        calendar_optional=True,
        context_length=16,
        max_context_length=128,
    )
