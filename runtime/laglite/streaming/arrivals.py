"""Arrivals: where in a regular grid a message's time lies, and which messages come too late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laglite.frequency import step_numbers, timestamps
from laglite.streaming.stream import Stream

LONGEST_GAP = 100_000  # steps


@dataclass(frozen=True)
class Arrival:
    """How many steps without a value come before a message; or why it is left out."""

    gap: int = 0
    refused: str | None = None


class Arrivals:
    """Places times on the grid of a stream.

    A time before the next one is a duplicate where its step has a value and late where it has
    none; one between two steps is off the grid. A time more than 100,000 steps ahead is taken for
    wrong, unless the message after it lies ahead of that one: then the series has moved there.
    """

    def __init__(self, ahead: int | None = None) -> None:
        self.ahead = ahead
        """The step of the last message if it was too far ahead."""

    def place(self, stream: Stream, time: np.datetime64) -> Arrival:
        """Where `time` lies."""
        start, freq = stream.axis.start, stream.axis.freq
        if start is None or freq is None:
            return Arrival(refused="time after messages without")
        step = int(step_numbers(np.array([start, time]), freq)[1])
        if timestamps(start, freq, step, 1)[0] != time:
            return Arrival(refused="off the grid")
        gap = step - stream.passed
        before, self.ahead = self.ahead, None
        if gap < 0:
            return Arrival(refused="duplicate" if stream.holds(step) else "late")
        if gap > LONGEST_GAP and not (before is not None and before < step):
            self.ahead = step
            return Arrival(refused="too far ahead")
        return Arrival(gap)
