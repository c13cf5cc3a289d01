"""AutoETS of statsforecast, as a method to measure beside the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laglite.errors import MissingDependencyError
from laglite.evaluation.backtest import Method
from laglite.evaluation.metrics import QuantileForecast
from laglite.evaluation.seasonal_naive import seasonal_naive
from laglite.evaluation.windows import Window

LONGEST = 4000  # values at the end of a history that are fitted: its cost grows with them
SHORTEST = 10  # AutoETS refuses shorter histories


def auto_ets() -> Method:
    """AutoETS on the last values of each history, gaps interpolated.

    Its prediction intervals give the quantiles. Seasons of more than 24 steps are beyond it: it
    fits such series without one. Histories of under 10 values are left to seasonal naive. Raises
    MissingDependencyError.
    """
    try:
        from statsforecast.models import AutoETS
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "AutoETS needs statsforecast, which is not installed: pip install statsforecast"
        ) from error

    def forecast_one(window: Window, levels: Sequence[float]) -> QuantileForecast:
        if len(window.history) < SHORTEST:
            return seasonal_naive(window.history, len(window.actual), window.season, levels)
        known = np.flatnonzero(~np.isnan(window.history))
        steps = np.arange(len(window.history))[-LONGEST:]
        filled = np.interp(steps, known, window.history[known])
        widths = sorted({_interval(level) for level in levels} - {0})
        fitted = AutoETS(season_length=window.season).forecast(
            y=filled, h=len(window.actual), level=widths
        )
        values = [fitted[_column(level)] for level in levels]
        return QuantileForecast(tuple(levels), np.stack(values), fitted["mean"])

    return lambda windows, levels: [forecast_one(window, levels) for window in windows]


def _interval(level: float) -> float:
    """The central interval, in percent, that has a quantile level at one of its ends."""
    width = round(100 * abs(2 * level - 1), 6)
    return int(width) if width.is_integer() else width  # the fit's names say 80, not 80.0


def _column(level: float) -> str:
    """The fit's name for that end; its distributions are symmetric: the mean is the median."""
    if level == 0.5:
        return "mean"
    return f"{'lo' if level < 0.5 else 'hi'}-{_interval(level)}"
