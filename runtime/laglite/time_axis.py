"""Where a time axis has its ticks, and what they say, at every frequency."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.figures import require_matplotlib
from laglite.frequency import MONTHS, PERIOD_MONTHS, Frequency, Timestamps

# Distances of ticks, in periods: those of whole years first in steps that people count by.
STRIDES = {
    "M": (1, 3, 6, *(12 * years for years in (1, 2, 5, 10, 20, 50, 100, 200, 500))),
    "Q": (1, 2, *(4 * years for years in (1, 2, 5, 10, 20, 50, 100, 200, 500))),
    "Y": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
}


def set_time_axis(ax: Any, times: Timestamps, step: Frequency, most: int) -> None:
    """Give the x axis of matplotlib's `ax` at most about `most` ticks.

    `times` are those of the steps shown. Months, quarters and years have ticks at steps: between
    two steps, the first day of a year would seem to belong to the wrong one.
    """
    matplotlib = require_matplotlib()
    periodic = step.unit in STRIDES
    if periodic:
        places = times[period_ticks(times, step.unit, most)]
        locator = matplotlib.ticker.FixedLocator(matplotlib.dates.date2num(places))
    else:
        locator = matplotlib.dates.AutoDateLocator(minticks=2, maxticks=most)

    def label(value: float, place: int | None) -> str:
        if place is None:  # under the pointer of an interactive window
            return str(matplotlib.dates.num2date(value).replace(tzinfo=None))
        shown = [each.replace(tzinfo=None) for each in matplotlib.dates.num2date(formatter.locs)]
        stamps = np.array(shown, "datetime64[us]")
        if periodic:
            stamps = stamps.astype(f"datetime64[{'Y' if step.unit == 'Y' else 'M'}]")
        return tick_labels(stamps.astype("datetime64[us]"))[place]

    formatter = matplotlib.ticker.FuncFormatter(label)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(formatter)


def period_ticks(times: Timestamps, unit: str, most: int) -> NDArray[np.int64]:
    """Places in `times` (months, quarters or years) of at most `most` ticks, an even stride apart.

    They lie on first months or quarters of years, and on round years, where there are such.
    """
    months = times.astype("datetime64[M]").astype(np.int64) + 1970 * 12
    numbers = months // PERIOD_MONTHS[unit]
    for stride in STRIDES[unit]:
        rests = numbers % stride
        found = np.flatnonzero(rests == (0 if (rests == 0).any() else rests[0]))
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]


def tick_labels(ticks: Timestamps) -> list[str]:
    """Two lines for each of `ticks`: the finest unit that tells them apart, and under it, at the
    first tick and where it changes, the larger one that the upper line does not say."""
    if len(ticks) == 0:
        return []
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
    elif (month_numbers != month_numbers[0]).any():
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
