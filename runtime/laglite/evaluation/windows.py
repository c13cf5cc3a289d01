"""Rolling origins: where each series is cut into what was known and what came after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from laglite.arguments import as_history, whole_number
from laglite.errors import InputError
from laglite.evaluation.metrics import Array
from laglite.evaluation.seasonal_naive import default_season
from laglite.frequency import Frequency
from laglite.reading import InputSeries
from laglite.reading.tables import Note


@dataclass(frozen=True)
class Window:
    """One origin of one series: forecast `actual` [horizon] from `history` [length].

    `start` is the time of the first value of `history`, `season` the steps of a season, and
    `covariates` [length + horizon, num] are known beforehand.
    """

    item_id: str
    history: Array
    actual: Array
    start: np.datetime64 | None
    freq: Frequency | None
    season: int
    covariates: Array | None = None


def rolling_windows(
    series: Sequence[InputSeries],
    horizon: int,
    windows: int = 1,
    season: int | None = None,
    note: Note = lambda message: None,
    *,
    reach: int | None = None,
) -> list[Window]:
    """Cut up to `windows` windows from the end of each series, those of a series in time order.

    The origins are `horizon` steps apart, and the last window ends with the series. `season` None
    is `default_season` of each series' frequency. Windows without a single observed value after
    the origin, or among the `reach` values before it (None: all), are left out, and `note` is told
    which series have fewer than asked for.
    Raises InputError if nothing is left, and for two series of one name.
    """
    horizon, windows = whole_number("horizon", horizon), whole_number("windows", windows)
    season = None if season is None else whole_number("season", season)
    names = [str(row) if one.item_id is None else one.item_id for row, one in enumerate(series)]
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise InputError(f"{count} series are called {name!r}; give each its own id")
    cut: list[Window] = []
    short: dict[int, list[str]] = {}
    for name, one in zip(names, series, strict=True):
        found = []
        values = (
            as_history(one.values, name, may_be_missing=True) if len(one.values) else one.values
        )
        checked = replace(one, values=values)
        for back in range(windows, 0, -1):
            origin = len(values) - back * horizon
            if origin >= 1 and _is_observed(values, origin, horizon, reach):
                found.append(_window(name, checked, origin, horizon, season))
        if len(found) < windows:
            short.setdefault(len(found), []).append(name)
        cut += found
    if not cut:
        raise InputError(
            f"no series has observed values both in its last {horizon} steps and before them: "
            "shorten the horizon, or give longer series"
        )
    for count, few in sorted(short.items()):
        if count == 0:
            note(f"left out, too few observed values for a window: {_some(few)}")
        else:
            note(f"{count} of {windows} windows, too few observed values: {_some(few)}")
    return cut


def _is_observed(values: Array, origin: int, horizon: int, reach: int | None) -> bool:
    """Whether there is something to forecast from, and something to compare with."""
    known = ~np.isnan(values)
    first = 0 if reach is None else max(0, origin - reach)
    return bool(known[first:origin].any() and known[origin : origin + horizon].any())


def _window(name: str, one: InputSeries, origin: int, horizon: int, season: int | None) -> Window:
    end = origin + horizon
    return Window(
        item_id=name,
        history=one.values[:origin],
        actual=one.values[origin:end],
        start=one.start,
        freq=one.freq,
        season=default_season(one.freq) if season is None else season,
        covariates=None if one.covariates is None else one.covariates[:end],
    )


def _some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names."""
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
