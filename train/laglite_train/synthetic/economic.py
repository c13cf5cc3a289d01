"""Economic series: growth and saturation, business cycles, crises, yearly seasons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite_train.synthetic.stochastic_paths import (
    autoregression,
    change_points,
    fast_length,
    filtered,
    harmonic_profile,
    one_of,
    smooth_path,
)
from laglite_train.synthetic.time_grid import DAYS_PER_YEAR, TimeGrid

Array = NDArray[np.float64]

LARGEST_LOG = 6.0


def growth(random: np.random.Generator, length: int) -> Array:
    """The logarithm of a growing, saturating or declining path, from about 0. [length].

    Exponential, linear, logistic (Verhulst), Gompertz, Bass-like rise and fall, or piecewise
    exponential.
    """
    time = np.linspace(0.0, 1.0, length)
    kind = random.integers(6)
    size = random.uniform(0.2, 3.0)
    if kind == 0:
        return one_of(random, 1.0, 1.0, -1.0) * size * time
    if kind == 1:
        return np.log1p(size * 2 * time)
    centre, width = random.uniform(0.0, 1.0), random.uniform(0.03, 0.3)
    if kind == 2:
        return size / (1 + np.exp(-(time - centre) / width))
    if kind == 3:
        return size * np.exp(-np.exp(-(time - centre) / width))
    if kind == 4:
        return size * np.exp(-(((time - centre) / (2 * width)) ** 2))
    segment = change_points(random, length, 3.0)
    slopes = random.normal(0.5, 1.0, int(segment[-1]) + 1) * size
    return np.cumsum(slopes[segment]) / length


def business_cycle(random: np.random.Generator, length: int, steps_per_year: float) -> Array:
    """An AR(2) whose roots turn once in 3 to 11 years (Harvey 1989).

    Standardised over the series. [length].
    """
    period = max(4.0, random.uniform(3.0, 11.0) * steps_per_year)
    radius = np.exp(-random.uniform(0.3, 1.5) / period)
    own = np.array([1.0, -2 * radius * np.cos(2 * np.pi / period), radius**2])
    shocks = random.standard_normal(fast_length(2 * length))
    path = filtered(shocks, np.array([1.0]), own, length)
    return (path - float(path.mean())) / (float(path.std()) + 1e-9)


def crises(random: np.random.Generator, length: int, steps_per_year: float) -> Array:
    """Rare sudden falls that recover over years, in logarithms. [length]."""
    path = np.zeros(length)
    for _ in range(random.poisson(0.7)):
        start = int(random.integers(length))
        after = np.arange(length - start)
        recovery = random.uniform(0.3, 4.0) * steps_per_year
        path[start:] -= random.exponential(0.2) * np.exp(-after / recovery)
    return path


def economic(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Growth x business cycle x crises x yearly season x shocks, positive; or rates. [length].

    A quarter are rates (interest, unemployment): persistent and without growth.
    """
    length = grid.length
    steps_per_year = max(1.0, DAYS_PER_YEAR / grid.days_per_step)
    cycle = business_cycle(random, length, steps_per_year)
    if random.random() < 0.25:
        rates = cycle + random.uniform(0.0, 2.0) * smooth_path(random, length)
        rates = rates + random.uniform(0.02, 0.2) * random.standard_normal(length)
        if random.random() < 0.3:  # a floor at zero that is reached now and then
            return np.maximum(rates - np.quantile(rates, random.uniform(0.0, 0.3)), 0.0)
        return rates
    logs = growth(random, length) + random.uniform(0.0, 0.15) * cycle
    logs = logs + crises(random, length, steps_per_year)
    if steps_per_year >= 2 and random.random() < 0.6:
        harmonics = int(np.clip(steps_per_year / 2, 1, 6))
        shape = harmonic_profile(random, grid.year_fraction, harmonics, random.uniform(0.2, 1.2))
        change = np.exp(random.uniform(0, 0.4) * smooth_path(random, length))
        logs = logs + random.uniform(0.02, 0.3) * shape * change
    logs = logs + 10 ** random.uniform(-2.5, -1) * random.standard_normal(length)
    if random.random() < 0.5:
        step = 10 ** random.uniform(-2.3, -1.2) / np.sqrt(max(1.0, steps_per_year / 12))
        logs = logs + step * np.cumsum(autoregression(random, length, random.uniform(0, 0.6)))
    return np.exp(np.clip(logs, -LARGEST_LOG, LARGEST_LOG))
