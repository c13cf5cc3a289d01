"""Where a time axis has its ticks, and what they say, at every frequency."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.frequency import MONTHS, PERIOD_MONTHS, Frequency, Timestamps

YEARS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# Distances that people count by, the finest first: a unit of datetime64 and how many of them.
DISTANCES = (
    *(("us", count) for count in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(("ms", count) for count in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *((unit, count) for unit in ("s", "m") for count in (1, 2, 5, 10, 15, 30)),
    *(("h", count) for count in (1, 2, 3, 6, 12)),
    *(("D", count) for count in (1, 2, 4, 7, 14)),
    *(("M", count) for count in (1, 2, 3, 6)),
    *(("Y", count) for count in YEARS),
)
# The same for steps of months and more, in steps.
STRIDES = {
    "M": (1, 2, 3, 6, *(12 * years for years in YEARS)),
    "Q": (1, 2, *(4 * years for years in YEARS)),
    "Y": YEARS,
}
FIRST_MONDAY = 4  # days after 1970-01-01
INCHES_A_TICK = {"us": 1.3, "ms": 1.1, "s": 0.8}  # what a label needs
USUAL_INCHES, LEAST_TICKS = 0.6, 2


def set_time_axis(ax: Any, times: Timestamps, step: Frequency, width: float) -> None:
    """Give the x axis of matplotlib's `ax` ticks and labels that fit `width` inches.

    `times` are those of the steps shown. Months, quarters and years have ticks at steps: between
    two steps, the first day of a year would seem to belong to the wrong one.
    """
    most = max(LEAST_TICKS, int(width / INCHES_A_TICK.get(step.unit, USUAL_INCHES)))
    if step.unit in STRIDES:
        places = times[period_ticks(times, step.unit, most)]
        labels = tick_labels(places.astype(f"datetime64[{'Y' if step.unit == 'Y' else 'M'}]"))
    else:
        places = clock_ticks(times[0], times[-1], most)
        labels = tick_labels(places)
    ax.set_xticks(places, labels)


def clock_ticks(first: np.datetime64, last: np.datetime64, most: int) -> Timestamps:
    """At most `most` times from `first` to `last`, the shortest usual distance apart.

    One and two weeks apart they are Mondays.
    """
    finer: Timestamps = np.array([first])
    for unit, count in DISTANCES:
        kind = f"datetime64[{unit}]"
        low, high = (int(end.astype(kind).astype(np.int64)) for end in (first, last))
        zero = FIRST_MONDAY if (unit, count % 7) == ("D", 0) else -1970 if unit == "Y" else 0
        if (high - low) // count > 4 * most:
            continue
        numbers = np.arange(low + (zero - low) % count, high + 1, count)
        ticks: Timestamps = numbers.astype(kind).astype("datetime64[us]")
        ticks = ticks[ticks >= first]
        if len(ticks) <= most:
            break
        finer = ticks
    return ticks if 1 < len(ticks) <= most else _thinned(finer, most)


def period_ticks(times: Timestamps, unit: str, most: int) -> NDArray[np.int64]:
    """Places in `times` (months, quarters or years) of at most `most` ticks, an even stride apart.

    They lie on first months or quarters of years, and on round years, where there are such.
    """
    months = times.astype("datetime64[M]").astype(np.int64) + 1970 * 12
    numbers = months // PERIOD_MONTHS[unit]
    finer = np.arange(1)
    for stride in STRIDES[unit]:
        rests = numbers % stride
        found = np.flatnonzero(rests == (0 if (rests == 0).any() else rests[0]))
        if len(found) <= most:
            break
        finer = found
    return found if 1 < len(found) <= most else _thinned(finer, most)


def _thinned(ticks: NDArray[Any], most: int) -> NDArray[Any]:
    """At most `most` of too many ticks, evenly apart."""
    return ticks[:: -(-len(ticks) // most)]


def tick_labels(ticks: Timestamps) -> list[str]:
    """One or two lines for each of `ticks`: the finest unit that tells them apart, and under it, at
    the first tick and where it changes, the larger one that the upper line does not say.
    """
    ticks = ticks.astype("datetime64[us]")
    days, months = ticks.astype("datetime64[D]"), ticks.astype("datetime64[M]")
    years = [str(year) for year in ticks.astype("datetime64[Y]")]
    month_numbers = months.astype(np.int64) % 12
    names = [MONTHS[month].title() for month in month_numbers]
    of_month = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    if (ticks != days).any():
        upper = _clock(ticks)
        lower = [f"{day} {name}" for day, name in zip(of_month, names, strict=True)]
    elif (of_month != 1).any():
        upper, lower = [str(day) for day in of_month], names
    elif (month_numbers != month_numbers[0]).any() or (len(ticks) == 1 and month_numbers[0]):
        upper, lower, years = names, years, [""] * len(ticks)
    else:
        return years
    labels = []
    said = said_year = None
    for top, below, year in zip(upper, lower, years, strict=True):
        changed, new_year = (below, year) != (said, said_year), year != said_year
        parts = [below, year if new_year else ""] if changed else []
        labels.append("\n".join(filter(None, [top, " ".join(filter(None, parts))])))
        said, said_year = below, year
    return labels


def _clock(ticks: Timestamps) -> list[str]:
    """Times of day, all as fine as the finest needs."""
    for unit in ("m", "s", "ms", "us"):
        rounded = ticks.astype(f"datetime64[{unit}]")
        if (rounded == ticks).all():
            break
    return [str(stamp).partition("T")[2] for stamp in rounded]
