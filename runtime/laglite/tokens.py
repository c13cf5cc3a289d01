"""Tokens: what the network reads at each step, from a window, its scale and the calendar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.calendar import calendar_features
from laglite.covariates import standardise
from laglite.frequency import Frequency, parse_frequency, parse_timestamp, timestamps
from laglite.lags import gather_lags
from laglite.regression import Regression, fit_regression
from laglite.seasons import season_flags, season_lags
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
    `lags` int64 [lags] are those of its tokens, -1 for none. `covariates` float32 [steps, num] are
    standardised, from the history's first step on; None if none were given. `regression` is None
    for models without.
    """

    window: Window
    tokens: NDArray[np.float32]
    lags: NDArray[np.int64]
    regression: Regression | None = None
    covariates: NDArray[np.float32] | None = None


def encode(
    spec: ModelSpec,
    history: NDArray[np.float64],
    axis: TimeAxis,
    context_length: int,
    future: NDArray[np.float64] | None = None,
    covariates: NDArray[np.float64] | None = None,
) -> Prompt:
    """Window, scale and tokens of one series; the one way from values to network input.

    `history` [length] and `future` [known] are data units with NaN where missing. loc and scale
    come from the history alone. `covariates` [at least length + known + 1, num] begin with the
    history and reach the value that the last token predicts; NaN where missing, None if there are
    none. They are standardised over the history's part of the window. Raises InputError if the
    model's window holds no value.
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
    lags = lags_of(spec, axis)
    lagged = gather_lags(scaled, lags, count)
    tokens[:, : spec.num_lags] = lagged
    regression = None
    if spec.regression:
        positions = np.arange(window.first, len(history))
        observed = (positions >= 0) & ~np.isnan(history[np.maximum(positions, 0)])
        regression = fit_regression(window.scaled, observed, lags, lagged[: window.tokens])
        tokens[: window.tokens, spec.num_lags] = regression.prompt
        tokens[window.tokens :, spec.num_lags] = regression.forecast(lagged[window.tokens :])
    known_from = spec.num_past + spec.num_static
    tokens[:, spec.num_past : known_from] = static_features(spec, window, lags, regression)
    length = len(history)
    units = None
    if covariates is not None:
        units = standardise(covariates, max(0, length - spec.max_lag - context_length), length)
    known = known_features(spec, axis, units, first, count)
    if spec.history == "zeros" and spec.calendar and first < 0:
        known[:-first, :CALENDAR_FEATURES] = 0.0  # the published padding has no calendar
    tokens[:, known_from:] = known
    return Prompt(window, tokens, lags, regression, units)


def lags_of(spec: ModelSpec, axis: TimeAxis) -> NDArray[np.int64]:
    """The lags that tokens of a series hold, -1 for none: int64 [num_lags]."""
    lags = np.array(spec.lags, np.int64)
    if not spec.seasons:
        return lags
    freq = None if axis.start is None else axis.freq
    return np.concatenate([lags, season_lags(freq, spec.max_lag)])


def known_features(
    spec: ModelSpec,
    axis: TimeAxis,
    covariates: NDArray[np.float32] | None,
    first: int,
    count: int,
) -> NDArray[np.float32]:
    """What tokens of the steps `first ..` carry that is known beforehand.

    The calendar is that of the token's own time t, the covariates are those of t + 1, the value
    that the token predicts. Standardised `covariates` [steps, num] begin at step 0 and must reach
    step `first + count`; before step 0, and for None, the features are 0. Returns float32
    [count, calendar + covariates].
    """
    known = np.zeros((count, spec.num_known), np.float32)
    calendar = spec.num_known - spec.num_covariates
    if spec.calendar:
        known[:, :calendar] = axis.calendar(first, count)
    if covariates is not None:
        before = max(0, -first - 1)
        known[before:, calendar:] = covariates[first + 1 + before : first + 1 + count]
    return known


def static_features(
    spec: ModelSpec, window: Window, lags: NDArray[np.int64], regression: Regression | None
) -> NDArray[np.float32]:
    """log1p(|loc|), log(scale), which seasons there are, and a regression's errors.

    They are the same in every token of a series. Models that are `scale_free` have asinh(loc /
    scale) instead of the first two. `lags` are those of `lags_of`. float32 [num_static].
    """
    if spec.scale_free:
        level = [np.arcsinh(window.loc / window.scale)]
    else:
        level = [np.log1p(abs(window.loc)), np.log(window.scale)]
    features = [np.array(level, np.float32)]
    if spec.seasons:
        features.append(season_flags(lags[len(spec.lags) :]))
    if regression is not None:
        features.append(regression.features)
    return np.concatenate(features)
