"""Backtests as pictures: error by step, calibration, and what is gained where."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from laglite.evaluation.backtest import NAIVE, NAIVE_POINT, Backtest, relative_wql
from laglite.evaluation.metrics import Array
from laglite.evaluation.profile import CENTRAL, PIT_EDGES, Profile
from laglite.evaluation.report import Backtests, mean_relative_wql
from laglite.figures import BLUE, GREEN, GREY, INK, VERMILION, picture, short_name

MOST_SERIES = 20  # shown by name; of more, the best and the worst
MODEL_COLOURS, MODEL_MARKS = (BLUE, VERMILION, GREEN), ("o", "s", "^")
MARKED = 60  # steps up to which each is marked
NORMAL_95 = 1.96
HEAD, BY_STEP, CALIBRATION = 0.5, 2.6, 3.0  # inches of legend and charts
LONGEST_NAME = 24


def save_backtest(path: Path, result: Backtest, title: str) -> None:
    """One data set: error by step, calibration, and with several series the gain on each.

    Written whole or not at all. Raises InputError and MissingDependencyError.
    """
    ratios = {name: relative_wql(of, next(iter(of))) for name, of in result.per_series.items()}
    shown = pick_series(ratios)
    several = len(result.per_series) > 1
    heights = [BY_STEP, CALIBRATION, *([_height(len(shown))] if several else [])]
    with picture(path, HEAD + sum(heights)) as figure:
        grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
        draw_by_step(figure.add_subplot(grid[0, :]), result.profiles)
        draw_reliability(figure.add_subplot(grid[1, 0]), result.profiles)
        draw_pit(figure.add_subplot(grid[1, 1]), *next(iter(result.profiles.items())))
        if several:
            ax = figure.add_subplot(grid[2, :])
            draw_ratios(ax, shown)
            ax.set_title(_gain(ratios, len(shown), "series"))
            if len(shown) < len(sorted_ratios(ratios)):
                ax.axhline(MOST_SERIES / 2 - 0.5, color=GREY, lw=1, ls=":")
        _legend(figure, title)


def save_collection(path: Path, results: Backtests) -> None:
    """Several data sets: the gain on each, and calibration over all values of all of them.

    Written whole or not at all. Raises InputError and MissingDependencyError.
    """
    methods = list(next(iter(results.values())).overall)
    pooled = {method: _pooled(results, method) for method in methods}
    ratios = {name: result.relative_wql for name, result in results.items()}
    heights = [_height(len(ratios)), CALIBRATION]
    with picture(path, HEAD + sum(heights)) as figure:
        grid = figure.add_gridspec(2, 2, height_ratios=heights)
        ax = figure.add_subplot(grid[0, :])
        draw_ratios(ax, ratios)
        mean = mean_relative_wql(results, methods[0])
        if not math.isnan(mean):
            ax.axvline(mean, color=BLUE, lw=1, ls="--")
        ax.set_title(f"{_gain(ratios, len(ratios), 'data sets')}; geometric mean {_number(mean)}")
        draw_reliability(figure.add_subplot(grid[1, 0]), pooled)
        draw_pit(figure.add_subplot(grid[1, 1]), methods[0], pooled[methods[0]])
        _legend(figure, f"{len(results)} data sets, {sum(pooled[methods[0]].values):,} values")


def draw_by_step(ax: Any, profiles: Mapping[str, Profile]) -> None:
    """Weighted quantile loss of each step of the horizon, a line for each method."""
    steps = np.arange(1, len(next(iter(profiles.values())).values) + 1)
    for method, profile in profiles.items():
        if method != NAIVE_POINT:
            look = _look(profiles, method) | ({} if len(steps) <= MARKED else {"marker": ""})
            ax.plot(steps, profile.wql_by_step, label=method, **look)
    if np.isnan(next(iter(profiles.values())).wql_by_step).all():
        ax.text(0.5, 0.5, "undefined: all values are 0", transform=ax.transAxes, ha="center")
    ax.set_xlim(0.5, len(steps) + 0.5)
    ax.set_ylim(bottom=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(title="error by step of the horizon", xlabel="steps ahead", ylabel="WQL")


def draw_reliability(ax: Any, profiles: Mapping[str, Profile]) -> None:
    """Share of the values inside the central intervals against what the intervals promise."""
    nominal = np.array([0, *CENTRAL, 100])
    model = next(iter(profiles.values()))
    low, high = by_chance(nominal / 100, sum(model.values))
    ax.fill_between(nominal, 100 * low, 100 * high, color=GREY, alpha=0.3, lw=0,
                    label="95 % by chance")  # fmt: skip
    ax.plot([0, 100], [0, 100], color=GREY, lw=0.8)
    for method, profile in profiles.items():
        if method != NAIVE_POINT:
            ax.plot(list(CENTRAL), [100 * share for share in profile.coverage.values()],
                    label=method, **_look(profiles, method))  # fmt: skip
    ax.set(title="central intervals", xlabel="nominal coverage, %", ylabel="observed, %")
    ax.set(xlim=(0, 100), ylim=(0, 100), xticks=range(0, 101, 20), yticks=range(0, 101, 20))


def draw_pit(ax: Any, method: str, profile: Profile) -> None:
    """Share of the values in each twentieth of their forecast distributions."""
    bins = len(profile.pit)
    edges = np.array([0, *PIT_EDGES, 1])
    ax.bar(edges[:-1], [100 * share for share in profile.pit_shares], width=1 / bins, align="edge",
           color=_look({method: profile}, method)["color"], alpha=0.75, lw=0.6,
           edgecolor="white")  # fmt: skip
    low, high = by_chance(np.full(1, 1 / bins), sum(profile.values))
    ax.axhspan(100 * low[0], 100 * high[0], color=GREY, alpha=0.3, lw=0, zorder=3)
    ax.axhline(100 / bins, color=INK, lw=0.8)
    ax.set(xlabel="forecast probability of the value or less", ylabel="values, %", xlim=(0, 1))
    ax.set_title(f"PIT of {short_name(method, LONGEST_NAME)}", parse_math=False)
    ax.set_ylim(0, max(ax.get_ylim()[1], 110 * high[0]))


def draw_ratios(ax: Any, ratios: Mapping[str, float]) -> None:
    """The model's loss relative to seasonal naive, a row for each name, the best on top."""
    defined = sorted_ratios(ratios)
    places = np.arange(len(defined))
    values = np.array(list(defined.values()))
    colours = [BLUE if value <= 1 else VERMILION for value in values]
    ax.hlines(places, 1, values, color=colours, lw=1.5)
    ax.scatter(values, places, color=colours, s=18, zorder=3)
    ax.axvline(1, color=INK, lw=0.8)
    ax.set_yticks(places, [short_name(name, LONGEST_NAME) for name in defined], parse_math=False)
    ax.set_ylim(len(defined) - 0.4, -0.6)
    if len(values) and values.max() > 20 * values.min() > 0:
        ax.set_xscale("log")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("WQL relative to seasonal naive (less than 1: better)")


