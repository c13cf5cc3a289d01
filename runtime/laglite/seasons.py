"""Seasonal lags: what lies whole seasons before the value to predict, always in the same place.

Among fixed lags a network must find out for each frequency which ones lie a season back. Models
with `seasons` are given them: the day and the week of hours, the week and the year of days, the
year of months, each in its own place, so that what is learned at one frequency serves all others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite.frequency import PERIOD_MONTHS, TICK_MICROSECONDS, Frequency

# (seasons before the value to predict, further steps before it)
SHORT_PLACES = ((1, -1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1))
LONG_PLACES = ((1, 0), (1, 1), (2, 0), (2, 1))
SEASON_LAGS = len(SHORT_PLACES) + len(LONG_PLACES)
SEASON_FLAGS = 2
DAY, WEEK = TICK_MICROSECONDS["D"], 7 * TICK_MICROSECONDS["D"]
HOUR, MINUTE = TICK_MICROSECONDS["h"], TICK_MICROSECONDS["min"]
FEWEST_STEPS = 4  # of a day, hour or minute: fewer are no season


def season_lengths(freq: Frequency | None, longest: int) -> tuple[int | None, int | None]:
    """Steps of the short and the long season of a frequency, None where there is none.

    Below a day: the day and the week; where a day is longer than `longest` steps, the hour, or
    else the minute. Days: the week and 52 weeks; business days alike. Weeks: 52; months, quarters:
    the year. Multiples of a unit count where they divide the season.
    """
    if freq is None:
        return None, None
    if freq.unit in TICK_MICROSECONDS:
        return _of_clock(freq.multiple * TICK_MICROSECONDS[freq.unit], longest)
    short, long = {"B": (5, 260), "W": (52, 0)}.get(freq.unit, (12, 0))  # the year in its unit
    step = freq.multiple * PERIOD_MONTHS.get(freq.unit, 1)
    return _whole(short, step), _whole(long, step)


def _of_clock(step: int, longest: int) -> tuple[int | None, int | None]:
    """Seasons of a step in microseconds."""
    if step % DAY == 0:
        return _whole(WEEK, step), _whole(52 * WEEK, step)
    for short, long in ((DAY, WEEK), (HOUR, 0), (MINUTE, 0)):
        steps = _whole(short, step)
        if steps is not None and FEWEST_STEPS <= steps <= longest:
            return steps, _whole(long, step)
    return None, None


def season_lags(freq: Frequency | None, max_lag: int) -> NDArray[np.int64]:
    """The lags of the places above, -1 where there is no such season or it lies beyond `max_lag`.

    Counted, like all lags, from the token's own time: the value to predict is one step later.
    Returns int64 [SEASON_LAGS].
    """
    short, long = season_lengths(freq, max_lag)
    lags = [_lag(short, place, max_lag) for place in SHORT_PLACES]
    lags += [_lag(long, place, max_lag) for place in LONG_PLACES]
    return np.array(lags, np.int64)


def season_flags(lags: NDArray[np.int64]) -> NDArray[np.float32]:
    """1 where `lags` of `season_lags` hold a short and a long season, else 0. float32 [2]."""
    short, long = lags[1], lags[len(SHORT_PLACES)]
    return np.array([short >= 0, long >= 0], np.float32)


def _whole(season: int, step: int) -> int | None:
    """Steps of a season, if they are whole and more than one."""
    return season // step if season % step == 0 and season // step > 1 else None


def _lag(steps: int | None, place: tuple[int, int], max_lag: int) -> int:
    if steps is None:
        return -1
    lag = place[0] * steps + place[1] - 1
    return lag if 0 <= lag <= max_lag else -1
