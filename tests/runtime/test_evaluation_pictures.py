"""Pictures of backtests: what is drawn is what was measured."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy import stats

from laglite.evaluation import Backtest
from laglite.evaluation.backtest import NAIVE, compare
from laglite.evaluation.metrics import QuantileForecast
from laglite.evaluation.pictures import by_chance, pick_series, save_backtest, save_collection
from laglite.evaluation.profile import CENTRAL
from laglite.evaluation.report import mean_relative_wql
from laglite.evaluation.windows import Window


def measured(series: int, horizon: int = 5, scale: float = 1.0) -> Backtest:
    """A backtest of a method with normal quantiles on random series."""
    rng = np.random.default_rng(series)
    windows = [
        Window(f"s{row}", rng.normal(size=40), scale * rng.normal(size=horizon), None, None, 1)
        for row in range(series)
    ]

    def normal(some: Sequence[Window], levels: Sequence[float]) -> list[QuantileForecast]:
        values = np.tile(stats.norm.ppf(levels)[:, None], horizon)
        return [QuantileForecast(tuple(levels), values, values[0]) for _ in some]

    return compare(windows, {"normal": normal})


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def savefig(self: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(self)
        save(self, *arguments, **{**options, "dpi": 20})

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def lines(ax: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in ax.get_lines()}


def test_one_series_is_drawn_by_step_and_calibration(figures: list[Figure], tmp_path: Path) -> None:
    result = measured(1)
    before = pyplot.get_fignums()
    save_backtest(tmp_path / "one.png", result, "one: $5")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == before
    by_step, central, pit = figures[0].axes
    for method in ("normal", NAIVE):
        profile = result.profiles[method]
        np.testing.assert_array_equal(lines(by_step)[method].get_xdata(), [1, 2, 3, 4, 5])
        np.testing.assert_array_equal(lines(by_step)[method].get_ydata(), profile.wql_by_step)
        np.testing.assert_array_equal(lines(central)[method].get_xdata(), list(CENTRAL))
        np.testing.assert_allclose(
            lines(central)[method].get_ydata(), 100 * np.array(list(profile.coverage.values()))
        )
    shares = 100 * np.array(result.profiles["normal"].pit_shares)
    np.testing.assert_allclose([bar.get_height() for bar in pit.patches[:20]], shares)
    assert pit.get_title() == "PIT of normal"
    legend = figures[0].legends[0]
    assert legend.get_title().get_text() == "one: $5"
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["normal", NAIVE, "95 % by chance"]


def test_several_series_are_sorted_by_their_gain(figures: list[Figure], tmp_path: Path) -> None:
    result = measured(7)
    save_backtest(tmp_path / "seven.svg", result, "seven")
    ax = figures[0].axes[3]
    shown = dict(
        zip(
            [text.get_text() for text in ax.get_yticklabels()],
            ax.collections[-1].get_offsets()[:, 0],
            strict=True,
        )
    )
    assert list(shown.values()) == sorted(shown.values())
    for name, ratio in shown.items():
        of = result.per_series[name]
        np.testing.assert_allclose(ratio, of["normal"].wql / of[NAIVE].wql)
    better = sum(ratio < 1 for ratio in shown.values())
    assert ax.get_title() == f"better than seasonal naive on {better} of 7 series"


def test_of_many_series_the_best_and_the_worst_are_shown_and_it_is_said(
    figures: list[Figure], tmp_path: Path
) -> None:
    save_backtest(tmp_path / "many.pdf", measured(43), "many")
    ax = figures[0].axes[3]
    assert len(ax.get_yticklabels()) == 20
    assert ax.get_title().endswith("of 43 series; the 10 best and the 10 worst")
    ratios = {str(row): float(row) for row in np.random.default_rng(0).permutation(43)}
    assert list(pick_series(ratios).values()) == [*range(10), *range(33, 43)]
    assert pick_series({"a": math.nan, "b": 2.0, "c": 1.0}) == {"c": 1.0, "b": 2.0}


def test_losses_that_are_not_defined_are_said(figures: list[Figure], tmp_path: Path) -> None:
    save_backtest(tmp_path / "zeros.png", measured(3, scale=0), "zeros")
    by_step, _, _, series = figures[0].axes
    assert [text.get_text() for text in by_step.texts] == ["undefined: all values are 0"]
    assert series.get_title() == "better than seasonal naive on 0 of 0 series; 3 undefined"


def test_data_sets_are_drawn_by_gain_with_the_calibration_of_all_values(
    figures: list[Figure], tmp_path: Path
) -> None:
    results = {"short": measured(4), "long": measured(9, horizon=11), "zeros": measured(2, scale=0)}
    save_collection(tmp_path / "all.png", results)
    gains, central, pit = figures[0].axes
    del results["zeros"]
    names = [text.get_text() for text in gains.get_yticklabels()]
    assert names == sorted(results, key=lambda name: results[name].relative_wql)
    assert gains.get_title().endswith("of 2 data sets; 1 undefined; geometric mean undefined")
    profiles = [
        result.profiles["normal"].as_one_step()
        for result in (*results.values(), measured(2, scale=0))
    ]
    pooled = functools.reduce(operator.add, profiles)
    np.testing.assert_allclose(
        lines(central)["normal"].get_ydata(), 100 * np.array(list(pooled.coverage.values()))
    )
    heights = [bar.get_height() for bar in pit.patches[:20]]
    np.testing.assert_allclose(heights, 100 * np.array(pooled.pit_shares))
    save_collection(tmp_path / "two.png", results)
    mean = mean_relative_wql(results, "normal")
    assert figures[1].axes[0].get_title().endswith(f"geometric mean {mean:.3f}")


@pytest.mark.parametrize("values", [100, 2000])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8])
def test_the_band_of_chance_is_about_that_of_the_binomial_distribution(
    values: int, share: float
) -> None:
    low, high = by_chance(np.array([share]), values)
    expected = stats.binom.ppf([0.025, 0.975], values, share) / values
    np.testing.assert_allclose([low[0], high[0]], expected, atol=1 / values)
