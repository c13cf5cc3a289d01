"""A series as it was read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laglite.frequency import Frequency
from laglite.time_zone import TimeZone


@dataclass(frozen=True)
class InputSeries:
    """One series as read: values float64 [length], and its time axis where it has one.

    `covariates` float64 [length + steps ahead, num], NaN where missing; None if none were named.
    `start` is wall-clock time; `zone` says how its times are told, None if nothing is known of it.
    """

    item_id: str | None
    values: NDArray[np.float64]
    start: np.datetime64 | None
    freq: Frequency | None
    covariates: NDArray[np.float64] | None = None
    zone: TimeZone | None = None
