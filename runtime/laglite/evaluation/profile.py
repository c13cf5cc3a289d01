"""How a method's errors lie over the horizon, and its distributions beside what came."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from laglite.evaluation.metrics import INTERVALS, Array, QuantileForecast, pinball_loss

# Levels between the bins of the probability integral transform (PIT).
PIT_EDGES = tuple(round(place / 20, 2) for place in range(1, 20))
# Central intervals in percent whose coverage is counted, those of the tables among them.
CENTRAL = {
    percent: (round((100 - percent) / 200, 3), round((100 + percent) / 200, 3))
    for percent in sorted({*range(10, 100, 10), *INTERVALS})
}
CENTRAL_ENDS = tuple(level for pair in CENTRAL.values() for level in pair)
PROFILE_LEVELS = tuple(sorted({*PIT_EDGES, *CENTRAL_ENDS}))


@dataclass(frozen=True)
class Profile:
    """Sums over windows of one horizon, which add up; missing actual values are left out.

    `values`, `magnitude` (the absolute actual values) and `loss` (twice the pinball loss, averaged
    over levels) hold a sum for each step of the horizon, `inside` the number of values in each of
    the `CENTRAL` intervals, `pit` the number in each of 20 bins of equal probability. A value equal
    to several quantiles counts for all bins between them in parts, as if it stood anywhere in its
    forecast's step with equal probability (Czado, Gneiting and Held 2009, Biometrics 65).
    """

    values: tuple[int, ...]
    magnitude: tuple[float, ...]
    loss: tuple[float, ...]
    inside: tuple[int, ...]
    pit: tuple[float, ...]

    def __add__(self, other: Profile) -> Profile:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Profile(*(tuple(map(operator.add, mine, theirs)) for mine, theirs in pairs))

    def as_one_step(self) -> Profile:
        """The sums over all steps, which add up with those of other horizons."""
        return Profile(
            (sum(self.values),), (sum(self.magnitude),), (sum(self.loss),), self.inside, self.pit
        )

    @property
    def wql_by_step(self) -> tuple[float, ...]:
        """Weighted quantile loss of each step; NaN where its actual values are all 0 or missing.

        The `wql` of `Metrics` is the sum of `loss` by that of `magnitude`: the mean of these,
        weighted by `magnitude`, where all are defined.
        """
        pairs = zip(self.loss, self.magnitude, strict=True)
        return tuple(loss / size if size > 0 else float("nan") for loss, size in pairs)

    @property
    def coverage(self) -> dict[int, float]:
        """Share of the values inside each of the `CENTRAL` intervals."""
        total = sum(self.values)
        return {
            percent: inside / total for percent, inside in zip(CENTRAL, self.inside, strict=True)
        }

    @property
    def pit_shares(self) -> tuple[float, ...]:
        """Share of the values in each bin: all 0.05 for distributions that are right."""
        total = sum(self.values)
        return tuple(count / total for count in self.pit)


def profile_of(
    forecasts: Sequence[QuantileForecast], actuals: Sequence[Array], quantiles: Sequence[float]
) -> Profile:
    """The profile of some windows: `actuals` hold [horizon] values each, NaN where missing.

    The forecasts must have the `PROFILE_LEVELS` and `quantiles`, those of the loss.
    """
    actual = np.stack(actuals)
    known = ~np.isnan(actual)
    losses = [
        2 * pinball_loss(forecast.at(quantiles), each, quantiles).mean(axis=0)
        for forecast, each in zip(forecasts, actuals, strict=True)
    ]
    there = actual[known]  # [values]
    edges = np.stack([forecast.at(PIT_EDGES) for forecast in forecasts], axis=1)[:, known]
    ends = np.stack([forecast.at(CENTRAL_ENDS) for forecast in forecasts], axis=1)[:, known]
    return Profile(
        values=tuple(known.sum(axis=0).tolist()),
        magnitude=tuple(np.nansum(np.abs(actual), axis=0).tolist()),
        loss=tuple(np.nansum(losses, axis=0).tolist()),
        inside=tuple(((ends[0::2] <= there) & (there <= ends[1::2])).sum(axis=1).tolist()),
        pit=tuple(_pit_counts(edges, there).tolist()),
    )


def _pit_counts(edges: Array, actual: Array) -> Array:
    """How many of `actual` [values] fall between the quantiles `edges` [bins - 1, values].

    float64 [bins].
    """
    last = len(edges)
    below = (edges < actual).sum(axis=0)  # the bin of the probability of less than the value
    reached = (edges <= actual).sum(axis=0)  # and of that of at most the value
    tied = below != reached
    counts: Array = np.bincount(below[~tied], minlength=last + 1).astype(np.float64)
    # Both probabilities of a tied value are taken as the middle of their bin, or as 0 and 1.
    first = np.where(below == 0, 0.0, below + 0.5)[tied]
    end = np.where(reached == last, last + 1.0, reached + 0.5)[tied]
    bins: NDArray[np.int64] = np.arange(last + 1)[:, None]
    overlap = np.minimum(end, bins + 1) - np.maximum(first, bins)
    counts += (np.maximum(overlap, 0) / (end - first)).sum(axis=1)
    return counts
