"""The negative binomial distribution, for counts."""

from __future__ import annotations

import math

import numpy as np

from laglite.errors import LagliteError
from laglite.heads.family import Arguments, Array
from laglite.special import log_beta, regularized_beta
from laglite.window import Window

LARGEST_COUNT = 1e12
SMALLEST_COUNT = 1e-30  # softplus underflows to 0, where the distribution has no density


class NegativeBinomial:
    """Counts with mean scale * total_count * exp(logits): the scale multiplies the odds."""

    fine_draws = 0

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """Inverse distribution function of the first uniform.

        Raises LagliteError where counts get too large to be told apart.
        """
        counts: Array = (self.quantile(arguments, uniforms[0], window) - window.loc) / window.scale
        return counts

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        count, odds = self._count_and_odds(arguments, window)
        n = np.maximum(values, 0)  # negative values are given no mass below
        combinations = -log_beta(n + 1, count) - np.log(n + count)
        log_mass = combinations - n * np.log1p(1 / odds) - count * np.log1p(odds)
        return np.where(values < 0, -np.inf, log_mass)

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        """Raises LagliteError where counts get too large to be told apart."""
        count, odds = self._tellable(arguments, window)
        return _count_cdf(np.floor(values), count, odds)

    def quantile(self, arguments: Arguments, levels: Array, window: Window) -> Array:
        """The smallest count whose distribution function reaches the level; raises LagliteError."""
        count, odds = self._tellable(arguments, window)
        count, odds, target = np.broadcast_arrays(count, odds, levels)
        # Bracket from above by doubling the mean plus spread, then bisect.
        high: Array = np.ceil(count * odds + 2 * np.sqrt(count * odds * (1 + odds)))
        target = np.minimum(target, 1 - 1e-15)  # a uniform of 1 would be an infinite count
        while (short := _count_cdf(high, count, odds) < target).any():
            high = np.where(short, 2 * high + 1, high)
        low = np.full_like(high, -1.0)
        while (high - low > 1).any():
            middle = np.floor((low + high) / 2)
            enough = _count_cdf(middle, count, odds) >= target
            high, low = np.where(enough, middle, high), np.where(enough, low, middle)
        return high

    @classmethod
    def _tellable(cls, arguments: Arguments, window: Window) -> tuple[Array, Array]:
        """Count and odds; raises LagliteError where their mean is too large."""
        count, odds = cls._count_and_odds(arguments, window)
        largest = float(np.max(odds * np.maximum(count, 1)))
        if largest > LARGEST_COUNT:
            raise LagliteError(
                f"the model forecasts counts of about {largest:.1g}, more than its negative "
                f"binomial head can tell apart ({LARGEST_COUNT:g}); divide the series by some "
                "thousands, or choose a model with another head"
            )
        return count, odds

    @staticmethod
    def _count_and_odds(arguments: Arguments, window: Window) -> tuple[Array, Array]:
        """Both float64; raises LagliteError where the network gives no number."""
        logits = np.asarray(arguments["logits"], np.float64) + math.log(window.scale)
        count = np.asarray(arguments["total_count"], np.float64)
        if not (np.isfinite(count).all() and np.isfinite(logits).all()):
            raise LagliteError("the model's forecast is not finite; check its input for outliers")
        return np.maximum(count, SMALLEST_COUNT), np.exp(logits)


def _count_cdf(values: Array, count: Array, odds: Array) -> Array:
    """P(X <= values) for whole values, X with `count` failures and the given odds of success."""
    inside = regularized_beta(count, np.maximum(values, 0) + 1, 1 / (1 + odds))
    return np.where(values < 0, 0.0, inside)
