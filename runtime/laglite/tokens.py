"""Tokens: what the network reads at each step, from a window, its scale and the calendar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.calendar import calendar_features
from laglite.frequency import Frequency, parse_frequency, parse_timestamp, timestamps
from laglite.lags import gather_lags
from laglite.spec import CALENDAR_FEATURES, ModelSpec
from laglite.window import Window, build_window, carry_forward


@dataclass(frozen=True)
class TimeAxis:
    """The time of a series' first value and its step, or None where the series has no times."""

    start: np.datetime64 | None = None
    freq: Frequency | None = None

    @classmethod
    def of(cls, start: Any, freq: Any) -> TimeAxis:
        """Parse a time and an alias. Raises InputError."""
        return cls(parse_timestamp(start), parse_frequency(freq))

    def calendar(self, first: int, count: int) -> NDArray[np.float32]:
        """Calendar features of steps `first ..`, zeros without times. float32 [count, 6]."""
        if self.start is None or self.freq is None:
            return np.zeros((count, CALENDAR_FEATURES), np.float32)
        return calendar_features(self.start, self.freq, first, count)

    def shifted(self, steps: int) -> TimeAxis:
        """The axis of the same series without its first `steps` values."""
        if self.start is None or self.freq is None:
            return self
        return TimeAxis(timestamps(self.start, self.freq, steps, 1)[0], self.freq)


@dataclass(frozen=True)
class Prompt:
    """An encoded history: its window and the tokens [tokens, features] of the prompt.

    With known future values appended (training, scoring) there is one more token for each.
    """

    window: Window
    tokens: NDArray[np.float32]


def encode(
    spec: ModelSpec,
    history: NDArray[np.float64],
    axis: TimeAxis,
    context_length: int,
    future: NDArray[np.float64] | None = None,
) -> Prompt:
    """Window, scale and tokens of one series; the one way from values to network input.

    `history` [length] and `future` [known] are data units with NaN where missing. loc and scale
    come from the history alone. Raises InputError if the model's window holds no value.
    """
    window = build_window(history, spec, context_length)
    scaled, count = window.scaled, window.tokens
    if future is not None and len(future):
        if spec.history == "zeros":
            scaled = np.concatenate([scaled, window.to_scaled(np.nan_to_num(future, nan=0.0))])
        else:
            scaled = carry_forward(np.concatenate([scaled, window.to_scaled(future)]))
        count += len(future)
    first = window.first + len(window.scaled) - window.tokens
    tokens = np.empty((count, spec.num_features), np.float32)
    lags = len(spec.lags)
    tokens[:, :lags] = gather_lags(scaled, spec.lags, count)
    tokens[:, lags : lags + 2] = static_features(window)
    if spec.calendar:
        tokens[:, lags + 2 :] = axis.calendar(first, count)
        if spec.history == "zeros" and first < 0:
            tokens[:-first, lags + 2 :] = 0.0  # the published padding has no calendar
    return Prompt(window, tokens)


def static_features(window: Window) -> NDArray[np.float32]:
    """log1p(|loc|) and log(scale), the same in every token of a series. float32 [2]."""
    return np.array([np.log1p(abs(window.loc)), np.log(window.scale)], np.float32)
