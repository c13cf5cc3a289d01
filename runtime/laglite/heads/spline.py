"""A rational-quadratic spline flow over the logistic distribution (Durkan et al. 2019).

A value is loc + scale * S(x) with x logistic, so one uniform draws it: x = log(u / (1 - u)). S
rises monotonically over bins with given widths (of x) and heights (of S) that fill the square from
-BOUND to BOUND. With s = height / width a bin's mean slope, the slope of S where two bins meet is
the given slope times the harmonic mean of both s (Fritsch & Butland 1984), and s at both ends: no
bin is left much more steeply than it rises, which would squeeze its middle to a spike of density.
Outside the square the tails are generalised Pareto's, as heavy as Student's t with 1 / TAIL degrees
of freedom, so that the loss of an outlier grows as the log of its distance.

In a bin with slopes d0 and d1 at its ends, r0 = d0 / s and r1 = d1 / s, the place q = (x - left) /
width and the level t = (S - bottom) / height are bound by (their eqs. 4 and 6, divided by s)

    t = (q^2 + r0 q (1 - q)) / (1 + (r0 + r1 - 2) q (1 - q)),
    a q^2 + b q - t = 0,  b = r0 (1 - t) + (2 - r1) t,  a = 1 - b,

and dS/dx = s sqrt(D) / (1 + (r0 + r1 - 2) q (1 - q)) with D = b^2 + 4 a t the discriminant: the
derivative of the quadratic by q over its derivative by t. Where a < 0, D is taken from the mirrored
bin, D = b'^2 - 4 a (1 - t) with b' = 2 - b: then no close numbers are subtracted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from laglite.heads.family import (
    FINE_DRAWS,
    Arguments,
    Array,
    affine,
    choose,
    numbered,
    standardise,
    to_data,
)
from laglite.window import Window

BOUND = 5.0
TAIL = 0.25
_ALMOST_ONE = 1 - 2.0**-53  # the mirror image of the smallest uniform


class Spline:
    """loc + scale * S(x), x logistic."""

    fine_draws = FINE_DRAWS

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """Closed form from the first uniform."""
        u = np.minimum(uniforms[0], _ALMOST_ONE)
        return affine(arguments, forward(arguments, np.log(u) - np.log1p(-u)))

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, log_scale = standardise(arguments, values, window)
        x, log_slope = inverse(arguments, z)
        log_base = -np.abs(x) - 2 * np.log1p(np.exp(-np.abs(x)))
        log_density: Array = log_base - log_slope - log_scale
        return log_density

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, _ = standardise(arguments, values, window)
        x, _ = inverse(arguments, z)
        below: Array = np.exp(-np.logaddexp(0.0, -x))  # accurate in both tails
        return below

    def quantile(self, arguments: Arguments, levels: Array, window: Window) -> Array:
        x = np.log(levels) - np.log1p(-levels)
        return to_data(affine(arguments, forward(arguments, x)), window)


class Bin(NamedTuple):
    """Where each value falls: the bin's upper right corner, size and end slopes over s, [...]."""

    right: Array
    top: Array
    width: Array
    height: Array
    first: Array
    last: Array


def forward(arguments: Arguments, x: Array) -> Array:
    """S(x), elementwise."""
    at = _find(arguments, x, "width")
    rest = np.clip((at.right - x) / at.width, 0, 1)
    q = 1 - rest
    # 1 - t, which is t of the mirrored bin, goes down from the top.
    inside = at.top - at.height * rest * (rest + at.last * q) / _bend(at, q)
    tail = BOUND + np.expm1(TAIL * np.maximum(np.abs(x) - BOUND, 0)) / TAIL
    return np.where(np.abs(x) < BOUND, inside, np.copysign(tail, x))


def inverse(arguments: Arguments, y: Array) -> tuple[Array, Array]:
    """The x with S(x) = y, and log dS/dx there, elementwise."""
    at = _find(arguments, y, "height")
    rest = np.clip((at.top - y) / at.height, 0, 1)
    t = 1 - rest
    b = at.first * rest + (2 - at.last) * t
    mirrored = at.last * t + (2 - at.first) * rest
    a = 1 - b
    root = np.sqrt(np.where(a >= 0, b * b + 4 * a * t, mirrored * mirrored - 4 * a * rest))
    q = np.minimum(2 * t / (b + root), 1)
    log_slope = np.log(at.height / at.width) + np.log(root) - np.log(_bend(at, q))
    log_growth = np.log1p(TAIL * np.maximum(np.abs(y) - BOUND, 0))
    inside = np.abs(y) < BOUND
    x = np.where(inside, at.right - at.width * (1 - q), np.copysign(BOUND + log_growth / TAIL, y))
    return x, np.where(inside, log_slope, log_growth)


def _bend(at: Bin, q: Array) -> Array:
    """1 + (r0 + r1 - 2) q (1 - q)."""
    product = q * (1 - q)
    return 1 - 2 * product + (at.first + at.last) * product


def _find(arguments: Arguments, values: Array, axis: str) -> Bin:
    """The bin of each value, looked up by "width" (values are x) or by "height" (S)."""
    sizes, ends = {}, {}
    for kind in ("width", "height"):
        size = numbered(arguments, kind)
        # A running sum, since NumPy rounds a plain one by the number of paths beside it; the
        # network's float32 sizes add up to the span only nearly.
        running = np.cumsum(size, axis=0)
        stretch = 2 * BOUND / running[-1]
        sizes[kind], ends[kind] = size * stretch, running * stretch - BOUND
    means = sizes["height"] / sizes["width"]
    slopes = numbered(arguments, "slope")
    beside = means[:-1] + means[1:]
    edge = np.ones_like(means[:1])
    first = np.concatenate([edge, 2 * slopes * means[:-1] / beside])
    last = np.concatenate([2 * slopes * means[1:] / beside, edge])
    number = (values > ends[axis][:-1]).sum(axis=0)
    each = (ends["width"], ends["height"], sizes["width"], sizes["height"], first, last)
    return Bin(*(choose(stacked, number) for stacked in each))
