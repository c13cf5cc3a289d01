"""Rows to regular grids: absent times are missing values; a time that fits nowhere is an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laglite.errors import FrequencyError, InputError
from laglite.frequency import (
    Frequency,
    Timestamps,
    format_timestamp,
    infer_frequency,
    step_numbers,
    timestamps_at,
)
from laglite.reading.tables import Note

LONGEST_GRID = 1_000_000
HOUR = np.timedelta64(1, "h")
CHANGE_MONTHS = (3, 4, 9, 10, 11)  # summer time begins or ends, north or south
STEP_NAMES = {
    "us": "microsecond", "ms": "millisecond", "s": "second", "min": "minute", "h": "hour",
    "D": "day", "B": "business day", "W": "week", "M": "month", "Q": "quarter", "Y": "year",
}  # fmt: skip
ZONE_ADVICE = (
    "write times in UTC or with their UTC offset (2024-10-27T02:00+02:00), or give the time zone "
    "(--time-zone Europe/Berlin, time_zone=)"
)


@dataclass(frozen=True)
class Grid:
    """Rows on the regular grid of their series.

    `values` float64 [steps, columns], NaN where no row is; `steps` int64 [rows - 1] are the
    distances of the rows, in steps.
    """

    values: NDArray[np.float64]
    start: np.datetime64
    freq: Frequency
    steps: NDArray[np.int64]


def on_grid(
    where: str,
    times: Timestamps,
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    given: Frequency | None,
    note: Note,
    *,
    zoned: bool,
    most_steps: int | None = None,
) -> Grid:
    """Put values [rows, columns] on the grid of their wall-clock `times`; `rows` are for messages.

    `zoned` says that the times' zone is known. Raises InputError, FrequencyError; also for more
    than `most_steps`.
    """
    _check_rising(where, times, rows, zoned=zoned)
    try:
        freq = infer_frequency(times) if given is None else given
    except FrequencyError as error:
        raise FrequencyError(f"{where}: {error}") from error
    steps = step_numbers(times, freq)
    span = int(steps[-1]) + 1
    if span > max(LONGEST_GRID, 100 * len(times)):
        raise FrequencyError(
            f"{where}: {len(times)} rows span {span:,} steps of frequency {freq.alias!r}; "
            "is the frequency right?"
        )
    if most_steps is not None and span > most_steps:
        raise InputError(
            f"{where}: {len(times)} rows span {span:,} steps of frequency {freq.alias!r}, but "
            f"{most_steps:,} can still be taken; send fewer rows, or check the times"
        )
    closest = int(np.diff(steps).min()) if len(times) > 2 else 1
    if closest > 1:
        raise FrequencyError(
            f"{where}: the closest rows are {closest} steps of frequency {freq.alias!r} apart; "
            "is the frequency right?"
        )
    off = timestamps_at(times[0], freq, steps) != times
    off[1:] |= np.diff(steps) < 1
    if off.any():
        at = int(off.argmax())
        raise FrequencyError(
            f"{where}, row {rows[at]}: {format_timestamp(times[at])} is not on the grid of "
            f"frequency {freq.alias!r} from {format_timestamp(times[0])}"
        )
    filled = np.full((span, values.shape[1]), np.nan)
    filled[steps] = values
    absent = timestamps_at(times[0], freq, np.setdiff1d(np.arange(span), steps))
    if len(absent):
        first = format_timestamp(absent[0])
        count = "1 timestamp is" if len(absent) == 1 else f"{len(absent)} timestamps are"
        note(f"{where}: {count} absent, taken as missing values (first: {first})")
        spring = None if zoned else _skipped_hour(times)
        if spring is not None:
            note(
                f"{where}: the hour from {format_timestamp(spring)} is absent, as where clocks are "
                f"put forward; if they were, it is not missing: {ZONE_ADVICE}"
            )
    return Grid(filled, times[0], freq, np.diff(steps))


def describe_frequencies(grids: Sequence[Grid]) -> str:
    """What frequencies were found, and the evidence for each."""
    count = Counter(grid.freq.alias for grid in grids)
    parts = []
    for alias, number in count.most_common():
        some = [grid for grid in grids if grid.freq.alias == alias]
        which = "" if len(count) == 1 else f" for {number}"
        parts.append(f"{alias!r}{which} ({_evidence(some[0].freq, [one.steps for one in some])})")
    return f"frequency {', '.join(parts)}, from the timestamps"


def _evidence(freq: Frequency, steps: Iterable[NDArray[np.int64]]) -> str:
    """How many distances are one step; and the usual one, if it is another."""
    distances, counts = np.unique(np.concatenate(list(steps)), return_counts=True)
    single, total = int(counts[distances == 1].sum()), int(counts.sum())
    share = f"all {total:,}" if single == total else f"{single:,} of {total:,}"
    usual = int(distances[counts.argmax()])
    found = f"{share} steps are {_length(freq, 1)}"
    if usual == 1:
        return found
    return f"{found}, most are {_length(freq, usual)}: if that is right, give it (--freq, freq=)"


def _length(freq: Frequency, steps: int) -> str:
    number = steps * freq.multiple
    return f"{number} {STEP_NAMES[freq.unit]}{'s' if number > 1 else ''}"


def _check_rising(where: str, times: Timestamps, rows: NDArray[np.int64], *, zoned: bool) -> None:
    gaps = np.diff(times).astype(np.int64)
    if (gaps > 0).all():
        return
    at = int((gaps <= 0).argmax()) + 1
    stamp = format_timestamp(times[at])
    if not zoned and _is_repeated_hour(times, at):
        raise InputError(
            f"{where}, row {rows[at]}: {stamp} comes a second time, as in the hour that clocks "
            f"show twice when they are put back; {ZONE_ADVICE}"
        )
    if gaps[at - 1] == 0:
        raise InputError(f"{where}, row {rows[at]}: {stamp} appears twice; keep one value")
    raise InputError(
        f"{where}, row {rows[at]}: {stamp} comes after {format_timestamp(times[at - 1])}; "
        "sort the rows by time"
    )


def _is_repeated_hour(times: Timestamps, at: int) -> bool:
    """Whether the rows from `at` on show an hour of an autumn or spring night again."""
    step = times[at - 1] - times[at - 2] if at > 1 else np.timedelta64(0, "us")
    back = times[at - 1] + step - times[at]
    return bool(np.timedelta64(0) < step <= HOUR and back == HOUR and _may_change(times[at]))


def _skipped_hour(times: Timestamps) -> np.datetime64 | None:
    """The first hour that a night of a clock change leaves out, if nothing else does."""
    gaps = np.diff(times)
    if len(gaps) < 2:
        return None
    step = gaps.min()
    for at in np.flatnonzero(gaps == step + HOUR):
        absent: np.datetime64 = times[at] + step
        if step <= HOUR and _may_change(absent):
            return absent
    return None


def _may_change(stamp: np.datetime64) -> bool:
    """Whether clocks change at about this time somewhere: weekend nights of spring and autumn."""
    moment = stamp.astype("datetime64[us]").item()
    return moment.month in CHANGE_MONTHS and moment.weekday() in (5, 6) and moment.hour < 4
