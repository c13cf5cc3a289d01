"""Calendar features against the attributes of pandas' periods."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from laglite.calendar import calendar_features
from laglite.errors import FrequencyError
from laglite.frequency import parse_frequency, timestamps

ALIASES = [
    "us", "20ms", "s", "30s", "min", "15min", "h", "6h", "D", "3D", "B", "W", "W-MON", "W-SAT",
    "2W", "3W-WED", "M", "5M", "Q", "Q-JAN", "Q-NOV", "2Q", "Y", "Y-JUN", "3Y-FEB",
]  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:Period with BDay:FutureWarning"),
    pytest.mark.filterwarnings("ignore:PeriodDtype.B.:FutureWarning"),
]


def period_features(start: datetime, alias: str, first: int, count: int) -> NDArray[np.float64]:
    period = pd.Period(start, freq=alias)
    index = pd.period_range(period + first * period.freq, periods=count, freq=period.freq)
    parts = [
        index.second / 59,
        index.minute / 59,
        index.hour / 23,
        index.day_of_week / 6,
        (index.day - 1) / 30,
        (index.day_of_year - 1) / 365,
    ]
    return np.stack(parts, axis=-1) - 0.5


def features(start: str | datetime, alias: str, first: int, count: int) -> NDArray[np.float32]:
    return calendar_features(np.datetime64(start, "us"), parse_frequency(alias), first, count)


@pytest.mark.parametrize("alias", ALIASES)
@given(
    start=st.datetimes(datetime(1902, 1, 1), datetime(2150, 1, 1)),
    first=st.integers(-300, 300),
)
@settings(max_examples=15, deadline=None)
def test_features_are_the_attributes_of_pandas_periods(
    alias: str, start: datetime, first: int
) -> None:
    got = features(start, alias, first, 40)
    np.testing.assert_allclose(got, period_features(start, alias, first, 40), atol=1e-6)
    assert got.dtype == np.float32
    assert got.shape == (40, 6)


@pytest.mark.parametrize("alias", ["s", "min", "15min", "h", "D", "B", "W", "M", "Q", "Y"])
@pytest.mark.parametrize(
    "start", ["1969-12-31 23:59:59", "2020-02-29 12:34:56", "2022-08-27 08:00", "2000-12-31"]
)
def test_features_are_right_before_1970_on_leap_days_and_on_weekends(
    alias: str, start: str
) -> None:
    expected = period_features(datetime.fromisoformat(start), alias, -70, 140)
    np.testing.assert_allclose(features(start, alias, -70, 140), expected, atol=1e-6)


@given(
    alias=st.sampled_from(ALIASES),
    start=st.datetimes(datetime(1800, 1, 1), datetime(2300, 1, 1)),
    first=st.integers(-2000, 2000),
)
@settings(max_examples=80, deadline=None)
def test_features_stay_between_minus_and_plus_one_half(
    alias: str, start: datetime, first: int
) -> None:
    got = features(start, alias, first, 60)
    assert np.abs(got).max() <= 0.5


def test_both_ends_of_each_range_are_reached() -> None:
    seconds = features("2020-01-01", "s", 0, 60)[:, 0]
    minutes = features("2020-01-01", "min", 0, 60)[:, 1]
    hours = features("2020-01-01", "h", 0, 24)[:, 2]
    days = features("2020-01-01", "D", 0, 366)[:, 3:]
    for column in (seconds, minutes, hours, *days.T):
        assert (column.min(), column.max()) == (-0.5, 0.5)


@pytest.mark.parametrize(
    ("alias", "period"),
    [
        ("S", "s"),
        ("T", "min"),
        ("15T", "15min"),
        ("H", "h"),
        ("W", "W-SUN"),
        ("MS", "M"),
        ("ME", "M"),
        ("2MS", "2M"),
        ("QS", "Q"),
        ("QE", "Q"),
        ("QE-JAN", "Q-JAN"),
        ("QS-OCT", "Q-SEP"),
        ("QS-FEB", "Q-JAN"),
        ("YS", "Y"),
        ("YE", "Y"),
        ("A", "Y"),
        ("AS", "Y"),
        ("A-JUN", "Y-JUN"),
        ("YE-JUN", "Y-JUN"),
        ("YS-APR", "Y-MAR"),
        ("3YS-JAN", "3Y-DEC"),
    ],
)
def test_an_alias_for_starts_or_ends_has_the_features_of_its_period(
    alias: str, period: str
) -> None:
    got = features("2019-10-01 05:00", alias, -9, 40)
    np.testing.assert_array_equal(got, features("2019-10-01 05:00", period, -9, 40))
    expected = period_features(datetime(2019, 10, 1, 5), period, -9, 40)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("alias", ["MS", "ME", "QS-OCT", "QE-JAN", "YS-APR", "YE", "W-WED", "B"])
def test_each_timestamp_lies_in_the_period_that_its_features_describe(alias: str) -> None:
    start = np.datetime64(pd.date_range("2019-12-28", periods=1, freq=alias)[0], "us")
    freq = parse_frequency(alias)
    for step, time in enumerate(timestamps(start, freq, -20, 40), start=-20):
        alone = calendar_features(time, freq, 0, 1)
        np.testing.assert_array_equal(calendar_features(start, freq, step, 1), alone)


def test_a_window_of_steps_is_a_part_of_the_whole() -> None:
    whole = features("2020-02-29 13:45", "h", -100, 200)
    np.testing.assert_array_equal(features("2020-02-29 13:45", "h", -40, 30), whole[60:90])
    assert features("2020-02-29 13:45", "h", 5, 0).shape == (0, 6)


def test_padding_may_lie_before_the_year_1_but_not_beyond_what_time_can_hold() -> None:
    assert np.abs(features("1950-01-01", "5YS", -800, 60)).max() <= 0.5
    with pytest.raises(FrequencyError, match="outside the years -200000 to 200000"):
        features("1950-01-01", "1000000D", -800, 60)
