"""Counts and intermittent demand: sporadic sales, spare parts, visits, events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite_train.synthetic.stochastic_paths import (
    autoregression,
    change_points,
    harmonic_profile,
    smooth_path,
)
from laglite_train.synthetic.structural import season
from laglite_train.synthetic.time_grid import TimeGrid

Array = NDArray[np.float64]

LARGEST_RATE = 1e5


def rate_profile(random: np.random.Generator, grid: TimeGrid) -> Array:
    """A positive rate around 1: weekly and yearly profile, slow drift, now and then a season.

    [length].
    """
    logs = random.uniform(0.0, 0.5) * smooth_path(random, grid.length)
    if grid.has_weekdays and random.random() < 0.7:
        weekdays = random.normal(0.0, random.uniform(0.05, 0.5), 7)
        weekdays[5:] += random.normal(0.0, 0.5)
        logs = logs + weekdays[grid.weekday]
    if grid.has_hours:
        logs = logs + random.uniform(0.2, 1.0) * harmonic_profile(random, grid.hour / 24, 3, 0.8)
    if random.random() < 0.4:
        logs = logs + random.uniform(0.1, 0.5) * harmonic_profile(random, grid.year_fraction, 3, 1)
    if random.random() < 0.2:
        logs = logs + random.uniform(0.1, 0.5) * season(random, grid, evolving=False)
    return np.exp(np.clip(logs, -5.0, 3.0))


def intermittent_demand(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Mostly zeros, and whole numbers where there is demand (Croston 1972; Syntetos et al. 2005).

    Occurrence is Bernoulli with a probability that follows `rate_profile`, in some series with
    bursts; sizes are 1, 1 + negative binomial, geometric or log-normal. Some series are empty
    before a product's launch or after its end. Non-negative integers, [length].
    """
    length = grid.length
    interval = np.exp(random.uniform(np.log(1.3), np.log(30.0)))
    chance = rate_profile(random, grid) / interval
    if random.random() < 0.3:
        chance = chance * np.exp(1.2 * autoregression(random, length, random.uniform(0.6, 0.98)))
    occurs = random.random(length) < np.minimum(chance, 0.9)
    mean = np.exp(random.uniform(0.0, 4.0))
    kind = random.integers(4)
    sizes: Array = np.ones(length)
    if kind == 1:
        shape = random.uniform(0.5, 5.0)
        sizes = sizes + random.negative_binomial(shape, shape / (shape + mean), length)
    elif kind == 2:
        sizes = random.geometric(1 / (1 + mean), length).astype(np.float64)
    elif kind == 3:
        sizes = np.ceil(mean * np.exp(random.uniform(0.2, 1.0) * random.standard_normal(length)))
    demand = np.where(occurs, sizes, 0.0)
    if random.random() < 0.2:
        cut = int(random.uniform(0.1, 0.7) * length)
        demand[slice(0, cut) if random.random() < 0.6 else slice(length - cut, length)] = 0.0
    return demand


def counts(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Over-dispersed counts: Poisson whose rate is gamma-distributed around a profile. [length].

    That is a negative binomial; the gamma factor is independent or an AR(1), levels may shift, and
    stretches without supply are zero. Non-negative integers.
    """
    length = grid.length
    rate = rate_profile(random, grid) * 10 ** random.uniform(-0.3, 3.0)
    if random.random() < 0.3:
        segment = change_points(random, length, 3.0)
        rate = rate * np.exp(random.normal(0.0, 0.5, int(segment[-1]) + 1))[segment]
    kind = random.integers(3)
    if kind == 1:
        shape = 10 ** random.uniform(-0.3, 2.0)
        rate = rate * random.gamma(shape, 1 / shape, length)
    elif kind == 2:
        rate = rate * np.exp(
            random.uniform(0.1, 0.5) * autoregression(random, length, random.uniform(0.5, 0.98))
        )
    values = random.poisson(np.minimum(rate, LARGEST_RATE)).astype(np.float64)
    if random.random() < 0.2:
        closed = np.repeat(random.random(length // 7 + 1) < 0.1, 7)[:length]
        values[closed] = 0.0
    return values


def demand(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Intermittent demand or counts, at even odds. [length]."""
    return (intermittent_demand if random.random() < 0.5 else counts)(random, grid)
