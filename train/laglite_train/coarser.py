"""Coarser series: quarter hours averaged to hours or days, days to weeks, on a coarse grid."""

from __future__ import annotations

import numpy as np

from laglite.frequency import TICK_MICROSECONDS, WEEKDAYS, parse_frequency, timestamps
from laglite.tokens import TimeAxis
from laglite_train.augmentation import aggregate
from laglite_train.corpus import Series

TARGETS = ("min", "5min", "10min", "15min", "30min", "h", "D")
SHORTEST = 64  # values that must be left


def coarser_series(series: Series, random: np.random.Generator) -> Series:
    """`series` averaged to a coarser frequency, drawn among those that leave enough values.

    Blocks begin on the coarse grid (hours at :00, days at midnight, weeks anywhere); missing
    values are left out of a block's mean. A series with covariates, without times, of a frequency
    of weeks or more, or too short for any, is returned as it is.
    """
    start, freq = series.axis.start, series.axis.freq
    if start is None or freq is None or series.covariates is not None:
        return series
    if freq.unit not in TICK_MICROSECONDS:
        return series
    step = freq.multiple * TICK_MICROSECONDS[freq.unit]
    choices: list[tuple[str, int]] = []
    for alias in TARGETS:
        target = parse_frequency(alias)
        size = target.multiple * TICK_MICROSECONDS[target.unit]
        factor = size // step
        if size % step == 0 and factor > 1 and len(series.values) // factor > SHORTEST:
            choices.append((alias, factor))
    steps_a_day, remainder = divmod(TICK_MICROSECONDS["D"], step)
    if steps_a_day and not remainder and len(series.values) // (7 * steps_a_day) > SHORTEST:
        choices.append(("W", 7 * steps_a_day))
    if not choices:
        return series
    alias, factor = choices[int(random.integers(len(choices)))]
    grid = factor if alias != "W" else steps_a_day
    ticks = int(start.astype("datetime64[us]").astype(np.int64)) // step
    skipped = -ticks % grid
    first = timestamps(start, freq, skipped, 1)[0]
    first -= first.astype(np.int64) % (grid * step)  # days of six hours may begin at 4:00
    if alias == "W":
        weekday = int(first.astype("datetime64[D]").astype(np.int64) + 3) % 7
        alias = f"W-{WEEKDAYS[(weekday + 6) % 7]}"
    values = aggregate(series.values[skipped:], factor, "start")
    return Series(series.item_id, TimeAxis(first, parse_frequency(alias)), values)
