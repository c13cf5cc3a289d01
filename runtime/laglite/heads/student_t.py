"""Student's t distribution."""

from __future__ import annotations

import math

import numpy as np

from laglite.heads.family import FINE_DRAWS, Arguments, Array, affine, standardise
from laglite.special import log_gamma, regularized_beta
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
        df = np.asarray(arguments["df"], np.float64)
        norm = log_gamma((df + 1) / 2) - log_gamma(df / 2) - 0.5 * np.log(df * math.pi)
        return norm - (df + 1) / 2 * np.log1p(z * z / df) - log_scale

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, _ = standardise(arguments, values, window)
        df = np.asarray(arguments["df"], np.float64)
        beyond = 0.5 * regularized_beta(df / 2, 0.5, df / (df + z * z))
        return np.where(z > 0, 1 - beyond, beyond)
