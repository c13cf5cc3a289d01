"""A mixture of Student's t distributions."""

from __future__ import annotations

import numpy as np

from laglite.heads.family import FINE_DRAWS, Arguments, Array, choose, numbered
from laglite.heads.student_t import StudentT
from laglite.special import invert_cdf
from laglite.window import Window


class MixtureT:
    """Components k = 1, 2, ... with probability weight_k: loc_k + scale_k * t(df_k)."""

    fine_draws = FINE_DRAWS

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """The first uniform picks a component; its place in the component's share is a uniform.

        With c the shares up to the component, that is (u - c) / weight; then the polar form.
        """
        weights, ends = _shares(arguments)
        first, second = uniforms
        below = first > ends[:-1]
        component = below.sum(axis=0)
        start = np.where(below, ends[:-1], 0.0).max(axis=0)
        chosen = {
            kind: choose(numbered(arguments, kind), component) for kind in ("df", "loc", "scale")
        }
        fresh = np.minimum((first - start) / choose(weights, component), 1.0)
        return StudentT().sample(chosen, np.stack([fresh, second]), window)

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        weights, _ = _shares(arguments)
        log_densities = StudentT().log_prob(_components(arguments), values, window)
        return np.asarray(np.logaddexp.reduce(np.log(weights) + log_densities, axis=0))

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        weights, _ = _shares(arguments)
        below = weights * StudentT().cdf(_components(arguments), values, window)
        return np.asarray(below.sum(axis=0))

    def quantile(self, arguments: Arguments, levels: Array, window: Window) -> Array:
        """Between the least and the greatest of the components' quantiles."""
        each = StudentT().quantile(_components(arguments), levels, window)
        low, high = each.min(axis=0), each.max(axis=0)
        return invert_cdf(
            lambda values: self.cdf(arguments, values, window),
            lambda values: np.exp(self.log_prob(arguments, values, window)),
            np.broadcast_to(levels, low.shape),
            start=(low + high) / 2,
            low=low,
            high=high,
        )


def _shares(arguments: Arguments) -> tuple[Array, Array]:
    """Weights that add up to 1 in double precision, and the end of each one's share of (0, 1].

    Running sums, since NumPy rounds plain ones by the number of paths beside them.
    """
    weights = numbered(arguments, "weight")
    ends = np.cumsum(weights, axis=0)
    return weights / ends[-1], ends / ends[-1]


def _components(arguments: Arguments) -> dict[str, Array]:
    return {kind: numbered(arguments, kind) for kind in ("df", "loc", "scale")}
