"""Ticks of time axes: where they lie, what they say, and that they fit."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from laglite.figures import STYLE
from laglite.frequency import TICK_MICROSECONDS, parse_frequency, timestamps
from laglite.time_ticks import clock_ticks, period_ticks, set_time_axis, tick_labels


def times(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[us]")


@pytest.mark.parametrize(
    ("first", "last", "most", "expected"),
    [
        ("2024-03-06 01:00", "2024-03-07 02:00", 5, ["06", "12", "18", "00"]),
        ("2024-03-06 10:07", "2024-03-06 10:58", 4, ["10:15", "10:30", "10:45"]),
        ("2024-03-06", "2024-04-10", 6, ["03-11", "03-18", "03-25", "04-01", "04-08"]),
        ("2023-11-02", "2024-05-01", 6, ["12-01", "01-01", "02-01", "03-01", "04-01", "05-01"]),
        ("1994-05-01", "2023-05-01", 7, ["1995", "2000", "2005", "2010", "2015", "2020"]),
        ("2024-03-06", "2024-03-06", 4, ["2024-03-06"]),
    ],
)
def test_ticks_lie_on_round_times_and_mondays(
    first: str, last: str, most: int, expected: list[str]
) -> None:
    ticks = clock_ticks(*times(first, last), most)
    assert len(ticks) == len(expected)
    for tick, part in zip(ticks, expected, strict=True):
        assert part in str(tick).replace("T", " ")


@given(
    st.integers(0, 4 * 10**9),
    st.integers(1, 10**9),
    st.sampled_from(list(TICK_MICROSECONDS.values())),
    st.integers(2, 14),
)
def test_there_are_always_ticks_within_the_times_and_never_too_many(
    first: int, steps: int, unit: int, most: int
) -> None:
    begin = np.datetime64(first, "s").astype("datetime64[us]")
    end = begin + np.timedelta64(min(steps * unit, 10**17), "us")
    ticks = clock_ticks(begin, end, most)
    assert 1 <= len(ticks) <= most
    assert begin <= ticks[0]
    assert ticks[-1] <= end
    if (end - begin) > np.timedelta64(100, "us"):
        assert len(ticks) > 1


@pytest.mark.parametrize(
    ("start", "freq", "count", "most", "expected"),
    [
        ("2019-12-31", "YE", 12, 6, ["2020", "2022", "2024", "2026", "2028", "2030"]),
        ("2023-05-31", "ME", 20, 8, ["2023-07", "2023-10", "2024-01", "2024-04"]),
        ("2020-03-31", "QE", 24, 6, ["2020-03", "2021-03", "2022-03", "2023-03"]),
        ("2021-01-01", "2YS", 9, 4, ["2025", "2035"]),
    ],
)
def test_ticks_of_periods_lie_on_steps_at_the_round_ones(
    start: str, freq: str, count: int, most: int, expected: list[str]
) -> None:
    step = parse_frequency(freq)
    steps = timestamps(times(start)[0], step, 0, count)
    places = period_ticks(steps, step.unit, most)
    assert len(places) <= most
    assert [str(steps[place])[: len(expected[0])] for place in places][: len(expected)] == expected


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        (times("2020", "2030"), ["2020", "2030"]),
        (times("2023-10", "2024-01", "2024-04"), ["Oct\n2023", "Jan\n2024", "Apr"]),
        (times("2024-05"), ["May\n2024"]),
        (
            times("2023-12-15", "2023-12-29", "2024-01-12", "2024-01-26"),
            ["15\nDec 2023", "29", "12\nJan 2024", "26"],
        ),
        (times("2024-01-30", "2024-02-06"), ["30\nJan 2024", "6\nFeb"]),
        (
            times("2024-03-06 18:00", "2024-03-07", "2024-03-07 06:00"),
            ["18:00\n6 Mar 2024", "00:00\n7 Mar", "06:00"],
        ),
        (
            times("2024-03-06 18:00:00", "2024-03-06 18:00:30"),
            ["18:00:00\n6 Mar 2024", "18:00:30"],
        ),
        (
            times("2024-03-06 18:00:00.5", "2024-03-06 18:00:01"),
            ["18:00:00.500\n6 Mar 2024", "18:00:01.000"],
        ),
        (times("2024-12-31 12:00", "2025-12-31 12:00"),
         ["12:00\n31 Dec 2024", "12:00\n31 Dec 2025"]),
    ],
)  # fmt: skip
def test_a_label_says_its_own_unit_and_the_larger_one_where_it_changes(
    ticks: np.ndarray, labels: list[str]
) -> None:
    assert tick_labels(ticks) == labels


@mpl.rc_context(STYLE)
@pytest.mark.parametrize("panels", [1, 3])
@pytest.mark.parametrize(
    "freq", ["ms", "10s", "min", "15min", "h", "6h", "D", "B", "W", "ME", "QS", "YE", "5YS"]
)
def test_labels_of_all_frequencies_fit_beside_each_other(freq: str, panels: int) -> None:
    step = parse_frequency(freq)
    for start, count in itertools.product(times("2023-12-30 18:00", "1999-11-29"), (45, 120)):
        figure = Figure(figsize=(8, 2), layout="constrained")
        ax = figure.subplots(1, panels, squeeze=False)[0, 0]
        steps = timestamps(start, step, 0, count)
        ax.plot(steps, np.zeros(count))
        set_time_axis(ax, steps, step, ax.get_window_extent().width / figure.dpi)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in ax.get_xticklabels()]
        assert len(boxes) > 1
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
