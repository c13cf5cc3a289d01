"""Workloads: one series, a context, a horizon and a number of paths, on one configuration."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.forecast import Forecast
from laglite.forecaster import Forecaster
from laglite.spec import ModelSpec

START, FREQ = "2024-01-01", "h"
FEWEST_VALUES = 1000


@dataclass(frozen=True)
class Workload:
    """What is run and measured.

    `model` is a bundle directory or a shipped model's name. After `warmup` calls, `repeats` calls
    are timed. `context` None is the model's own.
    """

    model: str = "base"
    backend: str = "auto"
    precision: str = "fp32"
    threads: int = 1
    context: int | None = None
    horizon: int = 24
    paths: int = 100
    refine: bool = True
    repeats: int = 50
    warmup: int = 3

    def tokens(self, spec: ModelSpec) -> int:
        """The prompt's length for a model."""
        return spec.context_length if self.context is None else self.context

    def forecast(self, forecaster: Forecaster, values: NDArray[np.float64]) -> Forecast:
        """Run it once on `values`; the same samples each time."""
        return forecaster.predict(
            values,
            horizon=self.horizon,
            start=START,
            freq=FREQ,
            num_samples=self.paths,
            context_length=self.context,
            seed=0,
            refine=self.refine,
        )


def grid(base: Workload, **choices: Sequence[Any]) -> list[Workload]:
    """Every combination of `choices` (lists of values by field), the last field fastest."""
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    return [
        Workload(**(fields | dict(zip(choices, values, strict=True))))
        for values in itertools.product(*choices.values())
    ]


def series(reach: int) -> NDArray[np.float64]:
    """Hourly values with a day, a week and noise, a little more than a model looks back: `reach`.

    The same in every run; timings hardly depend on values.
    """
    hours = np.arange(max(FEWEST_VALUES, reach + 1))
    noise = np.random.default_rng(0).normal(size=len(hours))
    day, week = np.sin(hours * 2 * np.pi / 24), np.sin(hours * 2 * np.pi / 168)
    values: NDArray[np.float64] = 100 + 30 * day + 10 * week + 3 * noise
    return values
