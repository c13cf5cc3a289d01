"""Trend, seasons and noise: structural time series, ARIMA-like processes and changing regimes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite_train.synthetic.stochastic_paths import (
    autoregression,
    change_points,
    fast_length,
    filtered,
    harmonic_profile,
    heavy_tailed_noise,
    one_of,
    smooth_path,
    table_profile,
)
from laglite_train.synthetic.time_grid import TimeGrid, draw_period

Array = NDArray[np.float64]

LARGEST_LOG = 6.0  # multiplicative parts stay within a factor of e^6
LONGEST_TABLE = 400


def season(random: np.random.Generator, grid: TimeGrid, *, evolving: bool = True) -> Array:
    """One seasonal component of about unit variance at a drawn period. [length].

    Its shape is smooth (harmonics) or sharp (a value for each position of the period). An evolving
    one has an amplitude that changes slowly, and may go over from one shape to another.
    """
    period = draw_period(random, grid)

    def shape() -> Array:
        if period < LONGEST_TABLE and abs(period - round(period)) < 0.01 and random.random() < 0.4:
            return table_profile(random, grid.steps, max(2, round(period)))
        harmonics = int(np.clip(period / 2, 1, random.integers(1, 9)))
        return harmonic_profile(random, grid.steps / period, harmonics, random.uniform(0.3, 1.8))

    profile = shape()
    if not evolving:
        return profile
    if random.random() < 0.3:
        share = 1 / (1 + np.exp(-2 * smooth_path(random, grid.length)))
        profile = (1 - share) * profile + share * shape()
    if random.random() < 0.5:
        profile = profile * np.exp(random.uniform(0.1, 0.5) * smooth_path(random, grid.length))
    return profile


def trend(random: np.random.Generator, length: int) -> Array:
    """A damped local linear trend that moves by about 1 over the series. [length].

    The level is a random walk whose slope is an AR(1) (Harvey 1989; Gardner and McKenzie 1985).
    """
    kind = random.integers(4)
    if kind == 0:
        return np.zeros(length)
    if kind == 1:
        return random.standard_normal() * np.linspace(-1.0, 1.0, length)
    if kind == 2:
        return smooth_path(random, length, bends=int(random.integers(1, 8)))
    damping = 1 - 10 ** random.uniform(-2.5, -0.5)
    slope = autoregression(random, length, damping)
    path = np.cumsum(slope + random.uniform(0, 1) * random.standard_normal(length))
    return (path - float(path[0])) * (random.uniform(0.2, 1.5) / (float(path.std()) + 1e-9))


def components(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Trend + 0 to 3 seasons + noise, additive or multiplicative (Harvey 1989; TimesFM, app. A).

    Noise is an AR(1) with tails, its deviation constant or following the season. [length].
    """
    length = grid.length
    seasons = np.zeros(length)
    for weight in (1.0, random.uniform(0.2, 1.0), random.uniform(0.1, 0.6))[
        : random.choice(4, p=[0.08, 0.42, 0.35, 0.15])
    ]:
        seasons += weight * season(random, grid)
    size = 10 ** random.uniform(-1.6, 0.2)
    noise = size * heavy_tailed_noise(random, length)
    if random.random() < 0.4:
        noise = noise + size * autoregression(random, length, random.uniform(0.3, 0.97))
    if random.random() < 0.3:
        noise = noise * np.exp(random.uniform(0.2, 0.6) * seasons)
    movement = random.uniform(0.0, 3.0) * trend(random, length)
    if random.random() < 0.5:
        return movement + seasons + noise
    strength = random.uniform(0.05, 0.7)
    return np.exp(np.clip(strength * (movement + seasons + noise), -LARGEST_LOG, LARGEST_LOG))


