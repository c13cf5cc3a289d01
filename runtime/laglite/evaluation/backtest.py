"""Rolling-origin backtests: forecast the end of each series from what was known before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

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
from laglite.evaluation.seasonal_naive import (
    default_season,
    seasonal_error,
    seasonal_naive,
    seasonal_naive_point,
)
from laglite.forecast import Forecast
from laglite.forecaster import Forecaster, _for_each, as_history, whole_number
from laglite.frequency import Frequency, parse_frequency, parse_timestamp
from laglite.reading import InputSeries

Note = Callable[[str], None]

NAIVE = "seasonal naive"
NAIVE_POINT = "seasonal naive (point)"
CHUNK = 32  # windows forecast between two movements of the progress bar


@dataclass(frozen=True)
class Window:
    """One origin of one series: forecast `actual` [horizon] from `history` [length].

    `start` is the time of the first value of `history`; `season` the steps of a season.
    """

    item_id: str
    history: Array
    actual: Array
    start: np.datetime64 | None
    freq: Frequency | None
    season: int


# Forecasts windows (all of one horizon) at the given levels.
Method = Callable[[Sequence[Window], Sequence[float]], list[QuantileForecast]]


@dataclass(frozen=True)
class Backtest:
    """Metrics of each method, over all series and for each of them.

    The first of the methods is the model; `seasonal naive` is among them. `horizon` counts the
    steps of each window.
    """

    horizon: int
    overall: Mapping[str, Metrics]
    per_series: Mapping[str, Mapping[str, Metrics]]

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
    item_ids: Sequence[str] | None = None,
    season: int | None = None,
    context_length: int | None = None,
    quantiles: Sequence[float] = DECILES,
    num_samples: int = 100,
    seed: int = 0,
) -> Backtest:
    """Measure a model on the last `windows` x `horizon` values of each series.

    The origins are `horizon` steps apart, and the last window ends with the series. `targets`,
    `start`, `freq` and `item_ids` are those of `Forecaster.predict_batch`. `season` is by default
    that of the frequency (`default_season`). Series too short for all windows take part with
    those that fit. Raises InputError, also if no window is left.
    """
    count = len(targets)
    starts, freqs = _for_each("start", start, count), _for_each("freq", freq, count)
    names = _for_each("item_ids", item_ids, count)
    series = [
        InputSeries(
            str(row) if names[row] is None else names[row],
            as_history(target, may_be_missing=True),
            None if starts[row] is None else parse_timestamp(starts[row]),
            None if freqs[row] is None else parse_frequency(freqs[row]),
        )
        for row, target in enumerate(targets)
    ]
    model = model_method(forecaster, context_length, num_samples, seed)
    cut = rolling_windows(series, horizon, windows, season)
    return compare(cut, {forecaster.bundle.name: model}, quantiles)


def rolling_windows(
    series: Sequence[InputSeries],
    horizon: int,
    windows: int = 1,
    season: int | None = None,
    note: Note = lambda message: None,
) -> list[Window]:
    """Cut up to `windows` windows from the end of each series, those of a series in time order.

    Windows without a single observed value before or after the origin are left out, and `note` is
    told which series have fewer than asked for. Raises InputError if nothing is left.
    """
    horizon, windows = whole_number("horizon", horizon), whole_number("windows", windows)
    season = None if season is None else whole_number("season", season)
    cut: list[Window] = []
    short: dict[int, list[str]] = {}
    for row, one in enumerate(series):
        name = str(row) if one.item_id is None else one.item_id
        length = default_season(one.freq) if season is None else season
        found = []
        for back in range(windows, 0, -1):
            origin = len(one.values) - back * horizon
            if origin < 1:
                continue
            history, actual = one.values[:origin], one.values[origin : origin + horizon]
            if not (np.isnan(history).all() or np.isnan(actual).all()):
                found.append(Window(name, history, actual, one.start, one.freq, length))
        if len(found) < windows:
            short.setdefault(len(found), []).append(name)
        cut += found
    if not cut:
        raise InputError(
            f"no series has observed values before and among its last {horizon}: "
            "shorten the horizon, or give longer series"
        )
    for count, names in sorted(short.items()):
        what = "left out, " if count == 0 else ""
        note(f"{what}{count} of {windows} windows: {_some(names)}")
    return cut


def compare(
    windows: Sequence[Window],
    methods: Mapping[str, Method],
    quantiles: Sequence[float] = DECILES,
    progress: Callable[[int], None] = lambda windows: None,
) -> Backtest:
    """Measure `methods` and seasonal naive, with intervals and as a point forecast, on `windows`.

    `quantiles` are the levels of the weighted quantile loss. `progress` is called with the number
    of windows that a method has just done.
    """
    levels = levels_needed(quantiles)
    scales = [seasonal_error(window.history, window.season) for window in windows]
    places: dict[str, list[int]] = {}
    for place, window in enumerate(windows):
        places.setdefault(window.item_id, []).append(place)
    overall: dict[str, Metrics] = {}
    per_series: dict[str, dict[str, Metrics]] = {name: {} for name in places}
    naive = {NAIVE: _each(seasonal_naive), NAIVE_POINT: _each(seasonal_naive_point)}
    for name, method in {**methods, **naive}.items():
        errors = []
        for first in range(0, len(windows), CHUNK):
            chunk = windows[first : first + CHUNK]
            forecasts = zip(chunk, method(chunk, levels), scales[first:], strict=False)
            errors += [window_errors(f, w.actual, scale, quantiles) for w, f, scale in forecasts]
            progress(len(chunk))
        overall[name] = combine(errors)
        for item, rows in places.items():
            per_series[item][name] = combine([errors[row] for row in rows])
    return Backtest(len(windows[0].actual), overall, per_series)


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


def _some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names."""
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more series"
