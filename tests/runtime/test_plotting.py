"""Fan charts: what is drawn, read back from matplotlib's own objects."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from laglite import Forecast
from laglite.errors import InputError, MissingDependencyError
from laglite.figures import check_picture, picture, short_name
from laglite.frequency import parse_frequency
from laglite.plotting import plot_forecast, readable_limits, save_fan_charts

SAMPLES = np.random.default_rng(0).gamma(2.0, size=(37, 12)).astype(np.float32)
HISTORY = np.arange(100.0) % 7


def forecast(
    samples: np.ndarray = SAMPLES, freq: str | None = "D", item_id: str | None = "sales"
) -> Forecast:
    if freq is None:
        return Forecast(samples, None, None, item_id)
    return Forecast(samples, np.datetime64("2024-03-01", "us"), parse_frequency(freq), item_id)


def drawn(one: Forecast, history: Any = HISTORY) -> Any:
    return one.plot(history, ax=Figure(figsize=(8, 3)).subplots())


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, with a stand-in for the file."""
    saved: list[Figure] = []

    def savefig(self: Figure, path: Path, **options: Any) -> None:
        saved.append(self)
        self.draw_without_rendering()
        path.write_bytes(b"picture")

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def test_history_paths_and_median_are_the_lines_and_the_intervals_the_bands() -> None:
    one = forecast()
    ax = drawn(one)
    _, labels = ax.get_legend_handles_labels()
    assert labels == ["history", "90 % interval", "50 % interval", "sample paths", "median"]
    history, *paths, median = ax.get_lines()
    np.testing.assert_array_equal(history.get_ydata(), HISTORY[-48:])
    np.testing.assert_array_equal(history.get_xdata(), one.times(-48, 48))
    np.testing.assert_array_equal([path.get_ydata() for path in paths], SAMPLES[:5])
    np.testing.assert_array_equal(median.get_ydata(), one.median)
    np.testing.assert_array_equal(median.get_xdata(), one.index)
    for band, coverage in zip(ax.collections, (0.9, 0.5), strict=True):
        corners = band.get_paths()[0].vertices
        for row, day in enumerate(date2num(one.index)):
            ends = corners[corners[:, 0] == day][:, 1]
            low, high = one.interval(coverage)
            np.testing.assert_allclose([ends.min(), ends.max()], [low[row], high[row]])


@pytest.mark.parametrize(("horizon", "steps"), [(1, 40), (10, 40), (12, 48), (30, 100)])
def test_four_horizons_of_history_are_shown_and_never_few_steps(horizon: int, steps: int) -> None:
    one = forecast(np.ones((3, horizon), np.float32) * np.arange(3)[:, None])
    assert len(drawn(one).get_lines()[0].get_ydata()) == steps


def test_a_gap_in_the_history_stays_a_gap_and_a_value_between_gaps_is_marked() -> None:
    history = HISTORY.copy()
    history[[80, 82, 83]] = np.nan
    line = drawn(forecast(), history).get_lines()[0]
    missing = np.flatnonzero(np.isnan(line.get_ydata()))
    np.testing.assert_array_equal(missing, [28, 30, 31])
    np.testing.assert_array_equal(line.get_markevery(), [29])


def test_each_value_of_a_short_picture_is_marked() -> None:
    history = np.array([1.0, np.nan, 3, 4])
    line, *_, median = drawn(forecast(), history).get_lines()
    np.testing.assert_array_equal(line.get_markevery(), [0, 2, 3])
    assert median.get_marker() == "."


def test_a_single_step_is_a_bar_for_each_band_and_a_marked_median() -> None:
    one = forecast(SAMPLES[:, :1])
    ax = drawn(one)
    for bar, coverage in zip(ax.collections, (0.9, 0.5), strict=True):
        ends = bar.get_segments()[0][:, 1]
        np.testing.assert_allclose(ends, np.concatenate(one.interval(coverage)))
    history, median = ax.get_lines()
    assert (len(history.get_ydata()), median.get_marker()) == (40, ".")


def test_a_forecast_without_times_is_drawn_over_numbered_steps() -> None:
    ax = drawn(forecast(freq=None))
    history, *_, median = ax.get_lines()
    np.testing.assert_array_equal(history.get_xdata(), np.arange(-47, 1))
    np.testing.assert_array_equal(median.get_xdata(), np.arange(1, 13))
    assert ax.get_xlabel() == "step"


def test_a_forecast_without_history_is_drawn_alone() -> None:
    ax = drawn(forecast(), None)
    assert "history" not in ax.get_legend_handles_labels()[1]
    np.testing.assert_array_equal(ax.get_lines()[-1].get_ydata(), forecast().median)