def _roots_to_polynomial(random: np.random.Generator, order: int, largest: float) -> Array:
    """1 - a_1 z - ... of a stable filter: roots are real or conjugate pairs within `largest`."""
    polynomial = np.array([1.0])
    while len(polynomial) <= order:
        radius = largest * random.random() ** 0.3
        if order - len(polynomial) >= 1 and random.random() < 0.6:
            angle = random.uniform(0.02, np.pi * 0.8)
            factor = np.array([1.0, -2 * radius * np.cos(angle), radius**2])
        else:
            factor = np.array([1.0, -radius if random.random() < 0.8 else radius])
        polynomial = np.convolve(polynomial, factor)
    return polynomial


def stochastic_process(random: np.random.Generator, grid: TimeGrid) -> Array:
    """A random walk, exponential smoothing or seasonal ARIMA with heavy-tailed shocks. [length].

    Box and Jenkins (1970): AR and MA roots are drawn inside the unit circle; seasonal factors
    1 - a z^period; integrated 0, 1 or (rarely) 2 times, at the season or at lag 1. Simple
    exponential smoothing is ARIMA(0, 1, 1).
    """
    length = grid.length
    size = fast_length(2 * length)
    shocks = heavy_tailed_noise(random, size)
    kind = random.choice(4, p=[0.2, 0.15, 0.4, 0.25])
    if kind == 0:
        drift = random.standard_normal() * one_of(random, 0.0, 0.05)
        return np.cumsum(shocks[:length] + drift)
    if kind == 1:  # level[t] = level[t - 1] + alpha e[t], value = level[t - 1] + e[t]
        shocks = shocks[:length]
        return random.uniform(0.02, 0.7) * (np.cumsum(shocks) - shocks) + shocks
    moving = _roots_to_polynomial(random, int(random.integers(0, 3)), 0.9)
    own = _roots_to_polynomial(random, int(random.integers(1, 5)), 0.97)
    integrated = int(random.choice(3, p=[0.5, 0.45, 0.05])) if kind == 2 else 0
    if kind == 3:
        period = int(np.clip(round(draw_period(random, grid)), 2, length))
        seasonal = np.zeros(period + 1)
        seasonal[[0, period]] = 1.0, -random.uniform(0.5, 0.99)
        own = np.convolve(own, seasonal)
    path = filtered(shocks, moving, own, length)
    for _ in range(integrated):
        path = np.cumsum(path - path.mean() * random.integers(2))
    return path


def regimes(random: np.random.Generator, grid: TimeGrid) -> Array:
    """Level shifts, regimes of volatility, and volatility that clusters. [length].

    Log-volatility is an AR(1) (stochastic volatility, Taylor 1986: the pattern of GARCH without
    its recursion) plus a random value for each regime; a season may change with the regime; half
    of the clustered ones are accumulated, as returns into prices.
    """
    length = grid.length
    if random.random() < 0.4:
        spread = random.uniform(0.2, 1.2)
        volatility = np.exp(
            spread * autoregression(random, length, 1 - 10 ** random.uniform(-2.5, -0.7))
        )
        returns = volatility * heavy_tailed_noise(random, length)
        if random.random() < 0.5:
            return returns
        daily = 10 ** random.uniform(-2.5, -1.3)
        drift = random.normal(0, 0.02)
        logs = np.cumsum(daily * (returns + drift))
        return np.exp(np.clip(logs, -LARGEST_LOG, LARGEST_LOG))
    segment = change_points(random, length, one_of(random, 1.0, 3.0, 10.0))
    count = int(segment[-1]) + 1
    levels = random.standard_t(3.0, count) * random.uniform(0.3, 3.0)
    if random.random() < 0.4:
        levels = np.cumsum(levels)
    elif random.random() < 0.3:  # the system returns to a few states
        levels = random.standard_normal(3)[random.integers(0, 3, count)] * 2
    deviations = np.exp(random.normal(-1.0, random.uniform(0.1, 1.2), count))
    path = levels[segment] + deviations[segment] * heavy_tailed_noise(random, length)
    if random.random() < 0.6:
        amplitudes = np.abs(random.normal(1.0, one_of(random, 0.05, 0.6), count))
        path = path + amplitudes[segment] * season(random, grid, evolving=False)
    return path
