"""Metrics of probabilistic forecasts, from what each window contributes to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Central intervals in percent, and the levels of their ends.
INTERVALS = {50: (0.25, 0.75), 80: (0.1, 0.9), 95: (0.025, 0.975)}


@dataclass(frozen=True)
class QuantileForecast:
    """A forecast as quantiles: `values` float64 [levels, horizon], and `mean` float64 [horizon]."""

    levels: tuple[float, ...]
    values: Array
    mean: Array

    def at(self, levels: Sequence[float]) -> Array:
        """The quantiles at some of the forecast's levels, float64 [levels, horizon]."""
        return self.values[[self._places[level] for level in levels]]

    @cached_property
    def _places(self) -> dict[float, int]:
        return {level: place for place, level in enumerate(self.levels)}


@dataclass(frozen=True)
class WindowErrors:
    """What one forecast of one window contributes to the metrics; missing actuals are left out.

    `loss` is twice the pinball loss, summed over steps and averaged over levels; `inside` and
    `width` [intervals] are sums over steps for each of `INTERVALS`; `scaled_error` is the mean
    absolute error of the median by the in-sample scale, NaN where that is 0 or unknown.
    """

    observed: int
    magnitude: float
    loss: float
    squared: float
    scaled_error: float
    inside: Array
    width: Array


@dataclass(frozen=True)
class Metrics:
    """Accuracy over some windows; NaN where the windows do not define a metric.

    - `wql`: weighted quantile loss: twice the pinball loss, averaged over levels and summed over
      steps and series, by the sum of the absolute actual values (Lag-Llama, arXiv 2310.08278,
      section 5.2; "mean weighted quantile loss" in GluonTS, "scaled CRPS" in utilsforecast);
    - `mase`: mean over windows of the median's absolute error in units of the in-sample seasonal
      naive error (Hyndman and Koehler 2006);
    - `rmse`: root mean squared error of the mean, in data units;
    - `coverage`: share of the values inside the central interval, for each of `INTERVALS`;
    - `width`: mean width of the interval in data units, and `relative_width` by the mean absolute
      actual value;
    - `values`: how many observed values this rests on, and `windows` in how many windows.
    """

    wql: float
    mase: float
    rmse: float
    coverage: Mapping[int, float]
    width: Mapping[int, float]
    relative_width: Mapping[int, float]
    values: int
    windows: int


def levels_needed(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Levels a forecast must have to be measured: of the loss, the intervals and the median."""
    ends = (level for pair in INTERVALS.values() for level in pair)
    return tuple(sorted({*quantiles, *ends, 0.5}))


def pinball_loss(quantiles: Array, actual: Array, levels: Sequence[float]) -> Array:
    """Pinball loss of `quantiles` [levels, horizon], float64 [levels, horizon], NaN as actual."""
    level = np.asarray(levels, np.float64)[:, None]
    difference = actual - quantiles
    losses: Array = np.maximum(level * difference, (level - 1) * difference)
    return losses


def window_errors(
    forecast: QuantileForecast, actual: Array, scale: float, quantiles: Sequence[float] = DECILES
) -> WindowErrors:
    """Measure one forecast against `actual` [horizon], NaN where missing.

    `scale` is the in-sample seasonal naive error (see `seasonal_error`), `quantiles` are the
    levels of the weighted quantile loss.
    """
    known = ~np.isnan(actual)
    there = actual[known]
    losses = pinball_loss(forecast.at(quantiles)[:, known], there, quantiles)
    ends = forecast.at([level for pair in INTERVALS.values() for level in pair])[:, known]
    low, high = ends[0::2], ends[1::2]
    error = np.abs(forecast.at([0.5])[0, known] - there)
    return WindowErrors(
        observed=len(there),
        magnitude=float(np.abs(there).sum()),
        loss=float(2 * losses.sum() / len(quantiles)),
        squared=float(((forecast.mean[known] - there) ** 2).sum()),
        scaled_error=float(error.mean() / scale) if scale > 0 and len(there) else np.nan,
        inside=((low <= there) & (there <= high)).sum(axis=1).astype(np.float64),
        width=(high - low).sum(axis=1),
    )


def combine(errors: Sequence[WindowErrors]) -> Metrics:
    """Metrics over all windows of `errors`."""
    values = sum(each.observed for each in errors)
    magnitude = sum(each.magnitude for each in errors)
    scaled = [each.scaled_error for each in errors if not np.isnan(each.scaled_error)]
    inside = np.sum([each.inside for each in errors], axis=0)
    width = np.sum([each.width for each in errors], axis=0)
    return Metrics(
        wql=_ratio(sum(each.loss for each in errors), magnitude),
        mase=_ratio(sum(scaled), len(scaled)),
        rmse=_ratio(sum(each.squared for each in errors), values) ** 0.5,
        coverage=_by_interval([_ratio(one, values) for one in inside]),
        width=_by_interval([_ratio(one, values) for one in width]),
        relative_width=_by_interval([_ratio(one, magnitude) for one in width]),
        values=values,
        windows=len(errors),
    )


def _by_interval(figures: Sequence[float]) -> dict[int, float]:
    return dict(zip(INTERVALS, figures, strict=True))


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")
