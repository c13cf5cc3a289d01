"""Special functions of the heads' distributions, in NumPy alone (the runtime carries no scipy)."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Number = TypeVar("Number", float, NDArray[np.float64])

_lgamma = np.frompyfunc(math.lgamma, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)
_inverse_normal = np.frompyfunc(NormalDist().inv_cdf, 1, 1)
_TINY = 1e-300
EPSILON = float(np.finfo(np.float64).eps)
FEW = 16  # numbers that Python computes faster than NumPy
MOST_HALVINGS = 200


def log_gamma(x: ArrayLike) -> Array:
    """Log |Gamma(x)|, elementwise."""
    return np.asarray(_lgamma(np.asarray(x, np.float64)), np.float64)


def log_beta(a: ArrayLike, b: ArrayLike) -> Array:
    """Log of the beta function, for a, b > 0, elementwise.

    Where the larger argument is large, Stirling's series for the ratio of its two gamma functions
    (DLMF 5.11.1): their logarithms would cancel to nothing.
    """
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    small, large = np.minimum(a, b), np.maximum(a, b)
    ratio = (
        small * (1 - np.log(large))
        - (small + large - 0.5) * np.log1p(small / large)
        + _stirling(large)
        - _stirling(small + large)
    )
    plain = log_gamma(large) - log_gamma(small + large)
    result: Array = log_gamma(small) + np.where(large > 100, ratio, plain)
    return result


def _stirling(x: Array) -> Array:
    """What Stirling's formula leaves of log Gamma(x), for large x."""
    return (1 / 12 - (1 / 360 - 1 / (1260 * x * x)) / (x * x)) / x


def normal_cdf(z: ArrayLike) -> Array:
    """Standard normal distribution function, accurate in both tails."""
    scaled = np.asarray(z, np.float64) / -math.sqrt(2.0)
    return 0.5 * np.asarray(_erfc(scaled), np.float64)


def normal_quantile(levels: ArrayLike) -> Array:
    """Inverse of the standard normal distribution function, for levels in (0, 1)."""
    return np.asarray(_inverse_normal(np.asarray(levels, np.float64)), np.float64)


def invert_cdf(
    cdf: Callable[[Array], Array],
    density: Callable[[Array], Array],
    levels: Array,
    *,
    start: Array,
    low: Array,
    high: Array,
) -> Array:
    """The values in [low, high] whose `cdf` is `levels`: all [...], elementwise.

    Newton's steps from `start`, halving where they would leave what is known to hold the root.
    """
    values = start
    for _ in range(MOST_HALVINGS):
        above = cdf(values) - levels
        low, high = np.where(above <= 0, values, low), np.where(above >= 0, values, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = values - above / density(values)
        inside = (steps >= low) & (steps <= high)
        following = np.where(inside, steps, (low + high) / 2)
        # A step as small as this leaves an error of its square.
        small = np.abs(following - values) <= 1e-7 * np.abs(following)
        values = following
        if (small | (np.abs(above) <= 1e-14 * levels)).all():
            break
    return values


def regularized_beta(a: ArrayLike, b: ArrayLike, x: ArrayLike) -> Array:
    """I_x(a, b), the regularised incomplete beta function, for a, b > 0 and 0 <= x <= 1.

    Continued fraction of DLMF 8.17.22 by Lentz' method, on the side where it converges fast.
    """
    a, b, x = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (a, b, x)))
    swap = x > (a + 1) / (a + b + 2)
    p, q, y = np.where(swap, b, a), np.where(swap, a, b), np.where(swap, 1 - x, x)
    with np.errstate(divide="ignore"):
        log_front = p * np.log(y) + q * np.log1p(-y)
    front = np.exp(log_front - log_beta(p, q)) / p
    gone = front == 0  # far out in the tail, where the fraction would take for ever
    if gone.any():
        p, q, y = np.where(gone, 1.0, p), np.where(gone, 1.0, q), np.where(gone, 0.0, y)
    if y.size <= FEW:
        each = map(_beta_fraction, p.ravel().tolist(), q.ravel().tolist(), y.ravel().tolist())
        fraction = np.array(list(each)).reshape(y.shape)
    else:
        fraction = _beta_fraction(p, q, y)
    tail = front * fraction
    result: Array = np.clip(np.where(swap, 1 - tail, tail), 0.0, 1.0)
    return result


def _beta_fraction(a: Number, b: Number, x: Number) -> Number:
    """For arrays, or a Python number each, which takes a tenth of the time for a few of them."""
    c = 1.0 + 0.0 * x  # ones in the shape of x
    d = 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    # Near 1 the fraction is known no better than 1 - x is.
    known = 1e-14 + 0.25 * EPSILON / _at_least(1.0 - x, 1e-12)
    # The number of terms grows with the root of the larger argument.
    for m in range(1, 200 + int(10 * math.sqrt(max(_largest(a), _largest(b), 1.0)))):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / _away_from_zero(1.0 + even * d)
        c = _away_from_zero(1.0 + even / c)
        change = c * d
        d = 1.0 / _away_from_zero(1.0 + odd * d)
        c = _away_from_zero(1.0 + odd / c)
        change = change * (c * d)
        value = value * change
        if _largest(abs(change - 1.0) / known) < 1.0:
            return value
    raise ArithmeticError("the incomplete beta function did not converge")


def _away_from_zero(x: Number) -> Number:
    if isinstance(x, float):
        return x if abs(x) >= _TINY else _TINY
    return np.where(np.abs(x) < _TINY, _TINY, x)


def _at_least(x: Number, least: float) -> Number:
    return max(x, least) if isinstance(x, float) else np.maximum(x, least)


def _largest(x: Number) -> float:
    return x if isinstance(x, float) else float(x.max())
