"""Time zones of series: from the wall clock of a regular time axis to UTC, and to text.

A series' axis is wall-clock time, since that is what calendar features mean. `TimeZone` says how
the times of its forecast are told with their UTC offset.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.frequency import Timestamps

Offsets = NDArray[np.timedelta64]
_FIXED = re.compile(r"([+-])(\d{2}):?(\d{2})?(?::?(\d{2}))?")


@dataclass(frozen=True)
class TimeZone:
    """The zone of a series' times.

    `name` is IANA's, "UTC" or an offset such as "+02:00". `offset` is what the wall clock of the
    whole axis is ahead of UTC; None where the axis follows the clock of the zone, which changes.
    """

    name: str
    offset: np.timedelta64 | None

    def instants(self, wall: Timestamps) -> Timestamps:
        """UTC of times on the axis, datetime64[us]."""
        if self.offset is not None:
            return wall - self.offset
        zone = named_zone(self.name)
        return wall - _offsets([_naive(stamp).replace(tzinfo=zone) for stamp in wall])

    def texts(self, wall: Timestamps) -> list[str]:
        """ISO texts with offset, `2024-10-27 02:00:00+01:00`, of times on the axis."""
        zone = named_zone(self.name)
        local = (
            _naive(stamp).replace(tzinfo=timezone.utc).astimezone(zone)
            for stamp in self.instants(wall)
        )
        return [stamp.isoformat(" ") for stamp in local]


def named_zone(name: str) -> tzinfo:
    """The zone of an IANA name, or of an offset. Raises InputError."""
    if name in ("UTC", "Z", "z"):
        return timezone.utc
    fixed = _FIXED.fullmatch(name)
    if fixed is not None:
        sign, *parts = fixed.groups("0")
        hours, minutes, seconds = map(int, parts)
        ahead = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if ahead >= timedelta(days=1):
            raise InputError(f"UTC offset {name!r} is a day or more")
        return timezone(-ahead if sign == "-" else ahead)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # unknown, a path, no data base
        raise InputError(
            f"time zone {name!r} is not known; write a name such as Europe/Berlin "
            "(pip install tzdata, if this system has no time zone data)"
        ) from error


def fixed_offset(text: str) -> np.timedelta64:
    """What "+02:00" is ahead of UTC."""
    ahead = named_zone(text).utcoffset(None)
    return np.timedelta64(ahead or timedelta(0), "us")


def zone_offsets(instants: Timestamps, name: str) -> Offsets:
    """What the clock of a zone is ahead of UTC at each instant, timedelta64[us] [count]."""
    zone = named_zone(name)
    utc = (_naive(stamp).replace(tzinfo=timezone.utc) for stamp in instants)
    return _offsets([stamp.astimezone(zone) for stamp in utc])


def both_offsets(wall: Timestamps, name: str) -> tuple[Offsets, Offsets]:
    """Offsets of a zone at wall-clock times: as the first and as the second of a repeated hour.

    They differ in hours that the clock shows twice (the first is larger), and in those it skips
    (the first is smaller). timedelta64[us] [count] each.
    """
    zone = named_zone(name)
    local = [_naive(stamp).replace(tzinfo=zone) for stamp in wall]
    return _offsets(local), _offsets([stamp.replace(fold=1) for stamp in local])


def _offsets(local: Sequence[datetime]) -> Offsets:
    offsets: Offsets = np.array([stamp.utcoffset() for stamp in local], "timedelta64[us]")
    return offsets


def _naive(stamp: np.datetime64) -> datetime:
    moment = stamp.astype("datetime64[us]").item()
    if not isinstance(moment, datetime) or not 1 < moment.year < 9999:  # where zones overflow
        raise InputError(f"{stamp}: time zones are known for the years 2 to 9998")
    return moment
