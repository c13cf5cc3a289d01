"""Calendar features of a token's own timestamp, with pandas' `PeriodIndex` conventions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite.frequency import (
    EXACT_YEARS,
    PERIOD_MONTHS,
    TICK_MICROSECONDS,
    Frequency,
    Timestamps,
    check_years,
)


def calendar_features(
    start: np.datetime64, freq: Frequency, first: int, count: int
) -> NDArray[np.float32]:
    """Six values in [-0.5, 0.5] for each of the steps `first .. first + count - 1`.

    In order: second/59, minute/59, hour/23, day of week/6 (Monday 0), (day of month - 1)/30 and
    (day of year - 1)/365, each minus 0.5, at every frequency (Lag-Llama, section 4.1). A step is
    a period: weeks, months, quarters and years are represented by their last day at midnight,
    finer periods by their start. Returns float32 [count, 6].
    """
    times = _period_labels(start, freq, first, count)
    days = times.astype("datetime64[D]")
    seconds = (times - days).astype("timedelta64[s]").astype(np.int64)  # of the day
    months = days.astype("datetime64[M]").astype("datetime64[D]")
    years = days.astype("datetime64[Y]").astype("datetime64[D]")
    features = np.stack(
        [
            seconds % 60 / 59,
            seconds // 60 % 60 / 59,
            seconds // 3600 / 23,
            (days.astype(np.int64) + 3) % 7 / 6,  # 1970-01-01 was a Thursday
            (days - months).astype(np.int64) / 30,
            (days - years).astype(np.int64) / 365,
        ],
        axis=-1,
    )
    return (features - 0.5).astype(np.float32)


def _period_labels(start: np.datetime64, freq: Frequency, first: int, count: int) -> Timestamps:
    """The time that stands for each period: datetime64[us] [count]."""
    steps = np.arange(first, first + count, dtype=np.int64)
    check_years(start, freq, steps, EXACT_YEARS)  # padding may lie before the year 1
    steps *= freq.multiple
    day = start.astype("datetime64[D]")
    labels: Timestamps
    if freq.unit in TICK_MICROSECONDS:
        unit = TICK_MICROSECONDS[freq.unit]
        ticks = int(start.astype("datetime64[us]").astype(np.int64)) // unit
        labels = ((ticks + steps) * unit).astype("datetime64[us]")
    elif freq.unit == "B":
        labels = np.busday_offset(day, steps, roll="forward").astype("datetime64[us]")
    elif freq.unit == "W":
        weekday = (int(day.astype(np.int64)) + 3) % 7
        last = int(day.astype(np.int64)) + (freq.anchor - weekday) % 7
        labels = (last + 7 * steps).astype("datetime64[D]").astype("datetime64[us]")
    else:
        length = PERIOD_MONTHS[freq.unit]
        month = int(day.astype("datetime64[M]").astype(np.int64))  # months since 1970-01
        last = month + (freq.anchor - 1 - month) % length
        following = (last + 1 + steps * length).astype("datetime64[M]").astype("datetime64[D]")
        labels = (following - np.timedelta64(1, "D")).astype("datetime64[us]")
    return labels
