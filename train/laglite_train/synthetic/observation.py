"""How a latent path becomes a record: transform, scale, rounding, outliers, stuck and missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMALLEST_SCALE, LARGEST_SCALE = -3.0, 6.0  # powers of ten


def positive_transform(random: np.random.Generator, path: Array) -> Array:
    """A signed path made non-negative: exp, soft-plus, cut at a quantile, square, or logistic."""
    unit: Array = (path - path.mean()) / (path.std() + 1e-9)
    kind = random.integers(5)
    if kind == 0:
        return np.exp(np.clip(random.uniform(0.2, 1.0) * unit, -6, 6))
    if kind == 1:
        return np.logaddexp(0.0, 2 * unit)
    if kind == 2:
        return np.maximum(unit - np.quantile(unit, random.uniform(0.0, 0.4)), 0.0)
    if kind == 3:
        return (unit + random.uniform(0.0, 3.0)) ** 2
    return 1 / (1 + np.exp(-random.uniform(0.5, 3.0) * unit))


def affine(random: np.random.Generator, path: Array, offset_share: float) -> Array:
    """Any unit of measurement: a scale over nine magnitudes, and an offset in a share of them."""
    if random.random() < offset_share:
        path = path + float(path.std()) * random.standard_normal() * 10 ** random.uniform(-1, 2)
    return path * 10 ** random.uniform(SMALLEST_SCALE, LARGEST_SCALE)


def rounded(random: np.random.Generator, path: Array) -> Array:
    """Values on a grid: 5 to 500 levels within the middle of the range."""
    low, high = np.quantile(path, [0.02, 0.98])
    step = float(high - low) / np.exp(random.uniform(np.log(5), np.log(500)))
    return step * np.round(path / step) if step > 0 else path


def with_outliers(random: np.random.Generator, path: Array) -> Array:
    """Up to one value in fifty moved away by several deviations, to one side or both."""
    hit = np.flatnonzero(random.random(len(path)) < 10 ** random.uniform(-3, -1.7))
    sides = random.choice([-1.0, 1.0], len(hit)) if random.random() < 0.5 else np.ones(len(hit))
    moved: Array = path.copy()
    moved[hit] += sides * path.std() * random.uniform(3, 10) * random.random(len(hit))
    return moved


def with_stuck_stretch(random: np.random.Generator, path: Array) -> Array:
    """One stretch, up to a third, repeats its first value or zero: a stuck sensor or a closure."""
    first, last = _stretch(random, len(path))
    held: Array = path.copy()
    held[first:last] = path[first] if random.random() < 0.5 else 0.0
    return held


def with_missing(random: np.random.Generator, path: Array) -> Array:
    """NaN: single values at random, or one to three stretches; never all of them."""
    missing = np.zeros(len(path), np.bool_)
    if random.random() < 0.5:
        missing |= random.random(len(path)) < 10 ** random.uniform(-2.5, -0.7)
    else:
        for _ in range(int(random.integers(1, 4))):
            first, last = _stretch(random, len(path), largest=0.15)
            missing[first:last] = True
    missing[random.integers(len(path))] = False
    return np.where(missing, np.nan, path)


def _stretch(random: np.random.Generator, length: int, largest: float = 0.33) -> tuple[int, int]:
    size = int(np.exp(random.uniform(0.0, np.log(max(2.0, largest * length)))))
    first = int(random.integers(max(1, length - size)))
    return first, first + size
