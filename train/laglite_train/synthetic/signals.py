"""Machines and sensors: pulses, sawteeth, duty cycles, waves, saturated and quiet signals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite_train.synthetic.stochastic_paths import (
    autoregression,
    change_points,
    fast_length,
    filtered,
    one_of,
    smooth_path,
)
from laglite_train.synthetic.time_grid import TimeGrid, draw_period

Array = NDArray[np.float64]


def pulses(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Spikes on a quiet signal, each dying away exponentially. [length].

    They come at random (shot noise) or on a timetable: once in a period, with some left out.
    """
    size = fast_length(2 * grid.length)
    if random.random() < 0.5:
        at = random.random(size) < 10 ** random.uniform(-2.5, -0.8)
    else:
        period = max(2.0, draw_period(random, grid))
        at = np.arange(size) % period < 1
        at &= random.random(size) < one_of(random, 0.7, 1.0)
    heights = random.lognormal(0.0, random.uniform(0.05, 0.8), size)
    fading = one_of(random, 0.0, np.exp(-1 / random.uniform(0.5, 20.0)))
    path = filtered(at * heights, np.array([1.0]), np.array([1.0, -fading]), grid.length)
    quiet = one_of(random, 0.0, 10 ** random.uniform(-2.5, -0.7))
    return path + quiet * autoregression(random, grid.length, random.uniform(0.0, 0.95))


def sawtooth(random: np.random.Generator, grid: TimeGrid) -> Array:
    """A tank that fills and empties: a ramp with resets, period and peak changing. [length]."""
    period = max(3.0, draw_period(random, grid))
    speed = np.exp(random.uniform(0.0, 0.3) * smooth_path(random, grid.length)) / period
    turns = np.cumsum(speed)
    phase = turns % 1
    knee = one_of(random, 0.0, random.uniform(0.05, 0.95))  # the share of the turn that falls
    path = np.where(phase < knee, 1 - phase / max(knee, 1e-9), (phase - knee) / (1 - knee))
    peaks = 1 + random.uniform(0.0, 0.3) * random.standard_normal(int(turns[-1]) + 2)
    path = path * peaks[turns.astype(np.int64)]
    return path + random.uniform(0.0, 0.1) * random.standard_normal(grid.length)


def duty_cycle(random: np.random.Generator, grid: TimeGrid) -> Array:
    """On and off with different noise, by a timetable or at random, ends softened. [length]."""
    if random.random() < 0.6:
        period = max(3.0, draw_period(random, grid))
        on = (grid.steps / period + random.random()) % 1 < random.uniform(0.1, 0.9)
    else:
        mean = random.uniform(4, max(5.0, grid.length / 20))
        on = change_points(random, grid.length, grid.length / mean) % 2 == 1
    high = 1 + random.uniform(0.0, 0.2) * autoregression(random, grid.length, 0.9)
    low = one_of(random, 0.0, 0.05) * np.abs(random.standard_normal(grid.length))
    path = np.where(on, high, low)
    if random.random() < 0.4:
        lag = np.exp(-1 / random.uniform(0.5, 5))
        path = filtered(path, np.array([1 - lag]), np.array([1.0, -lag]), grid.length)
    return path


def waves(random: np.random.Generator, grid: TimeGrid) -> Array:
    """One to four sine waves of any period, harmonically related or not, with noise. [length].

    Some change their frequency slowly; some are clipped or squashed, as a saturated sensor.
    """
    base = max(3.0, draw_period(random, grid, arbitrary=0.6))
    path = np.zeros(grid.length)
    drift = one_of(random, 0.0, 0.0, random.uniform(0.0, 2.0)) * smooth_path(random, grid.length)
    for order in range(1, int(random.integers(2, 6))):
        ratio = order if random.random() < 0.5 else random.uniform(0.2, 3.0)
        angle = 2 * np.pi * (grid.steps * (ratio / base) + drift) + random.uniform(0, 2 * np.pi)
        path += random.standard_normal() / np.sqrt(order) * np.sin(angle)
    if random.random() < 0.4:
        path = path * np.exp(0.6 * smooth_path(random, grid.length))
    path = path + 10 ** random.uniform(-2.5, -0.2) * random.standard_normal(grid.length)
    kind = random.integers(6)
    if kind == 0:
        low, high = np.quantile(path, [random.uniform(0.0, 0.3), random.uniform(0.7, 1.0)])
        return np.clip(path, low, high)
    if kind == 1:
        return np.tanh(random.uniform(0.5, 3) * path)
    return path


def bounded(random: np.random.Generator, grid: TimeGrid) -> Array:
    """A share or a state of charge: persistent, held within 0 and 1. [length]."""
    path = autoregression(random, grid.length, 1 - 10 ** random.uniform(-3, -1))
    if random.random() < 0.5:
        period = draw_period(random, grid)
        path = path + random.uniform(0.3, 1.5) * np.sin(2 * np.pi * grid.steps / period)
    path = random.uniform(0.2, 0.8) + random.uniform(0.1, 0.6) * path
    return np.clip(path, 0.0, 1.0)


KINDS = (pulses, sawtooth, duty_cycle, waves, bounded)


def signals(random: np.random.Generator, grid: TimeGrid) -> Array:
    """One of the kinds of this module, at even odds. [length]."""
    return KINDS[int(random.integers(len(KINDS)))](random, grid)
