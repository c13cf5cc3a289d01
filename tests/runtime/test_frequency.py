"""Aliases, grids and timestamps, with pandas as the reference."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laglite.errors import FrequencyError, InputError
from laglite.frequency import (
    Timestamps,
    format_timestamp,
    infer_frequency,
    parse_frequency,
    parse_timestamp,
    step_numbers,
    timestamps,
)

GRIDS = [
    "us", "250us", "ms", "500ms", "s", "10s", "min", "5min", "15min", "h", "6h", "36h", "D", "3D",
    "180h", "1000h", "B", "W", "W-MON", "W-WED", "2W-TUE", "4W-WED", "8W-FRI",
    "ME", "MS", "2ME", "2MS", "5MS", "QE", "QS", "QE-OCT", "QE-JAN", "QS-OCT", "QS-FEB",
    "YE", "YS", "YE-JUN", "YS-APR", "2YS", "5YE-MAR",
]  # fmt: skip
UNKNOWN_ALIASES = [
    "", "X", "ns", "N", "bh", "BME", "m", "-1D", "1.5h", "0D", "00h", "15 min", "1h30min", "W-XYZ",
    "W-mon", "W-JAN", "D-MON", "h-MON", "B-MON", "M-JAN", "MS-JAN", "QS-MON", "Y-", None, 5,
]  # fmt: skip
NO_POINTS_IN_TIME = [
    "", "yesterday", "NaT", "2021-13-01", "2021-02-30", "04.03.2021", "31/12/2021", "2021-03-04 25",
    "2021-03-04;10", "2021-03-04,5",
    None, True, 2021, 2.5, float("nan"), np.int64(2021), np.float64(2021), np.float64("nan"),
    np.datetime64("NaT"), pd.NaT, ["2021-03-04"],
]  # fmt: skip


def grid(alias: str, start: str = "2019-12-28 06:30", periods: int = 24) -> Timestamps:
    return micros(pd.date_range(start, periods=periods, freq=alias))


def micros(index: pd.DatetimeIndex) -> Timestamps:
    return np.array(index, "datetime64[us]")


@pytest.mark.parametrize(
    ("alias", "unit", "multiple", "anchor"),
    [
        ("us", "us", 1, 0),
        ("U", "us", 1, 0),
        ("L", "ms", 1, 0),
        ("s", "s", 1, 0),
        ("30S", "s", 30, 0),
        ("min", "min", 1, 0),
        ("15min", "min", 15, 0),
        ("15T", "min", 15, 0),
        ("h", "h", 1, 0),
        ("6H", "h", 6, 0),
        ("D", "D", 1, 0),
        (" 7D ", "D", 7, 0),
        ("B", "B", 1, 0),
        ("W", "W", 1, 6),
        ("W-MON", "W", 1, 0),
        ("2W-WED", "W", 2, 2),
        ("M", "M", 1, 0),
        ("ME", "M", 1, 0),
        ("3MS", "M", 3, 0),
        ("Q", "Q", 1, 12),
        ("QE-JAN", "Q", 1, 1),
        ("QS", "Q", 1, 12),
        ("QS-OCT", "Q", 1, 9),
        ("2QS-JAN", "Q", 2, 12),
        ("Y", "Y", 1, 12),
        ("A", "Y", 1, 12),
        ("A-JUN", "Y", 1, 6),
        ("YE-JUN", "Y", 1, 6),
        ("YS", "Y", 1, 12),
        ("AS-APR", "Y", 1, 3),
        ("5YS-APR", "Y", 5, 3),
    ],
)
def test_an_alias_old_or_new_has_a_unit_a_multiple_and_an_anchor(
    alias: str, unit: str, multiple: int, anchor: int
) -> None:
    freq = parse_frequency(alias)
    assert (freq.unit, freq.multiple, freq.anchor) == (unit, multiple, anchor)
    assert freq.alias == alias.strip()


@pytest.mark.parametrize(
    ("offset", "alias"),
    [
        (pd.offsets.MonthEnd(), "ME"),
        (pd.offsets.Minute(15), "15min"),
        (pd.offsets.Week(weekday=2), "W-WED"),
        (pd.offsets.BusinessDay(), "B"),
        (pd.offsets.QuarterBegin(startingMonth=10), "QS-OCT"),
        (pd.Period("2020", "Y-JUN").freq, "YE-JUN"),
        (pd.date_range("2020-01-01", periods=3, freq="2h").freq, "2h"),
    ],
)
def test_a_pandas_offset_means_the_same_as_its_alias(offset: Any, alias: str) -> None:
    assert parse_frequency(offset) == parse_frequency(alias)


@pytest.mark.parametrize("alias", UNKNOWN_ALIASES)
def test_an_unknown_alias_is_refused_by_name(alias: object) -> None:
    with pytest.raises(FrequencyError) as caught:
        parse_frequency(alias)
    assert repr(str(alias)) in str(caught.value)


@pytest.mark.parametrize("alias", ["99999999999999999999D", "9999999999D"])
def test_a_step_longer_than_any_calendar_is_refused(alias: str) -> None:
    with pytest.raises(InputError):
        timestamps(np.datetime64("2020-01-01"), parse_frequency(alias), 0, 3)


@pytest.mark.parametrize("alias", GRIDS)
def test_timestamps_are_those_of_pandas_date_range(alias: str) -> None:
    expected = grid(alias)
    freq = parse_frequency(alias)
    np.testing.assert_array_equal(timestamps(expected[0], freq, 0, 24), expected)
    np.testing.assert_array_equal(timestamps(expected[9], freq, -9, 24), expected)
    np.testing.assert_array_equal(timestamps(expected[0], freq, 20, 4), expected[20:])


@pytest.mark.parametrize(
    ("start", "alias", "months"),
    [
        ("2021-01-30", "M", 1),
        ("2021-01-15 06:00", "ME", 1),
        ("2020-02-28", "M", 1),
        ("2021-04-30", "MS", 1),
        ("2021-04-30", "QS-APR", 3),
        ("2020-02-29", "YS", 12),
    ],
)
def test_months_keep_the_day_of_the_start(start: str, alias: str, months: int) -> None:
    expected = [pd.Timestamp(start) + pd.DateOffset(months=n * months) for n in range(-14, 14)]
    got = timestamps(np.datetime64(start), parse_frequency(alias), -14, 28)
    np.testing.assert_array_equal(got, micros(pd.DatetimeIndex(expected)))


def test_business_days_from_a_weekend_begin_on_monday() -> None:
    got = timestamps(np.datetime64("2024-05-04T06:00"), parse_frequency("B"), 0, 8)
    np.testing.assert_array_equal(got, grid("B", "2024-05-04 06:00", 8))


@pytest.mark.parametrize("alias", ["M", "A", "Q", "T", "H"])
def test_an_old_alias_steps_like_the_new_one(alias: str) -> None:
    new = {"M": "ME", "A": "YE", "Q": "QE", "T": "min", "H": "h"}[alias]
    start = grid(new)[0]
    np.testing.assert_array_equal(timestamps(start, parse_frequency(alias), 0, 24), grid(new))


@given(
    alias=st.sampled_from(GRIDS),
    start=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    first=st.integers(-60, 60),
    kept=st.lists(st.integers(1, 80), unique=True).map(sorted),
)
@settings(max_examples=80, deadline=None)
def test_step_numbers_is_the_inverse_of_timestamps(
    alias: str, start: datetime, first: int, kept: list[int]
) -> None:
    freq = parse_frequency(alias)
    steps = [0, *kept]
    times = timestamps(np.datetime64(start, "us"), freq, first, 81)[steps]
    assert step_numbers(times, freq).tolist() == steps


@pytest.mark.parametrize(
    ("alias", "time", "steps"),
    [
        ("h", "2020-01-01 02:59:59", 2),
        ("15min", "2020-01-01 00:44", 2),
        ("2W-WED", "2020-01-28", 1),
        ("B", "2020-01-06", 3),
        ("MS", "2020-03-31", 2),
        ("QS", "2020-06-30", 1),
        ("2YS", "2023-12-31", 1),
    ],
)
def test_step_numbers_round_down_between_steps(alias: str, time: str, steps: int) -> None:
    times = np.array(["2020-01-01", time], "datetime64[us]")
    assert step_numbers(times, parse_frequency(alias)).tolist() == [0, steps]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2021", "2021-01-01"),
        ("2021-03", "2021-03-01"),
        ("2021-03-04", "2021-03-04"),
        (" 2021/03/04 ", "2021-03-04"),
        ("2021-03-04 05:06", "2021-03-04T05:06"),
        ("2021-03-04T05:06:07.123456", "2021-03-04T05:06:07.123456"),
        ("2021-03-04T05:06:07Z", "2021-03-04T05:06:07"),
        ("2021-03-04 05:06:07+01:00", "2021-03-04T05:06:07"),
        ("2021-03-04 05:06:07.500+0100", "2021-03-04T05:06:07.500"),
        ("2021-03-04T05:06-05", "2021-03-04T05:06"),
        (date(2021, 3, 4), "2021-03-04"),
        (datetime(2021, 3, 4, 5, 6, 7, 8), "2021-03-04T05:06:07.000008"),
        (datetime(2021, 3, 4, 5, tzinfo=timezone(timedelta(hours=9))), "2021-03-04T05"),
        (np.datetime64("2021-03"), "2021-03-01"),
        (np.datetime64("2021-03-04T05:06:07.123456789"), "2021-03-04T05:06:07.123456"),
        (pd.Timestamp("2021-03-04 05:06:07.000008"), "2021-03-04T05:06:07.000008"),
        (pd.Timestamp("2021-07-04 05:00", tz="Europe/Berlin"), "2021-07-04T05"),
        (pd.Period("2021-03", "M"), "2021-03-01"),
        (pd.Period("2021Q2", "Q"), "2021-04-01"),
        (pd.Period("2021-03-04 05:00", "h"), "2021-03-04T05"),
    ],
)
def test_a_timestamp_is_its_wall_clock_time(value: Any, expected: str) -> None:
    stamp = parse_timestamp(value)
    assert stamp.dtype == np.dtype("datetime64[us]")
    assert stamp == np.datetime64(expected, "us")


@pytest.mark.parametrize("value", NO_POINTS_IN_TIME, ids=repr)
def test_what_is_no_point_in_time_is_refused(value: Any) -> None:
    with pytest.raises(InputError):
        parse_timestamp(value)


@pytest.mark.parametrize("alias", GRIDS)
@pytest.mark.parametrize("absent", [[], [3, 4, 8, 17]], ids=["whole", "with gaps"])
def test_the_frequency_of_a_grid_is_inferred(alias: str, absent: list[int]) -> None:
    times = np.delete(grid(alias, "2019-12-28"), absent)
    inferred, expected = infer_frequency(times), parse_frequency(alias)
    assert (inferred.unit, inferred.multiple) == (expected.unit, expected.multiple)
    turn = 3 if expected.unit == "Q" else 12  # quarters that end in the same months are the same
    assert inferred.anchor % turn == expected.anchor % turn


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_timestamps_have_no_frequency(count: int) -> None:
    with pytest.raises(FrequencyError, match=rf"too few timestamps \({count}\)"):
        infer_frequency(grid("D", periods=24)[:count])


@pytest.mark.parametrize(
    ("alias", "odd", "shift"),
    [("10us", 4, "3us"), ("D", 10, "1h"), ("h", 1, "1min"), ("W", 5, "1D"), ("MS", 7, "1D")],
)
def test_irregular_timestamps_are_refused_naming_the_odd_one(
    alias: str, odd: int, shift: str
) -> None:
    times = grid(alias, "2020-01-01")
    times[odd] += pd.Timedelta(shift).to_timedelta64().astype("timedelta64[us]")
    with pytest.raises(FrequencyError, match="not regular") as caught:
        infer_frequency(times)
    assert f"{format_timestamp(times[odd])} is not on the grid" in str(caught.value)


@pytest.mark.parametrize(
    ("stamp", "text"),
    [
        ("2021-03-04", "2021-03-04"),
        ("2021-03", "2021-03-01"),
        ("2021-03-04T05:00", "2021-03-04 05:00:00"),
        ("2021-03-04T05:06:07.000250", "2021-03-04 05:06:07.000250"),
    ],
)
def test_a_formatted_timestamp_says_no_more_than_needed(stamp: str, text: str) -> None:
    value = np.datetime64(stamp)
    assert format_timestamp(value) == text
    assert parse_timestamp(text) == value


@pytest.mark.parametrize("alias", ["1000000D", "1000000B", "1000YS", "400ME", "5000W", "99999h"])
def test_times_outside_the_years_1_to_9999_are_refused(alias: str) -> None:
    freq = parse_frequency(alias)
    assert timestamps(np.datetime64("2000-01-01"), freq, 1, 1)[0].item().year < 9999
    with pytest.raises(FrequencyError, match=r"outside the years 1 to 9999; is the frequency"):
        timestamps(np.datetime64("2000-01-01"), freq, 0, 10_000)
    with pytest.raises(FrequencyError, match=r"step -10,000 .* outside the years"):
        timestamps(np.datetime64("2000-01-01"), freq, -10_000, 1)


def test_the_last_moment_of_9999_is_a_time_and_the_next_is_not() -> None:
    start, hours = np.datetime64("9999-12-31T20:00"), parse_frequency("h")
    assert str(timestamps(start, hours, 3, 1)[0])[:16] == "9999-12-31T23:00"
    with pytest.raises(FrequencyError, match="outside the years 1 to 9999"):
        timestamps(start, hours, 0, 5)
    with pytest.raises(FrequencyError, match="outside the years 1 to 9999"):
        timestamps(np.datetime64("0001-01-01"), hours, -1, 1)
