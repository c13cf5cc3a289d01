"""Two models of Darts that give quantiles on a CPU, as methods to time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DARTS = ("Darts ExponentialSmoothing", "Darts regression, conformal")
PATHS = 100  # simulated by ExponentialSmoothing
CALIBRATION = 100  # windows at the end of a series whose errors give the conformal intervals


def darts(
    name: str, levels: Sequence[float], horizon: int, season: int
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Quantiles [series, levels, horizon] from [series, length], fitted to each series anew.

    Raises ModuleNotFoundError without the package.
    """
    import pandas as pd
    from darts import TimeSeries
    from darts.models import ConformalNaiveModel, ExponentialSmoothing, LinearRegressionModel

    def smoothed(series: Any) -> NDArray[Any]:
        model = ExponentialSmoothing(seasonal_periods=season)
        paths = model.fit(series).predict(horizon, num_samples=PATHS).all_values()[:, 0]
        return np.quantile(paths, levels, axis=1)

    def regressed(series: Any) -> NDArray[Any]:
        model = LinearRegressionModel(lags=2 * season, output_chunk_length=horizon)
        model.fit(series[: -CALIBRATION - horizon])
        conformal = ConformalNaiveModel(model, quantiles=list(levels), cal_length=CALIBRATION)
        found = conformal.predict(horizon, series, predict_likelihood_parameters=True)
        return found.values().T

    forecast = smoothed if name == DARTS[0] else regressed

    def run(series: NDArray[Any]) -> NDArray[Any]:
        times = pd.date_range("2024-01-01", periods=series.shape[1], freq="h")
        frames = [TimeSeries.from_times_and_values(times, values) for values in series]
        return np.stack([forecast(one) for one in frames])

    return run
