"""Rolling-origin backtests: forecast the end of each series from what was known before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from laglite.arguments import as_history, for_each
from laglite.errors import InputError
from laglite.evaluation.metrics import (
    DECILES,
    Array,
    Metrics,
    QuantileForecast,
    combine,
    levels_needed,
    window_errors,
)
from laglite.evaluation.profile import PROFILE_LEVELS, Profile, profile_of
from laglite.evaluation.seasonal_naive import (
    seasonal_error,
    seasonal_naive,
    seasonal_naive_point,
)
from laglite.evaluation.windows import Window, rolling_windows
from laglite.forecast import Forecast
from laglite.forecaster import Forecaster
from laglite.frequency import parse_frequency, parse_timestamp
from laglite.reading import InputSeries
from laglite.spec import ModelSpec

NAIVE = "seasonal naive"
NAIVE_POINT = "seasonal naive (point)"
CHUNK = 32  # windows forecast between two movements of the progress bar

# Forecasts windows (all of one horizon) at the given levels.
Method = Callable[[Sequence[Window], Sequence[float]], list[QuantileForecast]]


@dataclass(frozen=True)
class Backtest:
    """Metrics of each method, over all series and for each of them, and its profile over all.

    The first of the methods is the model; `seasonal naive` is among them. `horizon` counts the
    steps of each window.
    """

    horizon: int
    overall: Mapping[str, Metrics]
    per_series: Mapping[str, Mapping[str, Metrics]]
    profiles: Mapping[str, Profile]

    @property
    def model(self) -> Metrics:
        """Metrics of the model over all series."""
        return next(iter(self.overall.values()))

    @property
    def relative_wql(self) -> float:
        """The model's weighted quantile loss by that of seasonal naive with intervals."""
        return relative_wql(self.overall, next(iter(self.overall)))


def relative_wql(metrics: Mapping[str, Metrics], method: str, reference: str = NAIVE) -> float:
    """Weighted quantile loss of `method` by that of `reference`; NaN where that is 0."""
    below = metrics[reference].wql
    return metrics[method].wql / below if below > 0 else float("nan")


def backtest(
    forecaster: Forecaster,
    targets: Sequence[ArrayLike],
    *,
    horizon: int,
    windows: int = 1,
    start: Any = None,
    freq: Any = None,
    covariates: Sequence[ArrayLike | None] | None = None,
    item_ids: Sequence[str] | None = None,
    season: int | None = None,
    context_length: int | None = None,
    quantiles: Sequence[float] = DECILES,
    num_samples: int = 100,
    seed: int = 0,
) -> Backtest:
    """Measure a model on the last `windows` x `horizon` values of each series.

    The origins are `horizon` steps apart, and the last window ends with the series. `targets`,
    `start`, `freq`, `covariates` (each at least as long as its target) and `item_ids` are those of
    `Forecaster.predict_batch`; series without an id are called by their place. `season` is by
    default that of the frequency (`default_season`). Series too short for all windows take part
    with those that fit. Raises InputError, also if no window is left.
    """
    count = len(targets)
    series = [
        InputSeries(
            str(row) if name is None else name,
            as_history(target, str(row) if name is None else name, may_be_missing=True),
            None if one_start is None else parse_timestamp(one_start),
            None if one_freq is None else parse_frequency(one_freq),
            None if known is None else np.asanyarray(known),
        )
        for row, (target, name, one_start, one_freq, known) in enumerate(
            zip(
                targets,
                for_each("item_ids", item_ids, count),
                for_each("start", start, count),
                for_each("freq", freq, count),
                for_each("covariates", covariates, count),
                strict=True,
            )
        )
    ]
    model = model_method(forecaster, context_length, num_samples, seed)
    reach = model_reach(forecaster.spec, context_length)
    cut = rolling_windows(series, horizon, windows, season, reach=reach)
    return compare(cut, {forecaster.bundle.name: model}, quantiles)


def compare(
    windows: Sequence[Window],
    methods: Mapping[str, Method],
    quantiles: Sequence[float] = DECILES,
    progress: Callable[[int], None] = lambda windows: None,
) -> Backtest:
    """Measure `methods` and seasonal naive, with intervals and as a point forecast, on `windows`.

    `quantiles` are the levels of the weighted quantile loss. `progress` is called with the number
    of windows that a method has just done. Raises InputError.
    """
    if not quantiles or not all(0 < level < 1 for level in quantiles):
        given = ", ".join(f"{level:g}" for level in quantiles) or "none"
        raise InputError(f"quantiles must be between 0 and 1, not {given}")
    levels = sorted({*levels_needed(quantiles), *PROFILE_LEVELS})
    scales = [seasonal_error(window.history, window.season) for window in windows]
    places: dict[str, list[int]] = {}
    for place, window in enumerate(windows):
        places.setdefault(window.item_id, []).append(place)
    overall: dict[str, Metrics] = {}
    per_series: dict[str, dict[str, Metrics]] = {name: {} for name in places}
    profiles: dict[str, Profile] = {}
    naive = {NAIVE: _each(seasonal_naive), NAIVE_POINT: _each(seasonal_naive_point)}
    for name, method in {**methods, **naive}.items():
        errors = []
        for first in range(0, len(windows), CHUNK):
            chunk = windows[first : first + CHUNK]
            forecasts = method(chunk, levels)
            measured = zip(forecasts, chunk, scales[first : first + CHUNK], strict=True)
            errors += [window_errors(f, w.actual, scale, quantiles) for f, w, scale in measured]
            part = profile_of(forecasts, [window.actual for window in chunk], quantiles)
            profiles[name] = profiles[name] + part if name in profiles else part
            progress(len(chunk))
        overall[name] = combine(errors)
        for item, rows in places.items():
            per_series[item][name] = combine([errors[row] for row in rows])
    return Backtest(len(windows[0].actual), overall, per_series, profiles)


def model_reach(spec: ModelSpec, context_length: int | None) -> int:
    """How many values before the origin a model sees, with its own context by default."""
    return spec.max_lag + (spec.context_length if context_length is None else context_length)


def model_method(
    forecaster: Forecaster, context_length: int | None, num_samples: int, seed: int
) -> Method:
    """A model as a method of `compare`."""

    def forecast(windows: Sequence[Window], levels: Sequence[float]) -> list[QuantileForecast]:
        batch = forecaster.predict_batch(
            [window.history for window in windows],
            horizon=len(windows[0].actual),
            start=[window.start for window in windows],
            freq=[
                None if window.start is None or window.freq is None else window.freq.alias
                for window in windows
            ],
            covariates=[window.covariates for window in windows],
            num_samples=num_samples,
            context_length=context_length,
            seed=seed,
            item_ids=[window.item_id for window in windows],
        )
        return [from_samples(each, levels) for each in batch]

    return forecast


def from_samples(forecast: Forecast, levels: Sequence[float]) -> QuantileForecast:
    """Quantiles and mean of sample paths."""
    values = np.stack([forecast.quantile(level) for level in levels]).astype(np.float64)
    return QuantileForecast(tuple(levels), values, forecast.mean.astype(np.float64))


def _each(
    method: Callable[[Array, int, int, Sequence[float]], QuantileForecast],
) -> Method:
    """A method of one series as a method of many."""
    return lambda windows, levels: [
        method(window.history, len(window.actual), window.season, levels) for window in windows
    ]
