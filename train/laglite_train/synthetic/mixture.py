"""Synthetic series for training: an equal mixture of generator families, recorded imperfectly.

Equal shares of many families beside real data are the recipe of "Mix, Don't Pick"
(arXiv 2606.09912) and Tiny-TSM (arXiv 2511.19272).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.frequency import Frequency, parse_frequency
from laglite_train.synthetic import observation
from laglite_train.synthetic.activity import activity
from laglite_train.synthetic.demand import demand
from laglite_train.synthetic.economic import economic
from laglite_train.synthetic.gaussian_process import gaussian_process
from laglite_train.synthetic.signals import signals
from laglite_train.synthetic.structural import components, regimes, stochastic_process
from laglite_train.synthetic.time_grid import TimeGrid, draw_start

Array = NDArray[np.float64]
Family = Callable[[np.random.Generator, TimeGrid], Array]

FAMILIES: dict[str, Family] = {
    "gaussian_process": gaussian_process,
    "components": components,
    "stochastic_process": stochastic_process,
    "regimes": regimes,
    "demand": demand,
    "activity": activity,
    "economic": economic,
    "signals": signals,
}
SIGNED = ("gaussian_process", "components", "stochastic_process", "regimes", "signals")
SHORTEST = 8
LARGEST = 1e30


@dataclass(frozen=True)
class SyntheticConfig:
    """Weights of the families, in any unit, and shares of series with each imperfection.

    The economic family is left out at steps below a day. `positive` applies to families with
    signed values; demand keeps its whole numbers: it is not scaled, rounded or transformed.
    """

    gaussian_process: float = 1.0
    components: float = 1.0
    stochastic_process: float = 1.0
    regimes: float = 1.0
    demand: float = 1.0
    activity: float = 1.0
    economic: float = 1.0
    signals: float = 1.0
    positive: float = 0.3
    rounded: float = 0.15
    outliers: float = 0.08
    stuck: float = 0.04
    missing: float = 0.1

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name in FAMILIES and not 0 <= value < np.inf:
                raise InputError(f"synthetic.{name} must be a weight of at least 0, not {value!r}")
            if name not in FAMILIES and not 0 <= value <= 1:
                raise InputError(f"synthetic.{name} must be a share from 0 to 1, not {value!r}")
        if not any(getattr(self, name) > 0 for name in FAMILIES if name != "economic"):
            raise InputError("synthetic: at least one family besides economic needs a weight")

    def probabilities(self, grid: TimeGrid) -> Array:
        """The chance of each of FAMILIES on this grid, summing to 1."""
        weights = np.array([getattr(self, name) for name in FAMILIES], dtype=np.float64)
        if grid.days_per_step < 1:
            weights[list(FAMILIES).index("economic")] = 0.0
        return weights / float(weights.sum())


EVEN = SyntheticConfig()


def draw_series(
    random: np.random.Generator,
    length: int,
    freq: str | Frequency,
    start: np.datetime64 | None = None,
    config: SyntheticConfig = EVEN,
) -> NDArray[np.float32]:
    """A random series of `length` steps of `freq`, NaN where missing. float32 [length].

    `start` is the time of the first value (drawn where None), so that weekends, nights and
    Decembers lie where the calendar has them. The same generator state gives the same series.
    Raises FrequencyError for an unknown alias, InputError for a length below 8.
    """
    if length < SHORTEST:
        raise InputError(f"a synthetic series needs a length of at least {SHORTEST}, not {length}")
    freq = freq if isinstance(freq, Frequency) else parse_frequency(freq)
    start = draw_start(random, freq) if start is None else start
    grid = TimeGrid(length, freq, start)
    name = list(FAMILIES)[random.choice(len(FAMILIES), p=config.probabilities(grid))]
    return record(random, FAMILIES[name](random, grid), name, config)


def record(
    random: np.random.Generator, path: Array, family: str, config: SyntheticConfig
) -> NDArray[np.float32]:
    """The path of a family as it would be found in a file: float32 [length], NaN where missing."""
    signed = family in SIGNED
    if signed and random.random() < config.positive:
        path, signed = observation.positive_transform(random, path), False
    if family != "demand":
        path = observation.affine(random, path, 0.5 if signed else 0.1)
        if random.random() < config.rounded:
            path = observation.rounded(random, path)
        if random.random() < config.outliers:
            path = observation.with_outliers(random, path)
    if random.random() < config.stuck:
        path = observation.with_stuck_stretch(random, path)
    path = np.clip(path, -LARGEST, LARGEST)
    if random.random() < config.missing:
        path = observation.with_missing(random, path)
    return path.astype(np.float32)
