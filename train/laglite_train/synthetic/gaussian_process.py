"""Gaussian processes of composed kernels, as KernelSynth of Chronos (arXiv 2403.07815, app. A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laglite_train.synthetic.stochastic_paths import fast_length
from laglite_train.synthetic.time_grid import TimeGrid, draw_period

Array = NDArray[np.float64]

MOST_KERNELS = 5
LONGEST_LINEAR = 2
# Every seasonal shape and level drifts: kernels are multiplied by exp(-(lag / DRIFT)^2 / 2), the
# lag in lengths of the series, so that covariances vanish at MARGIN and wrap around there.
DRIFT, MARGIN = 1.25, 4.0


@dataclass(frozen=True)
class Kernel:
    """A covariance k(s, t) = sum over m of (s t)^m * terms[m](|s - t|), s and t from 0 to 1.

    `terms[m]` holds a stationary covariance at the lags 0, 1, ... steps, [lags]. Sums and products
    of stationary and linear kernels stay in this family, which can be sampled exactly by FFT.
    """

    terms: tuple[Array, ...]

    def __add__(self, other: Kernel) -> Kernel:
        longer, shorter = sorted((self.terms, other.terms), key=len, reverse=True)
        added = [a + b for a, b in zip(longer, shorter, strict=False)]
        return Kernel((*added, *longer[len(shorter) :]))

    def __mul__(self, other: Kernel) -> Kernel:
        size = len(self.terms) + len(other.terms) - 1
        terms = [np.zeros_like(self.terms[0]) for _ in range(size)]
        for i, a in enumerate(self.terms):
            for j, b in enumerate(other.terms):
                terms[i + j] += a * b
        return Kernel(tuple(terms))


def periodic(lags: Array, period: float, roughness: float) -> Kernel:
    """MacKay's exp-sine-squared kernel: exp(-2 sin(pi lag / period)^2 / roughness^2)."""
    return Kernel((np.exp((np.cos(lags * (2 * np.pi / period)) - 1) / roughness**2),))


def squared_exponential(lags: Array, width: float) -> Kernel:
    """exp(-(lag / width)^2 / 2), lag and width in steps."""
    return Kernel((np.exp(-0.5 * (lags / width) ** 2),))


def rational_quadratic(lags: Array, width: float, alpha: float) -> Kernel:
    """(1 + (lag / width)^2 / (2 alpha)) ** -alpha."""
    return Kernel(((1 + (lags / width) ** 2 / (2 * alpha)) ** -alpha,))


def white(lags: Array, variance: float) -> Kernel:
    """Independent noise."""
    covariance = np.zeros(len(lags))
    covariance[0] = variance
    return Kernel((covariance,))


def constant(lags: Array, variance: float) -> Kernel:
    """A random level."""
    return Kernel((np.full(len(lags), variance),))


def linear(lags: Array, offset: float) -> Kernel:
    """offset^2 + s t: a random line; s and t run from 0 to 1 over the series."""
    return Kernel((np.full(len(lags), offset**2), np.ones(len(lags))))


def drifting(kernel: Kernel, lags: Array, length: int) -> Kernel:
    """`kernel` with the wide factor that makes every part of it forget, see DRIFT."""
    return kernel * squared_exponential(lags, DRIFT * length)


def embedding_lags(length: int) -> Array:
    """The lags at which a kernel must be given so that `sample_path` can draw `length` steps."""
    return np.arange(fast_length(int(MARGIN * length)) + 1, dtype=np.float64)


def sample_path(random: np.random.Generator, kernel: Kernel, length: int) -> Array:
    """A path of the zero-mean process of `kernel`, [length], at the cost of an FFT for each term.

    Circulant embedding (Dietrich and Newsam 1997): the covariance on a circle of twice the lags
    is diagonal in Fourier space. Exact up to the covariance left at the longest lag.
    """
    path = np.zeros(length)
    position = np.linspace(0.0, 1.0, length)
    scale = np.ones(length)
    for term in kernel.terms:
        circle = 2 * (len(term) - 1)
        # The transform of an even sequence is real; rounding may leave tiny negative numbers.
        spectrum = np.fft.irfft(term, circle)[: len(term)] * circle
        deviations = np.sqrt(np.maximum(spectrum, 0.0) * (circle / 2))
        draws = random.standard_normal((2, len(term)))
        weights = (draws[0] + 1j * draws[1]) * deviations
        weights[[0, -1]] = draws[0, [0, -1]] * deviations[[0, -1]] * np.sqrt(2)
        path += scale * np.fft.irfft(weights, circle)[:length]
        scale = scale * position
    return path


def draw_kernel(random: np.random.Generator, grid: TimeGrid, lags: Array) -> Kernel:
    """1 to 5 kernels of the bank joined from the left by + or *, at random.

    The bank is KernelSynth's with the natural periods of the grid's frequency for its list of
    periods; widths are log-uniform instead of 0.1, 1 and 10 lengths of the series. White noise is
    only added, and there are at most two linear factors, so that trends stay below cubic.
    """
    bank: list[Callable[[], Kernel]] = [
        lambda: periodic(lags, draw_period(random, grid), np.exp(random.uniform(-1.2, 0.7))),
        lambda: squared_exponential(lags, grid.length * 10 ** random.uniform(-1.7, 0.3)),
        lambda: rational_quadratic(
            lags, grid.length * 10 ** random.uniform(-1.7, 0.3), 10 ** random.uniform(-1, 1)
        ),
        lambda: white(lags, 10 ** random.uniform(-2.5, -0.3)),
        lambda: linear(lags, 10 ** random.uniform(-1, 0.5)),
        lambda: constant(lags, 10 ** random.uniform(-1, 0.5)),
    ]
    shares = np.array([0.45, 0.15, 0.12, 0.13, 0.1, 0.05])
    chosen = random.choice(len(bank), size=int(random.integers(1, MOST_KERNELS + 1)), p=shares)
    kernel: Kernel = bank[chosen[0]]()
    for index in chosen[1:]:
        other = bank[index]()
        product = random.random() < 0.5 and index != 3
        if product and len(kernel.terms) + len(other.terms) - 2 <= LONGEST_LINEAR:
            kernel = kernel * other
        else:
            kernel = kernel + other
    return kernel


def gaussian_process(random: np.random.Generator, grid: TimeGrid) -> Array:
    """A path of a random kernel composition, with a little noise. [length]."""
    lags = embedding_lags(grid.length)
    kernel = draw_kernel(random, grid, lags)
    path = sample_path(random, drifting(kernel, lags, grid.length), grid.length)
    noise = 10 ** random.uniform(-2.5, -0.7) * float(path.std())
    return path + noise * random.standard_normal(grid.length)
