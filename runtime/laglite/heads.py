"""Heads: the distribution of the next value, from the arguments the network gives.

Arguments arrive in scaled units after the domain map (df > 2, scale > 0, ...), named as in
`spec.HEAD_ARGUMENTS`; values go in and out in data units unless said otherwise. Randomness enters
as uniforms, transformed in closed form, so that every backend draws the same values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from laglite.special import log_gamma, normal_cdf, regularized_beta
from laglite.window import Window

Array = NDArray[np.float64]
Arguments = Mapping[str, NDArray[np.floating]]


class Head(Protocol):
    """A distribution family; arrays broadcast over any shape, uniforms are [2, ...]."""

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """One draw for each pair of uniforms in (0, 1], in scaled units."""

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        """Log density (mass, for counts) of `values` in data units."""

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        """Probability of a value at most `values`."""


class StudentT:
    """loc + scale * t(df)."""

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """Polar form: sqrt(df (u^(-2/df) - 1)) cos(2 pi v) (Bailey 1994, Math. Comp. 62)."""
        df = np.asarray(arguments["df"], np.float64)
        radius = np.sqrt(df * np.expm1(np.log(uniforms[0]) * (-2.0 / df)))
        return _affine(arguments, radius * np.cos(2 * math.pi * uniforms[1]))

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, log_scale = _standardise(arguments, values, window)
        df = np.asarray(arguments["df"], np.float64)
        norm = log_gamma((df + 1) / 2) - log_gamma(df / 2) - 0.5 * np.log(df * math.pi)
        return norm - (df + 1) / 2 * np.log1p(z * z / df) - log_scale

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, _ = _standardise(arguments, values, window)
        df = np.asarray(arguments["df"], np.float64)
        beyond = 0.5 * regularized_beta(df / 2, 0.5, df / (df + z * z))
        return np.where(z > 0, 1 - beyond, beyond)


class Normal:
    """loc + scale * normal."""

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """Box-Muller: sqrt(-2 log u) cos(2 pi v)."""
        radius = np.sqrt(-2 * np.log(uniforms[0]))
        return _affine(arguments, radius * np.cos(2 * math.pi * uniforms[1]))

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        z, log_scale = _standardise(arguments, values, window)
        return -0.5 * (z * z + math.log(2 * math.pi)) - log_scale

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        return normal_cdf(_standardise(arguments, values, window)[0])


class NegativeBinomial:
    """Counts with mean scale * total_count * exp(logits): the scale multiplies the odds."""

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """Inverse distribution function of the first uniform."""
        count, odds = self._count_and_odds(arguments, window)
        count, odds, target = np.broadcast_arrays(count, odds, uniforms[0])
        # Bracket from above by doubling the mean plus spread, then bisect to the smallest count
        # whose distribution function reaches the uniform.
        high = np.ceil(count * odds + 2 * np.sqrt(count * odds * (1 + odds)))
        target = np.minimum(target, 1 - 1e-15)  # a uniform of 1 would be an infinite count
        while (short := _neg_bin_cdf(high, count, odds) < target).any():
            high = np.where(short, 2 * high + 1, high)
        low = np.full_like(high, -1.0)
        while (high - low > 1).any():
            middle = np.floor((low + high) / 2)
            enough = _neg_bin_cdf(middle, count, odds) >= target
            high, low = np.where(enough, middle, high), np.where(enough, low, middle)
        counts: Array = (high - window.loc) / window.scale
        return counts

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        count, odds = self._count_and_odds(arguments, window)
        n = np.maximum(values, 0)  # negative values are given no mass below
        combinations = log_gamma(n + count) - log_gamma(n + 1) - log_gamma(count)
        log_mass = combinations + n * (np.log(odds) - np.log1p(odds)) - count * np.log1p(odds)
        return np.where(values < 0, -np.inf, log_mass)

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        count, odds = self._count_and_odds(arguments, window)
        return _neg_bin_cdf(np.floor(values), count, odds)

    @staticmethod
    def _count_and_odds(arguments: Arguments, window: Window) -> tuple[Array, Array]:
        logits = np.asarray(arguments["logits"], np.float64) + math.log(window.scale)
        return np.asarray(arguments["total_count"], np.float64), np.exp(logits)


HEADS: dict[str, Head] = {"studentT": StudentT(), "normal": Normal(), "neg_bin": NegativeBinomial()}


def _affine(arguments: Arguments, draws: Array) -> Array:
    return np.asarray(arguments["loc"] + arguments["scale"] * draws, np.float64)


def _standardise(arguments: Arguments, values: Array, window: Window) -> tuple[Array, Array]:
    """Standard units of `values`, and the log of the distribution's scale in data units."""
    scale = np.asarray(arguments["scale"], np.float64)
    z = ((values - window.loc) / window.scale - arguments["loc"]) / scale
    return z, np.log(scale) + math.log(window.scale)


def _neg_bin_cdf(values: Array, count: Array, odds: Array) -> Array:
    """P(X <= values) for whole values, X with `count` failures and the given odds of success."""
    inside = regularized_beta(count, np.maximum(values, 0) + 1, 1 / (1 + odds))
    return np.where(values < 0, 0.0, inside)
