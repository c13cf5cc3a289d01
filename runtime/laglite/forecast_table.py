"""Forecasts as tables: a row a step and series, or a row a time and columns for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.forecast import Forecast, quantile_label
from laglite.frequency import Timestamps, format_timestamps
from laglite.time_zone import TimeZone


class Written(Protocol):
    """What is written of a forecast."""

    @property
    def item_id(self) -> str | None: ...
    @property
    def freq(self) -> str | None: ...
    @property
    def index(self) -> Timestamps | None: ...
    @property
    def zone(self) -> TimeZone | None: ...
    @property
    def prediction_length(self) -> int: ...
    @property
    def mean(self) -> NDArray[np.floating]: ...
    def quantile(self, level: float, /) -> NDArray[np.floating]: ...


@dataclass(frozen=True)
class ForecastSummary:
    """A forecast's mean and some quantiles without its paths, to keep many in memory."""

    item_id: str | None
    freq: str | None
    index: Timestamps | None
    mean: NDArray[np.floating]
    quantiles: Mapping[float, NDArray[np.floating]]
    zone: TimeZone | None = None

    @classmethod
    def of(cls, forecast: Forecast, levels: Sequence[float]) -> ForecastSummary:
        """The summary of a forecast for `levels`, the only ones that can then be written."""
        quantiles = {level: forecast.quantile(level) for level in levels}
        index, mean = forecast.index, forecast.mean
        return cls(forecast.item_id, forecast.freq, index, mean, quantiles, forecast.zone)

    @property
    def prediction_length(self) -> int:
        return len(self.mean)

    def quantile(self, level: float, /) -> NDArray[np.floating]:
        """Values [horizon] at one of the levels."""
        return self.quantiles[level]


@dataclass(frozen=True)
class TableLayout:
    """How a table of forecasts is laid out.

    A long table has a row for each series and step, a wide one a row for each time and columns for
    each series. With `intervals`, in percent, the figures are those of Nixtla's tables: the mean
    is called `model`, the ends of each interval MODEL-lo-90 and MODEL-hi-90.
    """

    wide: bool = False
    intervals: tuple[float, ...] = ()
    model: str = ""

    def named(self, model: str) -> TableLayout:
        """The layout with the name of the model that forecast."""
        return replace(self, model=model)

    def levels(self, quantiles: Sequence[float]) -> tuple[float, ...]:
        """The quantiles that the table holds: as given, or the ends of the intervals."""
        if not self.intervals:
            return tuple(quantiles)
        return tuple(end for percent in self.intervals for end in interval_ends(percent))

    def figures(self, quantiles: Sequence[float]) -> dict[str, float | None]:
        """Column names and the quantile that each holds, None for the mean."""
        if not self.intervals:
            return {"mean": None, **{quantile_label(level): level for level in quantiles}}
        outer_first = sorted(self.intervals, reverse=True)
        ends = {percent: interval_ends(percent) for percent in outer_first}
        low = {f"{self.model}-lo-{percent:g}": ends[percent][0] for percent in outer_first}
        high = {f"{self.model}-hi-{percent:g}": ends[percent][1] for percent in outer_first[::-1]}
        return {self.model: None, **low, **high}


LONG = TableLayout()


def interval_ends(percent: float) -> tuple[float, float]:
    """The quantiles at both ends of the central interval, 0.05 and 0.95 of 90 %."""
    return (100 - percent) / 200, (100 + percent) / 200


def parse_interval(text: str) -> float:
    """`90` to 90.0. Raises InputError for what is no percentage of an interval."""
    try:
        percent = float(text)
    except ValueError:
        percent = np.nan
    if not 0 < percent < 100:
        raise InputError(f"interval {text!r} is not a percentage between 0 and 100")
    return percent


def columns(
    forecasts: Sequence[Written], quantiles: Sequence[float], layout: TableLayout = LONG
) -> dict[str, Any]:
    """One list a column: [unique_id,] ds or step, and the figures. Times are ISO text."""
    figures = layout.figures(quantiles)
    if layout.wide:
        return _wide(forecasts, figures)
    table: dict[str, Any] = {}
    if any(forecast.item_id is not None for forecast in forecasts):
        table["unique_id"] = [f.item_id for f in forecasts for _ in range(f.prediction_length)]
    if has_times(forecasts):
        table["ds"] = _texts(forecasts)
    else:
        table["step"] = [step for f in forecasts for step in range(1, f.prediction_length + 1)]
    for name, level in figures.items():
        table[name] = [float(value) for f in forecasts for value in _figure(f, level)]
    return table


def has_times(forecasts: Sequence[Written]) -> bool:
    """Whether the rows of a table have times, or step numbers because one series has none."""
    return all(forecast.index is not None for forecast in forecasts)


def row_times(
    forecasts: Sequence[Written], layout: TableLayout = LONG
) -> tuple[Timestamps, str | None]:
    """The times of a table's rows, datetime64[us], and their zone's name; in UTC if it has one."""
    moments = _moments(forecasts)
    if layout.wide:
        moments = np.unique(moments)
    zones = {forecast.zone.name for forecast in forecasts if forecast.zone is not None}
    if any(forecast.zone is None for forecast in forecasts) or not zones:
        return moments, None
    return moments, zones.pop() if len(zones) == 1 else "UTC"


def _wide(forecasts: Sequence[Written], figures: Mapping[str, float | None]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    if has_times(forecasts):
        _, first, rows = np.unique(_moments(forecasts), return_index=True, return_inverse=True)
        texts = _texts(forecasts)
        table["ds"] = [texts[place] for place in first]
    else:
        steps = [np.arange(f.prediction_length) for f in forecasts]
        rows = np.concatenate(steps)
        table["step"] = list(range(1, max(map(len, steps)) + 1))
    height, begin = len(next(iter(table.values()))), 0
    for forecast in forecasts:
        places = rows[begin : begin + forecast.prediction_length]
        begin += forecast.prediction_length
        for name, level in figures.items():
            column: list[float | None] = [None] * height
            for place, value in zip(places, _figure(forecast, level), strict=True):
                column[place] = float(value)
            table[name if forecast.item_id is None else f"{forecast.item_id}-{name}"] = column
    return table


def _figure(forecast: Written, level: float | None) -> NDArray[np.floating]:
    return forecast.mean if level is None else forecast.quantile(level)


def _moments(forecasts: Sequence[Written]) -> Timestamps:
    """What orders the rows: UTC where every series has a zone, otherwise the times as they are."""
    zoned = all(forecast.zone is not None for forecast in forecasts)
    moments = []
    for forecast in forecasts:
        if forecast.index is not None:
            zone = forecast.zone if zoned else None
            moments.append(forecast.index if zone is None else zone.instants(forecast.index))
    return np.concatenate(moments)


def _texts(forecasts: Sequence[Written]) -> list[str]:
    """ISO times of all steps; with their UTC offset where a series has a zone."""
    if all(forecast.zone is None for forecast in forecasts):
        return format_timestamps(_moments(forecasts))
    texts: list[str] = []
    for forecast in forecasts:
        if forecast.index is not None:
            zone = forecast.zone
            wall = forecast.index
            texts += format_timestamps(wall) if zone is None else zone.texts(wall)
    return texts
