"""The steps of a synthetic series on the calendar: periods, time of day, weekday, season."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from laglite.frequency import (
    PERIOD_MONTHS,
    TICK_MICROSECONDS,
    Frequency,
    Timestamps,
    timestamps,
)

Array = NDArray[np.float64]

DAYS_PER_YEAR = 365.25
_DAYS = {"B": 1.4, "W": 7.0, "M": DAYS_PER_YEAR / 12, "Q": DAYS_PER_YEAR / 4, "Y": DAYS_PER_YEAR}
# Cycles that people and weather follow, in days, and how often a season of that length is drawn.
_CYCLES = (
    (1 / 1440, 1.0),
    (1 / 24, 1.0),
    (1.0, 4.0),
    (7.0, 3.0),
    (DAYS_PER_YEAR / 12, 0.5),
    (DAYS_PER_YEAR, 2.0),
)
SHORTEST_PERIOD, LONGEST_PERIOD = 1.9, 20_000.0
FIRST_YEAR, LAST_YEAR = 1950, 2024
FIRST_YEAR_WITHIN_DAYS = 1990


@dataclass(frozen=True)
class TimeGrid:
    """`length` steps of `freq`, the first at `start`."""

    length: int
    freq: Frequency
    start: np.datetime64

    @cached_property
    def days_per_step(self) -> float:
        unit = self.freq.unit
        if unit in TICK_MICROSECONDS:
            return self.freq.multiple * TICK_MICROSECONDS[unit] / TICK_MICROSECONDS["D"]
        return self.freq.multiple * _DAYS[unit]

    @cached_property
    def steps(self) -> Array:
        """0, 1, ... as float64 [length]."""
        return np.arange(self.length, dtype=np.float64)

    @cached_property
    def times(self) -> Timestamps:
        """datetime64[us] [length]."""
        return timestamps(self.start, self.freq, 0, self.length)

    @cached_property
    def periods(self) -> Array:
        """Natural seasonal periods in steps, such as 24, 168, 730.5 and 8766 for hours."""
        return self._seasons[0]

    @cached_property
    def period_weights(self) -> Array:
        """How often each of `periods` should be drawn; they sum to 1."""
        return self._seasons[1]

    @cached_property
    def _seasons(self) -> tuple[Array, Array]:
        week_of_business_days = self.freq.unit == "B"
        found = []
        for days, weight in _CYCLES:
            period = days / self.days_per_step
            # Minutes matter to seconds and hours to minutes, but not to half-hours.
            clock = days < 1.0 and period < 30
            if SHORTEST_PERIOD <= period <= LONGEST_PERIOD and not clock:
                found.append((round(period) if week_of_business_days else period, weight))
        table = np.array(found, dtype=np.float64).reshape(-1, 2)
        # A season that hardly begins within the series looks like a trend.
        weights = table[:, 1] * np.where(table[:, 0] > self.length, 0.3, 1.0)
        return table[:, 0], weights / weights.sum() if len(weights) else weights

    @property
    def has_hours(self) -> bool:
        """Whether a step is shorter than half a day, so that there is a daily profile."""
        return self.days_per_step <= 0.5

    @property
    def has_weekdays(self) -> bool:
        """Whether a step is at most a day, so that weekdays differ."""
        return self.days_per_step <= 1.0 or (self.freq.unit == "B" and self.freq.multiple == 1)

    @cached_property
    def days(self) -> NDArray[np.int64]:
        """Calendar days since 1970-01-01, int64 [length]."""
        return self.times.astype("datetime64[D]").astype(np.int64)

    @cached_property
    def hour(self) -> Array:
        """Time of day in hours, 0 to below 24, [length]."""
        since = (self.times - self.times.astype("datetime64[D]")).astype(np.int64)
        return np.asarray(since / TICK_MICROSECONDS["h"], dtype=np.float64)

    @cached_property
    def weekday(self) -> NDArray[np.int64]:
        """Monday 0 to Sunday 6, int64 [length]."""
        weekday: NDArray[np.int64] = (self.days + 3) % 7  # 1970-01-01 was a Thursday
        return weekday

    @cached_property
    def is_weekend(self) -> NDArray[np.bool_]:
        """Saturdays and Sundays, bool [length]."""
        return self.weekday >= 5

    @cached_property
    def year_fraction(self) -> Array:
        """Part of the year that has passed, 0 to 1, [length]."""
        year_starts = self.times.astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
        return np.minimum((self.days - year_starts + self.hour / 24) / DAYS_PER_YEAR, 1.0)

    @cached_property
    def day_index(self) -> NDArray[np.int64]:
        """Number of each step's day within the series, from 0, int64 [length]."""
        return self.days - int(self.days[0])


def draw_period(random: np.random.Generator, grid: TimeGrid, *, arbitrary: float = 0.15) -> float:
    """A period in steps: a natural one, or any other with probability `arbitrary`.

    Other periods are log-uniform from 3 to a third of the series, as machines and sunspots have
    them; frequencies without natural periods (years) know only those.
    """
    if len(grid.periods) == 0 or random.random() < arbitrary:
        return float(np.exp(random.uniform(np.log(3.0), np.log(max(4.0, grid.length / 3)))))
    return float(random.choice(grid.periods, p=grid.period_weights))


def draw_start(random: np.random.Generator, freq: Frequency) -> np.datetime64:
    """A start from 1950 (steps below a day: 1990) to 2024 on the grid of `freq`. datetime64[us].

    Ticks start on a multiple of their step since midnight, weeks on the anchor's weekday, months
    and longer on the first or last day that the alias means.
    """
    below_a_day = freq.unit in TICK_MICROSECONDS and freq.unit != "D"
    first = np.datetime64(str(FIRST_YEAR_WITHIN_DAYS if below_a_day else FIRST_YEAR), "D")
    last = np.datetime64(str(LAST_YEAR + 1), "D")
    day: np.datetime64 = first + int(random.integers((last - first).astype(int)))
    start: np.datetime64 = day.astype("datetime64[us]")
    if below_a_day:
        step = TICK_MICROSECONDS[freq.unit] * freq.multiple
        count = max(1, TICK_MICROSECONDS["D"] // step)
        if random.random() < 0.5:  # the others begin at midnight, as files often do
            start += np.timedelta64(int(random.integers(count)) * step, "us")
    elif freq.unit == "B":
        start = np.busday_offset(day, 0, roll="backward").astype("datetime64[us]")
    elif freq.unit == "W":
        weekday = (int(day.astype(np.int64)) + 3) % 7
        start -= np.timedelta64((weekday - freq.anchor) % 7, "D")
    elif freq.unit in PERIOD_MONTHS:
        month, size = day.astype("datetime64[M]"), PERIOD_MONTHS[freq.unit]
        # Months count from 1970-01; a period ends in the anchor's month and every `size` from it.
        month -= (int(month.astype(np.int64)) + 1 - freq.anchor) % size
        if freq.alias.split("-")[0].endswith("S"):
            start = (month - (size - 1)).astype("datetime64[us]")
        else:
            start = ((month + 1).astype("datetime64[D]") - 1).astype("datetime64[us]")
    return start
