"""Building blocks of the simulators: noise, filtered noise, slow paths, seasonal profiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fast_length(length: int) -> int:
    """The smallest 2^k, 3 * 2^k or 5 * 2^k not below `length`: sizes with a quick FFT."""
    return min(factor << max(0, (-(-length // factor) - 1).bit_length()) for factor in (1, 3, 5))


def one_of(random: np.random.Generator, *options: float) -> float:
    """One of the numbers, at even odds."""
    return options[int(random.integers(len(options)))]


def heavy_tailed_noise(random: np.random.Generator, length: int) -> Array:
    """White noise of unit scale, normal or (two in five) Student-t of 3 to 10 degrees."""
    if random.random() < 0.6:
        return random.standard_normal(length)
    df = random.uniform(3.0, 10.0)
    noise: Array = random.standard_t(df, length) * np.sqrt((df - 2) / df)
    return noise


def filtered(noise: Array, numerator: Array, denominator: Array, length: int) -> Array:
    """The last `length` values of `noise` through the filter numerator(z) / denominator(z).

    The filter runs on the circle of `len(noise)` values, by FFT, which is the stationary process
    itself as long as its memory is shorter than the circle (no burn-in is needed). Both
    polynomials are in powers of the lag, lowest first.
    """
    size = len(noise)
    response = np.fft.rfft(numerator, size) / np.fft.rfft(denominator, size)
    return np.fft.irfft(np.fft.rfft(noise) * response, size)[-length:]


def autoregression(random: np.random.Generator, length: int, coefficient: float) -> Array:
    """A stationary AR(1) path of about unit variance. [length].

    The coefficient is lowered where it would not forget within a third of the series.
    """
    noise = random.standard_normal(fast_length(length + 64))
    one = np.array([1.0])
    coefficient = min(coefficient, float(np.exp(-3 / len(noise))))
    deviation = float(np.sqrt(1 - coefficient**2))
    return deviation * filtered(noise, one, np.array([1.0, -coefficient]), length)


def smooth_path(random: np.random.Generator, length: int, bends: int = 4) -> Array:
    """A slow path of about unit variance: random cosines with amplitudes falling as 1/k. [length].

    Half-cycles, so that the ends need not agree.
    """
    order = np.arange(1.0, bends + 1)
    amplitudes = random.standard_normal(bends) / order * np.sqrt(2 / (1.0 / order**2).sum())
    turn = np.exp(1j * np.pi / max(1, length - 1) * np.arange(length))
    path, power = np.zeros(length), turn
    for amplitude in amplitudes:
        path += amplitude * power.real
        power = power * turn
    return path


def harmonic_profile(
    random: np.random.Generator, cycles: Array, harmonics: int, decay: float
) -> Array:
    """A random periodic function of `cycles` (1 is a full turn), of unit expected variance.

    Its k-th harmonic has an amplitude in proportion to k ** -decay. [length of cycles].
    """
    order = np.arange(1.0, harmonics + 1)
    deviations = order**-decay
    deviations /= np.sqrt((deviations**2).sum())
    weights = (random.standard_normal(harmonics) + 1j * random.standard_normal(harmonics)) * (
        deviations
    )
    turn = np.exp(2j * np.pi * cycles)
    path, power = np.zeros(len(cycles)), turn
    for weight in weights:
        path += (weight * power).real
        power = power * turn
    return path


def table_profile(random: np.random.Generator, positions: Array, period: int) -> Array:
    """A random value for each of `period` positions, repeated: sharp shapes, as weekdays have.

    `positions` are step numbers [length]; unit expected variance.
    """
    table = random.standard_normal(period)
    if random.random() < 0.5:  # a few unusual positions against an even rest
        table *= random.random(period) < 0.4
        table *= 1.5
    return table[(positions % period).astype(np.int64)]


def change_points(random: np.random.Generator, length: int, mean_count: float) -> NDArray[np.int64]:
    """The number of the segment each step lies in, from 0, breaks being uniform. int64 [length]."""
    breaks = np.sort(random.integers(0, length, random.poisson(mean_count)))
    return np.searchsorted(breaks, np.arange(length), side="right")
