"""Seasonal naive, the reference that every forecast should beat."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from laglite.evaluation.metrics import Array, QuantileForecast
from laglite.frequency import Frequency

# Steps in the season that people look for first: an hour of seconds, a day of minutes and hours,
# a week of days, a year of weeks, months and quarters.
SEASONS = {"s": 3600, "min": 1440, "h": 24, "D": 7, "B": 5, "W": 52, "M": 12, "Q": 4}


def default_season(freq: Frequency | None) -> int:
    """Steps a season has by default: `h` 24, `15min` 96, `D` 7, `W` 52, `M` 12, `Q` 4.

    1 where there is no frequency, for years and fractions of a second, and where the season is
    no whole number of steps.
    """
    if freq is None:
        return 1
    steps = SEASONS.get(freq.unit, 1)
    return 1 if steps % freq.multiple else steps // freq.multiple


def seasonal_naive(
    history: Array, horizon: int, season: int, levels: Sequence[float]
) -> QuantileForecast:
    """The last season again, with normal quantiles.

    Their standard deviation is the root mean square of the in-sample seasonal differences, times
    the root of the seasons ahead (Hyndman and Athanasopoulos, Forecasting, 3rd edition, 5.5).
    Gaps in `history` [length] are interpolated; histories of one season or less repeat the last
    value.
    """
    season = _usable(history, season)
    centre = _last_season(history, horizon, season)
    squares = _differences(history, season) ** 2
    sigma = float(np.sqrt(squares.mean())) if len(squares) else 0.0
    growth = np.sqrt(np.arange(horizon) // season + 1)
    scores = np.array([NormalDist().inv_cdf(level) for level in levels])
    return QuantileForecast(tuple(levels), centre + scores[:, None] * sigma * growth, centre)


def seasonal_naive_point(
    history: Array, horizon: int, season: int, levels: Sequence[float]
) -> QuantileForecast:
    """The last season again as a point forecast: the same value at every level."""
    centre = _last_season(history, horizon, _usable(history, season))
    return QuantileForecast(tuple(levels), np.tile(centre, (len(levels), 1)), centre)


def seasonal_error(history: Array, season: int) -> float:
    """Mean absolute in-sample seasonal difference, the scale of MASE; NaN where there is none.

    Histories of one season or less give the mean absolute step.
    """
    differences = np.abs(_differences(history, _usable(history, season)))
    return float(differences.mean()) if len(differences) else float("nan")


def _usable(history: Array, season: int) -> int:
    """The season, or 1 where the history is no longer than it."""
    return season if len(history) > season else 1


def _last_season(history: Array, horizon: int, season: int) -> Array:
    known = np.flatnonzero(~np.isnan(history))
    steps = np.arange(len(history) - season, len(history))
    last: Array = np.interp(steps, known, history[known])
    return np.resize(last, horizon)


def _differences(history: Array, season: int) -> Array:
    """Seasonal differences between observed values."""
    differences: Array = history[season:] - history[:-season]
    return differences[~np.isnan(differences)]
