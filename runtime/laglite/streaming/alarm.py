"""The alarm: which values lie too far in the tails of what was predicted."""

from __future__ import annotations

import math
from typing import Any

from laglite.errors import InputError

RATE_STEP = 0.25  # of the level's logarithm, for each alarm
LEAST_SHARE, GREATEST_SHARE = 0.01, 20.0  # of the rate: where the level stays
LARGEST_LEVEL = 0.5


class Alarm:
    """Two-sided: a value is outside if its cdf is below level / 2 or above 1 - level / 2.

    The level is the false-alarm `rate`, which is right for a calibrated model. With `adaptive` it
    follows what is seen, as adaptive conformal inference does (Gibbs & Candès 2021), in logarithms:
    each value moves log(level) by 0.25 (rate - alarm). An alarm lowers it, calm raises it, so that
    over many values the share of alarms is the rate, whatever the model's calibration.
    """

    def __init__(self, rate: float, adaptive: bool) -> None:
        """Raises InputError for a rate outside (0, 0.5]."""
        if not 0 < rate <= LARGEST_LEVEL:
            raise InputError(f"alarm_rate must lie between 0 and {LARGEST_LEVEL}, not {rate!r}")
        self.rate, self.adaptive = rate, adaptive
        self.level = rate

    def judge(self, cdf: float) -> bool:
        """Whether a value with this cdf is outside; a missing one (NaN) never is."""
        if math.isnan(cdf):
            return False
        outside = cdf < self.level / 2 or cdf > 1 - self.level / 2
        if self.adaptive:
            level = self.level * math.exp(RATE_STEP * (self.rate - outside))
            most = min(GREATEST_SHARE * self.rate, LARGEST_LEVEL)
            self.level = min(max(level, LEAST_SHARE * self.rate), most)
        return outside

    def state(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"rate": self.rate, "adaptive": self.adaptive, "level": self.level}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Alarm:
        """What `state` gave."""
        alarm = cls(state["rate"], state["adaptive"])
        alarm.level = state["level"]
        return alarm
