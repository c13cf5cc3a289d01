"""A rational-quadratic spline flow over the logistic distribution (Durkan et al. 2019).

A value is loc + scale * S(x) with x logistic, so one uniform draws it: x = log(u / (1 - u)). S is
the identity outside [-BOUND, BOUND] and rises monotonically inside, over bins with the given
widths (of x) and heights (of S), with given slopes where they meet and slope 1 at both ends.

In a bin of mean slope s = height / width, with slopes d0 and d1 at its ends, place q = (x - left) /
width and level t = (S - bottom) / height are bound by (their eqs. 4 and 6)

    t = (s q^2 + d0 q (1 - q)) / (s + (d0 + d1 - 2 s) q (1 - q)),
    a q^2 + b q - s t = 0,  b = d0 (1 - t) - d1 t + 2 s t,  a = s - b,

and dS/dx = s sqrt(D) / (s + (d0 + d1 - 2 s) q (1 - q)) with D = b^2 + 4 a s t the discriminant:
the derivative of the quadratic by q over its derivative by t. Where a < 0, D is taken from the
mirrored bin, D = b'^2 - 4 a s (1 - t) with b' = 2 s - b: then all its terms are positive.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from laglite.heads.family import Arguments, Array, affine, numbered, standardise
from laglite.window import Window

BOUND = 5.0
_ALMOST_ONE = 1 - 2.0**-53  # the mirror image of the smallest uniform


class Spline:
    """loc + scale * S(x), x logistic."""

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """Closed form from the first uniform."""
        u = np.minimum(uniforms[0], _ALMOST_ONE)
        return affine(arguments, forward(arguments, np.log(u) - np.log1p(-u)))

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, log_scale = standardise(arguments, values, window)
        x, log_slope = inverse(arguments, z)
        log_base = -np.abs(x) - 2 * np.log1p(np.exp(-np.abs(x)))
        return log_base - log_slope - log_scale

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, _ = standardise(arguments, values, window)
        x, _ = inverse(arguments, z)
        return np.exp(-np.logaddexp(0.0, -x))


class Bin(NamedTuple):
    """The bin that each value falls in: its right upper corner, size and slopes, all [...]."""

    right: Array
    top: Array
    width: Array
    height: Array
    first: Array
    last: Array


def forward(arguments: Arguments, x: Array) -> Array:
    """S(x), elementwise."""
    at = _find(arguments, x, "width")
    mean = at.height / at.width
    q = 1 - np.clip((at.right - x) / at.width, 0, 1)
    rest = 1 - q
    bend = mean * (1 - 2 * q * rest) + (at.first + at.last) * q * rest
    # Down from the top: 1 - t is t with place and slopes mirrored.
    inside = at.top - at.height * rest * (mean * rest + at.last * q) / bend
    return np.where(np.abs(x) >= BOUND, x, inside)


def inverse(arguments: Arguments, y: Array) -> tuple[Array, Array]:
    """The x with S(x) = y, and log dS/dx there, elementwise."""
    at = _find(arguments, y, "height")
    mean = at.height / at.width
    rest = np.clip((at.top - y) / at.height, 0, 1)
    t = 1 - rest
    b = at.first * rest - at.last * t + 2 * mean * t
    mirrored = at.last * t - at.first * rest + 2 * mean * rest
    a = mean - b
    discriminant = np.where(a >= 0, b * b + 4 * a * mean * t, mirrored**2 - 4 * a * mean * rest)
    root = np.sqrt(discriminant)
    size = np.abs(b) + root
    # The root without a difference of close numbers, whichever sign b has; a > 0 where b < 0.
    q = np.where(b >= 0, 2 * mean * t / size, size / (2 * np.where(b >= 0, 1.0, a)))
    q = np.clip(q, 0, 1)
    bend = mean * (1 - 2 * q * (1 - q)) + (at.first + at.last) * q * (1 - q)
    outside = np.abs(y) >= BOUND
    x = np.where(outside, y, at.right - at.width * (1 - q))
    return x, np.where(outside, 0.0, np.log(mean) + np.log(root) - np.log(bend))


def _find(arguments: Arguments, values: Array, axis: str) -> Bin:
    """The bin of each value, looked up by "width" (values are x) or by "height" (S)."""
    sizes = {kind: numbered(arguments, kind) for kind in ("width", "height")}
    ends = {}
    for kind, size in sizes.items():
        # A running sum, since NumPy rounds a plain one by the number of paths beside it; the
        # network's float32 sizes add up to the span only nearly.
        running = np.cumsum(size, axis=0)
        stretch = 2 * BOUND / running[-1]
        sizes[kind], ends[kind] = size * stretch, running * stretch - BOUND
    slopes = numbered(arguments, "slope")
    edge = np.ones((1, *slopes.shape[1:]))
    slopes = np.concatenate([edge, slopes, edge])
    number = (values > ends[axis][:-1]).sum(axis=0)

    def of_bin(stacked: Array) -> Array:
        stacked = np.broadcast_to(stacked, (len(stacked), *number.shape))
        return np.take_along_axis(stacked, number[None], axis=0)[0]

    return Bin(
        of_bin(ends["width"]),
        of_bin(ends["height"]),
        of_bin(sizes["width"]),
        of_bin(sizes["height"]),
        of_bin(slopes[:-1]),
        of_bin(slopes[1:]),
    )
