"""Frequency aliases and timestamps: pandas' names, on `numpy.datetime64`, without pandas."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.errors import FrequencyError, InputError

Timestamps = NDArray[np.datetime64]

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
TICK_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "D": 86_400_000_000,
}
PERIOD_MONTHS = {"M": 1, "Q": 3, "Y": 12}
YEAR_MICROSECONDS = 31_556_952_000_000
ISO_YEARS = (1, 9999)  # that Python and ISO text can say
EXACT_YEARS = (-200_000, 200_000)  # well within what datetime64[us] can hold
_TICKS = {"U": "us", "L": "ms", "S": "s", "T": "min", "H": "h", **{t: t for t in TICK_MICROSECONDS}}
_PERIODS = {
    "M": "M", "ME": "M", "MS": "M",
    "Q": "Q", "QE": "Q", "QS": "Q",
    "Y": "Y", "YE": "Y", "YS": "Y", "A": "Y", "AS": "Y",
}  # fmt: skip
_ALIAS = re.compile(r"(\d*)([A-Za-z]+)(?:-([A-Z]{3}))?")
_OFFSET = re.compile(r"(:\d{2}(?:\.\d+)?[+-]\d{2})(\d{2})?$")  # +0200, +02: not for Python 3.10
LEAST_TIMES = 3  # that tell a frequency
LARGEST_MULTIPLE = 1_000_000
SUPPORTED = "us ms s min h D B W W-SUN..W-SAT M MS ME Q QS QE Y YS YE A, with multiples (15min)"


@dataclass(frozen=True)
class Frequency:
    """A parsed alias.

    `unit` is one of us ms s min h D B W M Q Y, `multiple` how many of them make a step.
    `anchor` is the last day of the week (Monday 0) for W, the month (1..12) in which the year or
    one of the quarters ends for Q and Y, and 0 elsewhere. `alias` is the text as given.
    """

    unit: str
    multiple: int
    anchor: int
    alias: str


def parse_frequency(alias: object) -> Frequency:
    """Read a pandas alias, old or new (`T` or `min`, `M` or `ME`), or a pandas offset object.

    Raises FrequencyError for anything else.
    """
    text = str(getattr(alias, "freqstr", alias)).strip()
    match = _ALIAS.fullmatch(text)
    unknown = FrequencyError(f"frequency {text!r} is not known; supported: {SUPPORTED}")
    if match is None:
        raise unknown
    count, name, anchor = match.groups()
    multiple = int(count) if count else 1
    if not 1 <= multiple <= LARGEST_MULTIPLE:
        raise FrequencyError(f"frequency {text!r}: the multiple must be 1 to {LARGEST_MULTIPLE:,}")
    if name in _TICKS and anchor is None:
        return Frequency(_TICKS[name], multiple, 0, text)
    if name == "B" and anchor is None:
        return Frequency("B", multiple, 0, text)
    if name == "W" and (anchor is None or anchor in WEEKDAYS):
        return Frequency("W", multiple, WEEKDAYS.index(anchor or "SUN"), text)
    if name in _PERIODS and (anchor is None or (name[0] != "M" and anchor in MONTHS)):
        unit = _PERIODS[name]
        if name.endswith("S"):  # anchored on the first month: the year ends a month before it
            end = MONTHS.index(anchor or "JAN") or 12
        else:
            end = MONTHS.index(anchor or "DEC") + 1
        return Frequency(unit, multiple, 0 if unit == "M" else end, text)
    raise unknown


def parse_timestamp(value: Any) -> np.datetime64:
    """A point in time as `datetime64[us]`.

    Takes datetime64, datetime and date, pandas Timestamp and Period, and ISO text (`2021`,
    `2021-03`, `2021-03-04`, `2021-03-04 05:00`). A time zone is dropped: the wall-clock time
    stays, since that is what the calendar features mean. Raises InputError.
    """
    stamp: np.datetime64
    try:
        if hasattr(value, "to_timestamp"):
            value = value.to_timestamp()
        if isinstance(value, str):
            text = value.strip()
            if re.fullmatch(r"\d{4}(-\d{2})?", text):
                stamp = np.datetime64(text, "us")
            else:
                stamp = np.datetime64(_from_iso(text).replace(tzinfo=None), "us")
        elif isinstance(value, datetime):
            stamp = np.datetime64(value.replace(tzinfo=None), "us")
        elif isinstance(value, date):
            stamp = np.datetime64(value, "us")
        elif isinstance(value, np.datetime64):
            stamp = value.astype("datetime64[us]")
        else:
            stamp = np.datetime64("NaT")
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{value!r} is not a timestamp; write ISO dates such as 2021-03-04 or 2021-03-04 05:00"
        ) from error
    if np.isnat(stamp):
        raise InputError(f"{value!r} is not a point in time; write ISO dates such as 2021-03-04")
    return stamp


def _from_iso(text: str) -> datetime:
    """Raises ValueError."""
    text = re.sub(r"[Zz]$", "+00:00", text.replace("/", "-"))
    text = _OFFSET.sub(lambda found: f"{found[1]}:{found[2] or '00'}", text)
    if re.match(r"\d{4}-\d{2}-\d{2}[^Tt ]", text):  # fromisoformat takes any character there
        raise ValueError(text)
    return datetime.fromisoformat(text)


def timestamps(start: np.datetime64, freq: Frequency, first: int, count: int) -> Timestamps:
    """The times of steps `first .. first + count - 1`, step 0 being at `start`.

    `first` may be negative. Months keep the day of `start`, or stay on the last day of the month
    if `start` is on one and the alias does not say month starts. Returns datetime64[us] [count].
    """
    return timestamps_at(start, freq, np.arange(first, first + count, dtype=np.int64))


def timestamps_at(start: np.datetime64, freq: Frequency, steps: NDArray[np.int64]) -> Timestamps:
    """The times of any `steps`, as `timestamps` has them. Returns datetime64[us] [count].

    Raises FrequencyError for times outside the years 1 to 9999.
    """
    check_years(start, freq, steps, ISO_YEARS)
    steps = steps * freq.multiple
    start = start.astype("datetime64[us]")
    if freq.unit in TICK_MICROSECONDS:
        return start + (steps * TICK_MICROSECONDS[freq.unit]).astype("timedelta64[us]")
    if freq.unit == "W":
        return start + (steps * 7 * TICK_MICROSECONDS["D"]).astype("timedelta64[us]")
    day = start.astype("datetime64[D]")
    time_of_day = start - day
    if freq.unit == "B":
        days = np.busday_offset(day, steps, roll="forward")
    else:
        month = day.astype("datetime64[M]")
        months = month + (steps * PERIOD_MONTHS[freq.unit]).astype("timedelta64[M]")
        days = _day_of_month(day, month, months, freq)
    stamps: Timestamps = days.astype("datetime64[us]") + time_of_day
    return stamps


def check_years(
    start: np.datetime64, freq: Frequency, steps: NDArray[np.int64], within: tuple[int, int]
) -> None:
    """Raises FrequencyError for steps whose times lie outside the years, and may overflow."""
    first, last = within
    low, high = np.array([first - 1970, last - 1969], "datetime64[Y]").astype("datetime64[us]")
    origin = int(start.astype("datetime64[us]").astype(np.int64))
    for step in (int(steps.min(initial=0)), int(steps.max(initial=0))):
        moment = origin + step * freq.multiple * _step_microseconds(freq)
        if not int(low.astype(np.int64)) <= moment < int(high.astype(np.int64)):
            raise FrequencyError(
                f"step {step:,} of frequency {freq.alias!r} from {format_timestamp(start)} lies "
                f"outside the years {first} to {last}; is the frequency right?"
            )


def _step_microseconds(freq: Frequency) -> int:
    """How long a unit of a frequency is, on average."""
    if freq.unit in PERIOD_MONTHS:
        return PERIOD_MONTHS[freq.unit] * YEAR_MICROSECONDS // 12
    day = TICK_MICROSECONDS["D"]
    lengths = {**TICK_MICROSECONDS, "B": day * 7 // 5, "W": 7 * day}
    return lengths[freq.unit]


def _day_of_month(
    day: np.datetime64, month: np.datetime64, months: Timestamps, freq: Frequency
) -> Timestamps:
    """The day in each of `months` that corresponds to `day` of `month`. datetime64[D] [count]."""
    last_days = (months + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
    at_month_end = (day + np.timedelta64(1, "D")).astype("datetime64[M]") != month
    if at_month_end and not freq.alias.split("-")[0].endswith("S"):
        return last_days
    days = months.astype("datetime64[D]") + (day - month.astype("datetime64[D]"))
    kept: Timestamps = np.minimum(days, last_days)
    return kept


def step_numbers(times: Timestamps, freq: Frequency) -> NDArray[np.int64]:
    """Number of steps of `freq` from `times[0]` to each of `times` [count], rounded down.

    A caller checks the grid by comparing `timestamps` at these steps with the times.
    """
    first = times[0]
    if freq.unit in TICK_MICROSECONDS or freq.unit == "W":
        unit = TICK_MICROSECONDS["D"] * 7 if freq.unit == "W" else TICK_MICROSECONDS[freq.unit]
        units = (times - first).astype("timedelta64[us]").astype(np.int64) // unit
    elif freq.unit == "B":
        days = times.astype("datetime64[D]")
        units = np.busday_count(days[0], days).astype(np.int64)
    else:
        months = times.astype("datetime64[M]").astype(np.int64)
        units = (months - months[0]) // PERIOD_MONTHS[freq.unit]
    steps: NDArray[np.int64] = units // freq.multiple
    return steps


def infer_frequency(times: Timestamps) -> Frequency:
    """The coarsest alias on whose grid all of `times` (rising, distinct) lie.

    A gap is a missing value, so the step is the smallest distance seen, and every other time must
    be a whole number of steps away. Raises FrequencyError when there is none.
    """
    if len(times) < LEAST_TIMES:
        raise FrequencyError(
            f"too few timestamps ({len(times)}) to tell the frequency; give it (--freq, freq=)"
        )
    distances = np.diff(times)
    for alias in _candidates(times, distances.min()):
        freq = parse_frequency(alias)
        steps = step_numbers(times, freq)
        if np.array_equal(timestamps_at(times[0], freq, steps), times):
            return freq
    # Name the first time off the grid that most of the distances speak for.
    values, counts = np.unique(distances, return_counts=True)
    off = {}
    for alias in _candidates(times, values[counts.argmax()]):
        freq = parse_frequency(alias)
        off[alias] = timestamps_at(times[0], freq, step_numbers(times, freq)) != times
    best = min(off, key=lambda alias: int(off[alias].sum()))
    odd = times[int(off[best].argmax())]
    raise FrequencyError(
        f"the timestamps are not regular: {format_timestamp(odd)} is not on the grid of most, "
        f"{best!r} from {format_timestamp(times[0])}; resample the series, or give the frequency"
    )


def _candidates(times: Timestamps, step: np.timedelta64) -> list[str]:
    """Aliases of about `step` that are worth trying, coarse ones first."""
    smallest = int(step.astype("timedelta64[us]").astype(np.int64))
    day = TICK_MICROSECONDS["D"]
    days = times.astype("datetime64[D]")
    names: list[str] = []
    if smallest >= 28 * day:
        names += _month_aliases(days, round(smallest / (30.44 * day)))
    if smallest % (7 * day) == 0:
        weekday = WEEKDAYS[(int(days[0].astype(np.int64)) + 3) % 7]
        names.append(f"{_multiple(smallest // (7 * day))}W-{weekday}")
    if smallest == day and len(times) > 5 and bool(((days.astype(np.int64) + 3) % 7 < 5).all()):
        names.append("B")
    unit = next(unit for unit in reversed(TICK_MICROSECONDS)
                if smallest % TICK_MICROSECONDS[unit] == 0)  # fmt: skip
    return [*names, f"{_multiple(smallest // TICK_MICROSECONDS[unit])}{unit}"]


def _month_aliases(days: Timestamps, count: int) -> list[str]:
    """Aliases of `count` months, as years, quarters and months."""
    starts = bool((days == days.astype("datetime64[M]").astype("datetime64[D]")).mean() > 0.5)
    suffix = "S" if starts else "E"
    month = int(days[0].astype("datetime64[M]").astype(np.int64)) % 12
    names = []
    if count % 12 == 0:
        usual = month == (0 if starts else 11)
        anchor = "" if usual else f"-{MONTHS[month]}"
        names.append(f"{_multiple(count // 12)}Y{suffix}{anchor}")
    if count % 3 == 0:
        usual = month % 3 == (0 if starts else 2)
        anchor = "" if usual else f"-{MONTHS[month % 3]}"
        names.append(f"{_multiple(count // 3)}Q{suffix}{anchor}")
    return [*names, f"{_multiple(count)}M{suffix}"]


def _multiple(count: int) -> str:
    return "" if count == 1 else str(count)


def format_timestamp(stamp: np.datetime64) -> str:
    """ISO text without the parts that are zero: `2021-03-04`, `2021-03-04 05:00:00`."""
    return format_timestamps(np.array([stamp]))[0]


def format_timestamps(stamps: Timestamps) -> list[str]:
    """ISO texts in one format for all: dates where every time of day is midnight."""
    for unit in ("D", "s", "us"):
        rounded = stamps.astype(f"datetime64[{unit}]")
        if (rounded == stamps).all():
            break
    return [str(stamp).replace("T", " ") for stamp in rounded]