def pick_series(ratios: Mapping[str, float]) -> dict[str, float]:
    """At most 20 of the defined ratios, sorted: of more, the 10 best and the 10 worst."""
    ordered = list(sorted_ratios(ratios).items())
    if len(ordered) > MOST_SERIES:
        ordered = ordered[: MOST_SERIES // 2] + ordered[-MOST_SERIES // 2 :]
    return dict(ordered)


def sorted_ratios(ratios: Mapping[str, float]) -> dict[str, float]:
    """Those that are defined, the best first."""
    defined = ((name, ratio) for name, ratio in ratios.items() if not math.isnan(ratio))
    return dict(sorted(defined, key=operator.itemgetter(1)))


def by_chance(share: Array, values: int) -> tuple[Array, Array]:
    """Where 95 of 100 observed shares lie when `share` is right and the values are independent.

    The normal approximation of the binomial distribution.
    """
    reach = NORMAL_95 * np.sqrt(share * (1 - share) / values)
    return np.maximum(share - reach, 0), np.minimum(share + reach, 1)


def _height(rows: int) -> float:
    """Inches of a chart with a row for each name."""
    return 0.8 + 0.19 * rows


def _legend(figure: Any, title: str) -> None:
    """One legend for all panels, under the title: the methods look alike in all of them."""
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    legend = figure.legend(entries.values(), entries.keys(), title=short_name(title, 84),
                           loc="outside upper center", ncols=4)  # fmt: skip
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)


def _gain(ratios: Mapping[str, float], shown: int, what: str) -> str:
    """On how many the model is better, and which of them are shown and are not."""
    defined = sorted_ratios(ratios)
    better = sum(ratio < 1 for ratio in defined.values())
    parts = [f"better than seasonal naive on {better} of {len(defined)} {what}"]
    if shown < len(defined):
        parts.append(f"the {MOST_SERIES // 2} best and the {MOST_SERIES // 2} worst")
    if len(defined) < len(ratios):
        parts.append(f"{len(ratios) - len(defined)} undefined")
    return "; ".join(parts)


def _pooled(results: Backtests, method: str) -> Profile:
    """Calibration over data sets: their horizons differ, so steps count as one."""
    return functools.reduce(
        operator.add, (result.profiles[method].as_one_step() for result in results.values())
    )


def _look(methods: Mapping[str, Profile], method: str) -> dict[str, Any]:
    """Colour, mark and dash: methods differ in print without colour too."""
    if method == NAIVE:
        return {"color": GREY, "ls": "--", "marker": "D", "ms": 3, "lw": 1.2}
    place = list(methods).index(method)
    colour = MODEL_COLOURS[place % len(MODEL_COLOURS)]
    return {"color": colour, "marker": MODEL_MARKS[place % len(MODEL_MARKS)], "ms": 3.5, "lw": 1.5}


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"
