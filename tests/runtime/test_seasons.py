"""Seasonal lags: the same place in a token for the same season, whatever the frequency."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from laglite.frequency import parse_frequency
from laglite.seasons import (
    LONG_PLACES,
    SEASON_LAGS,
    SHORT_PLACES,
    season_flags,
    season_lags,
    season_lengths,
)
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode

SPEC = ModelSpec(
    2, 2, 4, 8, (0, 1, 2, 400), scaling="none", history="carry", context_length=8, seasons=True
)


@pytest.mark.parametrize(
    ("alias", "short", "long"),
    [
        ("h", "1D", "7D"), ("30min", "1D", "7D"), ("15min", "1D", "7D"), ("6h", "1D", "7D"),
        ("D", "7D", "364D"), ("min", "1h", None), ("s", "1min", None),
    ],
)  # fmt: skip
def test_seasons_of_clock_frequencies_are_days_weeks_and_years_as_pandas_counts_them(
    alias: str, short: str, long: str | None
) -> None:
    step = pd.Timedelta(pd.tseries.frequencies.to_offset(alias))
    wanted = tuple(None if s is None else pd.Timedelta(s) // step for s in (short, long))
    assert season_lengths(parse_frequency(alias), 700) == wanted


@pytest.mark.parametrize(
    ("alias", "wanted"),
    [
        ("MS", (12, None)), ("ME", (12, None)), ("2M", (6, None)), ("QS", (4, None)),
        ("W-MON", (52, None)), ("B", (5, 260)), ("YS", (None, None)), ("5M", (None, None)),
        ("7h", (None, None)), ("7D", (None, 52)), ("2D", (None, 182)), ("12h", (None, None)),
    ],
)  # fmt: skip
def test_seasons_of_other_frequencies_are_whole_steps_or_none(
    alias: str, wanted: tuple[int | None, int | None]
) -> None:
    assert season_lengths(parse_frequency(alias), 700) == wanted


def test_a_series_without_frequency_has_no_season() -> None:
    assert season_lengths(None, 700) == (None, None)
    assert (season_lags(None, 700) == -1).all()


def test_lags_are_counted_from_the_step_before_the_value_to_predict() -> None:
    lags = season_lags(parse_frequency("h"), 400)
    places = [(24 * k + more - 1) for k, more in SHORT_PLACES]
    places += [(168 * k + more - 1) for k, more in LONG_PLACES]
    np.testing.assert_array_equal(lags, places)
    assert len(lags) == SEASON_LAGS


def test_lags_beyond_the_largest_are_absent() -> None:
    lags = season_lags(parse_frequency("15min"), 400)
    assert lags.max() == 384
    assert (lags[len(SHORT_PLACES) :] == -1).all()
    np.testing.assert_array_equal(season_flags(lags), [1, 0])


def test_an_hourly_and_a_daily_series_hold_their_season_in_the_same_columns() -> None:
    """The values one season before the one to predict, each in its own frequency."""
    values = np.arange(600.0)
    columns = slice(len(SPEC.lags), len(SPEC.lags) + len(SHORT_PLACES))
    for alias, season in (("h", 24), ("D", 7), ("MS", 12)):
        prompt = encode(SPEC, values, TimeAxis.of("1950-01-01", alias), 8)
        for row, predicted in enumerate(range(593, 601)):
            wanted = [predicted - k * season - more for k, more in SHORT_PLACES]
            np.testing.assert_array_equal(prompt.tokens[row, columns], wanted)


def test_without_times_seasonal_features_and_flags_are_zero() -> None:
    prompt = encode(SPEC, np.arange(1.0, 600.0), TimeAxis(), 8)
    first = len(SPEC.lags)
    assert (prompt.tokens[:, first : first + SEASON_LAGS] == 0).all()
    assert (prompt.tokens[:, SPEC.num_lags + 2 : SPEC.num_lags + 4] == 0).all()


def test_a_model_without_seasons_has_the_tokens_it_had() -> None:
    plain = dataclasses.replace(SPEC, seasons=False)
    axis, values = TimeAxis.of("2024-01-01", "h"), np.arange(500.0)
    with_seasons, without = encode(SPEC, values, axis, 8), encode(plain, values, axis, 8)
    assert without.tokens.shape[1] == plain.num_features == SPEC.num_features - SEASON_LAGS - 2
    np.testing.assert_array_equal(without.tokens[:, :4], with_seasons.tokens[:, :4])
    np.testing.assert_array_equal(without.tokens[:, -6:], with_seasons.tokens[:, -6:])
