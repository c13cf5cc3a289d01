"""A corpus of waves and a tiny network, for tests of whole training runs."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from laglite.spec import ModelSpec
from laglite_train.config import RunConfig, TrainConfig
from laglite_train.draws import SamplingConfig
from laglite_train.lightning_module import ForecastModule
from laglite_train.optimiser import OptimiserConfig
from laglite_train.rollout import RolloutConfig
from laglite_train.window_augmentation import AugmentationConfig

STEPS = 5
AMPLITUDE = 5.0
SPEC = ModelSpec(
    2, 2, 4, 8, (0, 1, 2, 5), scaling="iqr", history="carry", context_length=8,
    max_context_length=64,
)  # fmt: skip
ROLLOUT = RolloutConfig(weight=0.3, begin=0.3, steps=3, paths=2, windows=5)
EVERYTHING = {
    "sampling": SamplingConfig(
        horizon=6, context_lengths=(8, 12), coarser=0.2, synthetic=0.3, weighting="equal"
    ),
    "augmentation": AugmentationConfig(
        frequency=0.5, series_mix=0.5, sign_flip=0.2, magnitude=0.1, jitter=0.02
    ),
    "rollout": ROLLOUT,
}


def write_waves(folder: Path) -> Path:
    """Two files of hourly sine waves of periods 6 and 8 with a little noise."""
    random, hours = np.random.default_rng(0), np.arange(200)
    folder.mkdir(parents=True, exist_ok=True)
    for name, period in (("waves", 6), ("swell", 8)):
        rows = [
            {
                "item_id": f"{name}{k}",
                "start": datetime(2024, 1, 1),
                "freq": "h",
                "target": 10
                + AMPLITUDE * np.sin(2 * np.pi * (hours + k) / period)
                + random.normal(scale=0.1, size=len(hours)),
            }
            for k in range(4)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


def small_config(data: Path, output: Path, **changes: Any) -> TrainConfig:
    """A run of two epochs of STEPS steps; `changes` are keys of run and optimiser, or sections."""
    sections: dict[str, Any] = {
        "sampling": SamplingConfig(horizon=6, context_lengths=(8,)),
        "optimiser": OptimiserConfig(learning_rate=1e-2, warmup_steps=5, average=0.9),
        "run": RunConfig(
            epochs=2, steps_per_epoch=STEPS, batch_size=16, threads=1, validation_windows=4
        ),
    }
    for name, value in changes.items():
        for section in ("run", "optimiser"):
            if hasattr(sections[section], name):
                sections[section] = dataclasses.replace(sections[section], **{name: value})
                break
        else:
            sections[name] = value
    return TrainConfig(SPEC, (str(data),), str(output), **sections)


def write_config(config: TrainConfig, path: Path) -> Path:
    """The config as a YAML file."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value

    path.write_text(yaml.safe_dump(plain(dataclasses.asdict(config))))
    return path


def contents(path: Path) -> dict[str, Any]:
    """All that a checkpoint holds."""
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def logged(output: Path, column: str) -> dict[int, float]:
    """Values of a column of all the CSV logs of a run, by step; later versions win."""
    values = {}
    for path in sorted(output.glob("logs/version_*/metrics.csv")):
        with path.open() as file:
            for row in csv.DictReader(file):
                if row.get(column):
                    values[int(row["step"])] = float(row[column])
    return values


@contextmanager
def stopping_after(steps: int, error: BaseException) -> Iterator[None]:
    """Let `steps` training steps pass, and raise `error` at the next."""
    taken: list[int] = []
    step = ForecastModule.training_step

    def counted(self: ForecastModule, *arguments: Any) -> torch.Tensor:
        taken.append(len(taken))
        if len(taken) > steps:
            raise error
        return step(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForecastModule, "training_step", counted)
        yield
