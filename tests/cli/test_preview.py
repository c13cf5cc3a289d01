"""Forecasts in the terminal: where the dots lie, and what a terminal can show."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from laglite import Forecast
from laglite.cli.preview import ASCII, BRAILLE, ROWS, Ink, chart, print_previews, rasterise
from laglite.frequency import parse_frequency

RISING = np.tile(np.arange(8, 12, dtype=np.float32), (3, 1))
HISTORY = np.arange(8.0)


def forecast(
    samples: np.ndarray = RISING, freq: str | None = "D", item_id: str | None = None
) -> Forecast:
    if freq is None:
        return Forecast(samples, None, None, item_id)
    return Forecast(samples, np.datetime64("2024-03-01", "us"), parse_frequency(freq), item_id)


def printed(encoding: str, terminal: bool = False, width: int = 60, name: str = "café") -> str:
    """What a console of that encoding receives."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding)
    colours = "standard" if terminal else "auto"
    console = Console(file=file, width=width, force_terminal=terminal, color_system=colours)
    print_previews([forecast(item_id=name)], [HISTORY], console)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_a_straight_line_is_drawn_from_corner_to_corner() -> None:
    lines = chart(forecast(), HISTORY, 16, ASCII).plain.split("\n")
    grid = np.array([list(line[3:]) for line in lines[:ROWS]])
    row, column = np.nonzero(grid != " ")
    assert (row[column.argmin()], row[column.argmax()]) == (ROWS - 1, 0)
    order = np.lexsort((-row, column))
    assert (np.diff(row[order]) <= 0).all()
    assert set(grid[grid != " "]) == {"*", "o"}  # the median hides an interval without width
    first_median = column[grid[row, column] == "o"].min()
    assert first_median == lines[ROWS].index("+", 3) - 3  # the tick of the first step ahead
    assert (lines[0][:2], lines[ROWS - 1][:2]) == ("11", " 0")


def test_the_interval_is_drawn_around_the_median() -> None:
    spread = np.linspace(0, 10, 21, dtype=np.float32)[:, None].repeat(6, axis=1)
    lines = chart(forecast(spread), np.full(6, 5.0), 60, ASCII).plain.split("\n")
    marks = [set(line[4:]) - {" "} for line in lines[:ROWS]]
    assert marks[0] == marks[-1] == {"."}
    assert any("o" in row for row in marks[2:-2])
    assert (lines[0].split("|")[0], lines[ROWS - 1].split("|")[0]) == ("9", "1")


@pytest.mark.parametrize("width", [40, 41])
def test_the_interval_of_a_single_step_is_drawn(width: int) -> None:
    step = np.linspace(0, 10, 21, dtype=np.float32)[:, None]
    plain = chart(forecast(step), np.full(6, 5.0), width, ASCII).plain
    assert plain.count(".") == 2


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=1, max_size=60),
    st.integers(2, 60),
)
def test_each_known_value_has_a_dot_and_gaps_have_none(values: list[float], columns: int) -> None:
    array = np.array(values)
    known = array[~np.isnan(array)]
    limits = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    total, rows = len(values), 16
    mask = rasterise(array, 0, total, limits, (rows, columns))
    for step, value in enumerate(values):
        column = round(step * (columns - 1) / max(total - 1, 1))
        beside = slice(max(column - 1, 0), column + 2)  # a half may go either way
        if not np.isnan(value):
            span = limits[1] - limits[0]
            height = (value - limits[0]) / span if span > 0 else 0.5
            row = round((1 - height) * (rows - 1))
            assert mask[max(row - 1, 0) : row + 2, beside].any()
    if len(known) == 0:
        assert not mask.any()


def test_a_gap_in_the_history_is_a_gap_and_a_value_between_gaps_a_dot() -> None:
    history = np.array([0.0, 1, np.nan, np.nan, 1, np.nan, np.nan, 0])
    mask = rasterise(history, 0, 8, (0, 1), (4, 8))
    np.testing.assert_array_equal(mask.any(axis=0), ~np.isnan(history))


def test_what_lies_beyond_the_limits_is_not_drawn() -> None:
    mask = rasterise(np.array([0.5, 9.0, 9.0]), 0, 3, (0, 1), (4, 3))
    np.testing.assert_array_equal(mask.any(axis=0), [True, False, False])


@pytest.mark.parametrize("ink", [BRAILLE, ASCII])
@pytest.mark.parametrize("width", [30, 80, 200])
@pytest.mark.parametrize("freq", ["D", "min", None])
def test_no_line_is_wider_than_the_terminal(ink: Ink, width: int, freq: str | None) -> None:
    text = chart(forecast(freq=freq, item_id="a" * 99), HISTORY, width, ink)
    assert max(len(line.rstrip("\n")) for line in text.plain.split("\n")) <= width


def test_times_or_step_numbers_stand_below() -> None:
    days = chart(forecast(), HISTORY, 60, BRAILLE).plain.split("\n")[-1]
    assert days.split() == ["2024-02-22", "2024-03-01", "2024-03-04"]
    steps = chart(forecast(freq=None), HISTORY, 60, BRAILLE).plain.split("\n")[-1]
    assert steps.split() == ["-7", "1", "4"]
    narrow = chart(forecast(), HISTORY, 30, BRAILLE).plain.split("\n")[-1]
    assert narrow.split() == ["2024-02-22", "2024-03-04"]


def test_braille_where_the_terminal_can_show_it_and_plain_characters_elsewhere() -> None:
    assert any("\u2800" < sign <= "\u28ff" for sign in printed("utf-8"))
    assert "café" in printed("utf-8")
    for encoding in ("ascii", "latin-1", "cp437"):
        plain = printed(encoding)
        assert plain.isascii()
        assert "caf\\xe9" in plain
        assert "median (ooo) and 80 % interval (...)" in plain


def test_colours_are_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;34m" in printed("utf-8", terminal=True)
    assert "\x1b" not in printed("utf-8")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "34m" not in printed("utf-8", terminal=True)


def test_a_name_with_brackets_is_no_markup() -> None:
    assert "sensor[red]" in printed("utf-8", name="sensor[red]")
