"""Student's t distribution."""

from __future__ import annotations

import math

import numpy as np

from laglite.heads.family import FINE_DRAWS, Arguments, Array, affine, standardise, to_data
from laglite.special import invert_cdf, log_gamma, normal_quantile, regularized_beta
from laglite.window import Window


class StudentT:
    """loc + scale * t(df)."""

    fine_draws = FINE_DRAWS

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """Polar form: sqrt(df (u^(-2/df) - 1)) cos(2 pi v) (Bailey 1994, Math. Comp. 62)."""
        df = np.asarray(arguments["df"], np.float64)
        radius = np.sqrt(df * np.expm1(np.log(uniforms[0]) * (-2.0 / df)))
        return affine(arguments, radius * np.cos(2 * math.pi * uniforms[1]))

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, log_scale = standardise(arguments, values, window)
        return _log_density(z, np.asarray(arguments["df"], np.float64)) - log_scale

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, _ = standardise(arguments, values, window)
        return _cdf(z, np.asarray(arguments["df"], np.float64))

    def quantile(self, arguments: Arguments, levels: Array, window: Window) -> Array:
        df, tails = np.broadcast_arrays(
            np.asarray(arguments["df"], np.float64), np.minimum(levels, 1 - levels)
        )
        # The lower tail, where the distribution function is accurate, mirrored.
        start = -_hill(2 * tails, df)
        lower = invert_cdf(
            lambda z: _cdf(z, df),
            lambda z: np.exp(_log_density(z, df)),
            tails,
            start=start,
            low=2 * start - 1,
            high=np.zeros_like(tails),
        )
        return to_data(affine(arguments, np.where(levels > 0.5, -lower, lower)), window)


def _cdf(z: Array, df: Array) -> Array:
    beyond = 0.5 * regularized_beta(df / 2, 0.5, df / (df + z * z))
    return np.where(z > 0, 1 - beyond, beyond)


def _log_density(z: Array, df: Array) -> Array:
    norm = log_gamma((df + 1) / 2) - log_gamma(df / 2) - 0.5 * np.log(df * math.pi)
    density: Array = norm - (df + 1) / 2 * np.log1p(z * z / df)
    return density


def _hill(both: Array, df: Array) -> Array:
    """About the value that is exceeded on either side with probability `both`, for df > 1.

    Hill 1970, Communications of the ACM 13, Algorithm 396.
    """
    a = 1 / (df - 0.5)
    b = 48 / (a * a)
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * np.sqrt(a * math.pi / 2) * df
    y = (d * both) ** (2 / df)
    series = (1 / (((df + 6) / (df * y) - 0.089 * d - 0.822) * (df + 2) * 3) + 0.5 / (df + 4)) * y
    far = (series - 1) * (df + 1) / (df + 2) + 1 / y
    x = normal_quantile(both / 2)
    c = np.where(df < 5, c + 0.3 * (df - 4.5) * (x + 0.6), c)
    c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
    square = x * x
    bend = ((((0.4 * square + 6.3) * square + 36) * square + 94.5) / c - square - 3) / b
    near = np.expm1(a * ((bend + 1) * x) ** 2)
    distance: Array = np.sqrt(df * np.where(y > 0.05 + a, near, far))
    return distance
