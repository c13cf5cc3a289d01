"""Columns of times: wall clock and UTC offset of each row, and the regular clock of a series.

Where the UTC offset changes within a series, as summer time does, hours are regular in real time
and days are regular by the wall clock. The clock that leaves fewer gaps is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.errors import FrequencyError, InputError
from laglite.frequency import (
    Frequency,
    Timestamps,
    format_timestamp,
    infer_frequency,
    parse_timestamp,
    step_numbers,
    timestamps_at,
)
from laglite.reading.columns import TableForm
from laglite.reading.dates import as_iso, find_date_order
from laglite.reading.tables import Note, Table
from laglite.time_zone import (
    Offsets,
    TimeZone,
    both_offsets,
    fixed_offset,
    named_zone,
    zone_offsets,
)

SHORTER_THAN_DAYS = ("us", "ms", "s", "min", "h")


@dataclass(frozen=True)
class Times:
    """A column of times.

    `wall` datetime64[us] [rows] is the wall clock, `offsets` timedelta64[us] [rows] what it is
    ahead of UTC, None where nothing is known of it. `zone` is the name of the zone, None where
    there is none or offsets alone.
    """

    wall: Timestamps
    offsets: Offsets | None = None
    zone: str | None = None

    def of(self, where: str, index: NDArray[np.int64], rows: NDArray[np.int64]) -> Times:
        """Those of one series, with the offsets of its zone. Raises InputError."""
        wall = self.wall[index]
        if self.offsets is not None:
            return Times(wall, self.offsets[index], self.zone)
        if self.zone is None:
            return Times(wall)
        return Times(wall, _localise(where, wall, self.zone, rows), self.zone)

    def sorted(self) -> tuple[Times, NDArray[np.int64]]:
        """The times in their order, and the places they come from."""
        moments = self.wall if self.offsets is None else self.wall - self.offsets
        order = np.argsort(moments, kind="stable")
        offsets = None if self.offsets is None else self.offsets[order]
        return Times(self.wall[order], offsets, self.zone), order

    def clock(self, freq: Frequency | None) -> Timestamps:
        """Wall-clock times [rows] on which the series is regular, if it is."""
        if self.offsets is None:
            return self.wall
        steady = self.wall - self.offsets + self.offsets[-1]
        changes = bool((steady != self.wall).any())
        return self.wall if changes and _gaps(self.wall, freq) < _gaps(steady, freq) else steady

    def zone_of(self, clock: Timestamps, freq: Frequency) -> TimeZone | None:
        """The zone of the axis that `clock` gave and that has steps of `freq`.

        Where a zone is named, days keep to its clock, also beyond the next change.
        """
        if self.offsets is None:
            return None
        last = self.offsets[-1]
        by_zone = (clock == self.wall).all() and (
            freq.unit not in SHORTER_THAN_DAYS or (self.offsets != last).any()
        )
        if self.zone is not None and by_zone:
            return TimeZone(self.zone, None)
        return TimeZone(self.zone or _offset_name(last), last)


def read_times(table: Table, name: str, form: TableForm, note: Note) -> Times:
    """A column of times. Raises InputError that names the cell, or for an unknown zone."""
    time_zone = form.time_zone
    if time_zone is not None:
        named_zone(time_zone)
    zoned = table.zones.get(name)
    cells = table.column(name)
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        wall = cells.astype("datetime64[us]")
        if np.isnat(wall).any():
            place = int(np.isnat(wall).argmax())
            raise InputError(f"{table.where(place, name)}: the time is missing")
        offsets = None if zoned is None else zoned.offsets
    else:
        order = form.date_order or find_date_order(table, name, note)
        wall, offsets = _parse(table, name, [as_iso(cell, order) for cell in cells])
    if offsets is not None and time_zone is not None:
        instants = wall - offsets
        offsets = zone_offsets(instants, time_zone)
        wall = instants + offsets
    zone = time_zone or (None if zoned is None else zoned.name)
    if offsets is not None or zone is not None:
        note(_describe(offsets, zone))
    return Times(wall, offsets, zone)


def _parse(table: Table, name: str, cells: Any) -> tuple[Timestamps, Offsets | None]:
    """Wall clock and offsets of texts or Python objects."""
    wall = np.empty(len(cells), "datetime64[us]")
    suffixes = []
    for place, cell in enumerate(cells):
        try:
            wall[place] = parse_timestamp(cell)
        except InputError as error:
            raise InputError(f"{table.where(place, name)}: {error}") from error
        suffixes.append(_suffix(cell))
    with_offset = [bool(suffix) for suffix in suffixes]
    if not any(with_offset):
        return wall, None
    if not all(with_offset):
        place = with_offset.index(not with_offset[0])
        kind = "without" if with_offset[0] else "with"
        raise InputError(
            f"{table.where(place, name)}: a time {kind} a UTC offset, unlike those before it; "
            "write all times with their offset, or none"
        )
    known = {suffix: fixed_offset(suffix) for suffix in set(suffixes)}
    return wall, np.array([known[suffix] for suffix in suffixes], "timedelta64[us]")


def _suffix(cell: Any) -> str:
    """The UTC offset at the end of an ISO time, "" if it has none."""
    text = str(cell).strip()
    if text.endswith(("Z", "z")):
        return "Z"
    clock = text[10:]
    sign = max(clock.rfind("+"), clock.rfind("-"))
    return clock[sign:] if sign > 0 else ""


def _localise(where: str, wall: Timestamps, zone: str, rows: NDArray[np.int64]) -> Offsets:
    """Offsets of wall-clock times [rows]; in a repeated hour the order of the rows decides.

    Raises InputError for a time that the zone's clock skips.
    """
    first, second = both_offsets(wall, zone)
    skipped = first < second
    if skipped.any():
        at = int(skipped.argmax())
        raise InputError(
            f"{where}, row {rows[at]}: {format_timestamp(wall[at])} does not exist in {zone}, "
            "where clocks are put forward then; is the time zone right?"
        )
    offsets: Offsets = first.copy()
    for at in np.flatnonzero(first > second).tolist():
        if at and wall[at] - first[at] <= wall[at - 1] - offsets[at - 1]:
            offsets[at] = second[at]
    return offsets


def _gaps(times: Timestamps, freq: Frequency | None) -> float:
    """How many steps lack a row on the regular grid of `times`; infinite if they have none."""
    if len(times) < 2 or (np.diff(times).astype(np.int64) <= 0).any():
        return np.inf
    try:
        step = infer_frequency(times) if freq is None else freq
    except FrequencyError:
        return np.inf
    steps = step_numbers(times, step)
    if (timestamps_at(times[0], step, steps) != times).any():
        return np.inf
    return float(steps[-1] + 1 - len(times))


def _offset_name(offset: np.timedelta64) -> str:
    minutes = int(offset.astype(np.int64)) // 60_000_000
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _describe(offsets: Offsets | None, zone: str | None) -> str:
    kept = "calendar features follow its wall clock, and forecasts keep it"
    if zone is not None:
        return f"time zone {zone}: {kept}"
    names = [] if offsets is None else [_offset_name(offset) for offset in np.unique(offsets)]
    if len(names) == 1:
        return f"UTC offset {names[0]}: {kept}"
    return (
        f"UTC offsets {', '.join(names[:5])} in one column: hours are taken in real time and days "
        "by the wall clock; forecasts have the offset of their series' last row"
    )
