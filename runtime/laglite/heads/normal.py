"""The normal distribution."""

from __future__ import annotations

import math

import numpy as np

from laglite.heads.family import FINE_DRAWS, Arguments, Array, affine, standardise, to_data
from laglite.special import normal_cdf, normal_quantile
from laglite.window import Window


class Normal:
    """loc + scale * normal."""

    fine_draws = FINE_DRAWS

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """Box-Muller: sqrt(-2 log u) cos(2 pi v)."""
        radius = np.sqrt(-2 * np.log(uniforms[0]))
        return affine(arguments, radius * np.cos(2 * math.pi * uniforms[1]))

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, log_scale = standardise(arguments, values, window)
        return -0.5 * (z * z + math.log(2 * math.pi)) - log_scale

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        return normal_cdf(standardise(arguments, values, window)[0])

    def quantile(self, arguments: Arguments, levels: Array, window: Window) -> Array:
        return to_data(affine(arguments, normal_quantile(levels)), window)
