"""Fan charts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from laglite.arguments import as_history
from laglite.figures import BLUE, INK, STYLE, WIDTH, picture, require_matplotlib, short_name
from laglite.time_ticks import set_time_axis

if TYPE_CHECKING:
    from laglite.forecast import Forecast

BANDS = ((0.9, 0.22), (0.5, 0.38))  # coverage, opacity
PATHS = 5  # sample paths beside the bands
PATHS_IN_PANELS = 3  # up to how many panels they are drawn in
HISTORY_PER_HORIZON, SHORTEST_HISTORY = 4, 40  # steps shown before the forecast
MARKED = 45  # steps up to which each is marked
# How far beyond history and 50 % band, in units of their span, an axis goes for the 90 % band.
REACH = 1.5
LONGEST_NAME = 84  # characters over the whole width


def plot_forecast(forecast: Forecast, history: ArrayLike | None = None, *, ax: Any = None) -> Any:
    """Draw `forecast` after the end of `history` (1-D, NaN where missing); returns the axes.

    Raises InputError for a history that is no series, and MissingDependencyError.
    """
    matplotlib = require_matplotlib()
    values = None if history is None else as_history(history, may_be_missing=True)
    with matplotlib.rc_context(STYLE if ax is None else {}):
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(WIDTH, 3.4), layout="constrained")[1]
        _draw(ax, forecast, values, PATHS)
        # Above the axes, where it covers no data; the title above that.
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.2,
                  columnspacing=1.2, handlelength=1.6)  # fmt: skip
        if forecast.item_id is not None:
            ax.set_title(short_name(forecast.item_id, LONGEST_NAME), parse_math=False, pad=24)
    return ax


def save_fan_charts(
    path: Path, forecasts: Sequence[Forecast], histories: Sequence[NDArray[np.float64]]
) -> None:
    """Write one picture with a panel a series; the file appears whole or not at all."""
    count = len(forecasts)
    columns = 1 if count <= 3 else 2 if count <= 8 else 3
    rows = -(-count // columns)
    with picture(path, 0.5 + rows * {1: 2.7, 2: 2.1, 3: 1.9}[columns]) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        paths = PATHS if count <= PATHS_IN_PANELS else 0
        for ax, forecast, history in zip(axes, forecasts, histories, strict=False):
            _draw(ax, forecast, history, paths)
            if forecast.item_id is not None:
                name = short_name(forecast.item_id, LONGEST_NAME // columns)
                ax.set_title(name, parse_math=False)
        for ax in axes[count:]:
            ax.remove()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)


def _draw(ax: Any, forecast: Forecast, history: NDArray[np.float64] | None, paths: int) -> None:
    """History, bands, sample paths and median, with a time axis and limits that fit them."""
    horizon = forecast.prediction_length
    shown = np.empty(0) if history is None else recent(history, horizon)
    steps = _steps(forecast, -len(shown), len(shown) + horizon)
    past, ahead = steps[: len(shown)], steps[len(shown) :]
    empty = not ax.has_data()
    few = len(steps) <= MARKED
    if history is not None:
        marks = np.flatnonzero(~np.isnan(shown) if few else _isolated(shown))
        ax.plot(past, shown, ".-", ms=4, markevery=marks, color=INK, lw=1,
                label="history")  # fmt: skip
    single = horizon == 1  # which neither a line nor an area shows
    for coverage, opacity in BANDS:
        low, high = forecast.interval(coverage)
        look = {"color": BLUE, "alpha": opacity, "label": f"{100 * coverage:.0f} % interval"}
        if single:
            ax.vlines(ahead, low, high, lw=7, **look)
        else:
            ax.fill_between(ahead, low, high, lw=0, **look)
    if not single:
        for row, path in enumerate(forecast.samples[:paths]):
            ax.plot(ahead, path, color=BLUE, lw=0.5, alpha=0.65,
                    label="_" if row else "sample paths")  # fmt: skip
    style = ".-" if few or single else "-"
    ax.plot(ahead, forecast.median, style, ms=4, color=BLUE, lw=1.6, label="median")
    if forecast.start is None or forecast.step is None:
        ax.set_xlabel("step")
        ax.xaxis.set_major_locator(require_matplotlib().ticker.MaxNLocator("auto", integer=True))
    else:
        width = ax.get_window_extent().width / ax.figure.dpi
        set_time_axis(ax, steps, forecast.step, width)
    ax.ticklabel_format(axis="y", useOffset=False)
    ax.grid(visible=True, alpha=0.25)
    ax.margins(x=0.015)
    if empty:  # limits of what others have drawn are theirs
        _limit(ax, forecast, shown)


def _steps(forecast: Forecast, first: int, count: int) -> NDArray[Any]:
    """Times of steps relative to the first forecast step, or step numbers without times."""
    times = forecast.times(first, count)
    return np.arange(first + 1, first + count + 1) if times is None else times


def _isolated(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values stand between gaps, where no line shows them."""
    beside = np.pad(~np.isnan(values), 1)
    alone: NDArray[np.bool_] = beside[1:-1] & ~beside[:-2] & ~beside[2:]
    return alone


def recent(history: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
    """The end of a history [length], as much as is shown before a forecast."""
    return history[-max(HISTORY_PER_HORIZON * horizon, SHORTEST_HISTORY) :]


def readable_limits(
    forecast: Forecast, shown: NDArray[np.float64], coverage: float
) -> tuple[float, float]:
    """Lowest and highest value of a vertical axis for a forecast and the history `shown`.

    The interval of `coverage` has room, up to where its ends would crush the rest: heavy tails.
    """
    known = shown[~np.isnan(shown)]
    core = np.concatenate([known, *forecast.interval(0.5), forecast.median]).astype(np.float64)
    low, high = float(core.min()), float(core.max())
    ends = forecast.interval(coverage)
    bottom, top = min(low, float(ends[0].min())), max(high, float(ends[1].max()))
    span = high - low
    if span > 0:
        bottom, top = max(bottom, low - REACH * span), min(top, high + REACH * span)
    return bottom, top


def _limit(ax: Any, forecast: Forecast, shown: NDArray[np.float64]) -> None:
    """Keep the y axis to what can be read; where that cuts the widest band, say so."""
    coverage = BANDS[0][0]
    bottom, top = readable_limits(forecast, shown, coverage)
    if bottom == top:
        return  # a constant, which matplotlib gives room of its own
    room = 0.05 * (top - bottom)
    ax.set_ylim(bottom - room, top + room)
    low, high = forecast.interval(coverage)
    if bottom > low.min() or top < high.max():
        ax.text(0.99, 0.02, f"{100 * coverage:.0f} % interval goes beyond", ha="right",
                transform=ax.transAxes, va="bottom", fontsize="small", style="italic")  # fmt: skip
