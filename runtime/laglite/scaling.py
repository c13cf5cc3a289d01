"""Scaling: loc and scale of a window, computed from its observed values and then frozen.

`robust`, `mean`, `std` and `none` are the published Lag-Llama's rules, in float32 as there, so
that imported models see the very numbers they were trained on. `iqr` is laglite's own, in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMALLEST_SCALE = 1e-10  # of the published robust and mean rules
STD_VARIANCE_FLOOR = 1e-5  # of the published std rule
SMALLEST_VALUE = float(np.finfo(np.float32).tiny)  # what `iqr` tells from 0, as samples do
CONSTANT_SCALE = 0.01  # of `iqr` for a constant series, as a share of its level


def fit_scale(values: NDArray[np.floating], rule: str) -> tuple[float, float]:
    """Loc and scale of one window by `rule`.

    `values` [count] are the observed values only, at least one of them. Returns Python floats.
    """
    if rule == "none":
        return 0.0, 1.0
    if rule == "iqr":
        return _fit_iqr(values.astype(np.float64))
    single = values.astype(np.float32)
    if rule == "robust":
        ordered = np.sort(single)
        loc = ordered[(len(ordered) - 1) // 2]  # the lower of two middle values
        scale = _quartile(ordered, 0.75) - _quartile(ordered, 0.25)
        return float(loc), max(float(scale), SMALLEST_SCALE)
    # Sums in float64: closer to any float32 order of summation than another one would be.
    double = single.astype(np.float64)
    if rule == "mean":
        return 0.0, max(float(np.abs(double).mean()), SMALLEST_SCALE)
    if rule == "std":
        return float(double.mean()), float(np.sqrt(double.var() + STD_VARIANCE_FLOOR))
    raise ValueError(f"unknown scaling rule {rule!r}")


def _quartile(ordered: NDArray[np.float32], probability: float) -> np.float32:
    """Linear interpolation in float32, in the order of operations of torch.nanquantile."""
    rank = np.float32(probability) * np.float32(len(ordered) - 1)
    below = int(rank)
    weight = rank - np.float32(below)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    if weight < 0.5:
        between = low + weight * (high - low)
    else:
        between = high - (high - low) * (np.float32(1) - weight)
    quartile: np.float32 = np.float32(between)
    return quartile


def _fit_iqr(values: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and the interquartile range or a quarter of the 5-95 % range if that is larger.

    The wider range keeps spiky series (mostly flat, sometimes far away) within sane numbers, which
    a single outlier cannot do to an ordinary one. Where both are 0, intermittent series take the
    standard deviation, and constant ones a small share of their level, so that the features stay
    finite and the forecast stays close to the constant.
    """
    q05, q25, loc, q75, q95 = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
    rounding = max(1e-9 * float(np.abs(values).max()), SMALLEST_VALUE)
    for scale in (max(q75 - q25, (q95 - q05) / 4), float(values.std())):
        if scale > rounding:
            return loc, scale
    return loc, CONSTANT_SCALE * (abs(loc) if abs(loc) > SMALLEST_VALUE else 1.0)