def test_a_series_is_named_as_it_is_and_a_long_name_cut() -> None:
    assert drawn(forecast(item_id="a$b$^{c")).get_title() == "a$b$^{c"
    assert drawn(forecast(item_id=None)).get_title() == ""
    assert short_name("abcdef", 6) == "abcdef"
    assert short_name("abcdefg", 6) == "abcde…"


def test_heavy_tails_do_not_crush_the_history_and_the_cut_is_said() -> None:
    samples = np.tile(np.linspace(0, 6, 101, dtype=np.float32)[:, None], (1, 12))
    samples[-10:] = 1e6
    ax = drawn(forecast(samples))
    low, high = ax.get_ylim()
    assert -1 < low < 0
    assert 15 < high < 16  # 6 + 1.5 x 6, and a margin
    assert [text.get_text() for text in ax.texts] == ["90 % interval goes beyond"]


def test_all_of_the_interval_is_shown_where_it_is_no_wider_than_can_be_read() -> None:
    one = forecast()
    ax = drawn(one)
    low, high = ax.get_ylim()
    ends = one.interval(0.9)
    assert low < min(ends[0].min(), HISTORY.min())
    assert high > max(ends[1].max(), HISTORY.max())
    assert not ax.texts
    assert readable_limits(one, HISTORY, 0.9) == (
        min(ends[0].min(), HISTORY.min()),
        max(ends[1].max(), HISTORY.max()),
    )


def test_a_constant_has_room_around_it() -> None:
    low, high = drawn(forecast(np.full((5, 12), 3, np.float32)), np.full(60, 3.0)).get_ylim()
    assert low < 3 < high


def test_limits_of_axes_that_hold_something_are_left_to_their_owner() -> None:
    ax = Figure().subplots()
    ax.plot(np.array(["2024-03-01", "2024-03-05"], "datetime64[us]"), [-50, 50])
    forecast().plot(HISTORY, ax=ax)
    assert ax.get_ylim()[0] <= -50
    assert ax.get_ylim()[1] >= 50


@pytest.mark.parametrize("history", [np.ones((2, 3)), ["a"], []])
def test_a_history_that_is_no_series_is_refused(history: Any) -> None:
    with pytest.raises(InputError, match="target: "):
        drawn(forecast(), history)


def test_without_axes_pyplot_has_one_figure_more() -> None:
    before = pyplot.get_fignums()
    ax = plot_forecast(forecast(), HISTORY)
    assert len(pyplot.get_fignums()) == len(before) + 1
    pyplot.close(ax.figure)
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (3, (3, 1)), (5, (3, 2)), (12, (4, 3))])
def test_each_series_has_a_panel_under_one_legend(
    count: int, grid: tuple[int, int], tmp_path: Path, figures: list[Figure]
) -> None:
    before = pyplot.get_fignums()
    many = [forecast(item_id=f"series {row}") for row in range(count)]
    save_fan_charts(tmp_path / "fans.png", many, [HISTORY + row for row in range(count)])
    axes = figures[0].axes
    assert [ax.get_title() for ax in axes] == [f"series {row}" for row in range(count)]
    assert axes[0].get_gridspec().get_geometry() == grid
    for row, ax in enumerate(axes):
        np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), HISTORY[-48:] + row)
        assert ax.get_legend() is None
    labels = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert ("sample paths" in labels) == (count <= 3)
    assert pyplot.get_fignums() == before
    assert mpl.rcParams["axes.spines.top"]  # the style is not left behind


@pytest.mark.parametrize(
    ("ending", "first"), [("png", b"\x89PNG"), ("PDF", b"%PDF"), ("svg", b"<?xml")]
)
def test_the_ending_chooses_the_format(tmp_path: Path, ending: str, first: bytes) -> None:
    path = tmp_path / f"fan.{ending}"
    save_fan_charts(path, [forecast()], [HISTORY])
    assert path.read_bytes().startswith(first)


def test_a_picture_that_fails_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "fan.png"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), picture(path, 3):
        raise ZeroDivisionError
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("fan.png", "old")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fan.gif", "fan.gif: the ending must be .png, .svg or .pdf"),
        ("fan", "the ending must be"),
        ("none/fan.png", "the folder .*none does not exist"),
        ("folder.png", "folder.png: is a directory"),
    ],
)
def test_a_picture_that_could_not_be_written_is_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=message):
        check_picture(tmp_path / name)


def test_a_missing_matplotlib_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (lambda: check_picture(tmp_path / "fan.png"), lambda: forecast().plot()):
        with pytest.raises(MissingDependencyError, match=r"pip install 'laglite\[plot\]'"):
            draw()
