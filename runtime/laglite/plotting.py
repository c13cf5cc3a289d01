"""Fan charts. matplotlib is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from laglite.atomic_file import replacing
from laglite.errors import missing

if TYPE_CHECKING:
    from laglite.forecast import Forecast

HISTORY_COLOUR, FORECAST_COLOUR = "#3b4252", "#1f6feb"
HISTORY_PER_HORIZON = 4


def plot_forecast(forecast: Forecast, history: Any = None, *, ax: Any = None) -> Any:
    """Draw `forecast` after the end of `history` (1-D, NaN where missing); returns the axes."""
    if ax is None:
        ax = require_matplotlib().pyplot.subplots(figsize=(10, 4), layout="constrained")[1]
    horizon = forecast.prediction_length
    if history is not None:
        shown = np.asarray(history, float)[-HISTORY_PER_HORIZON * horizon :]
        ax.plot(_times(forecast, -len(shown), len(shown)), shown, color=HISTORY_COLOUR, lw=1.2,
                label="history")  # fmt: skip
    ahead = _times(forecast, 0, horizon)
    for coverage, alpha in ((0.9, 0.18), (0.5, 0.35)):
        low, high = forecast.interval(coverage)
        ax.fill_between(ahead, low, high, color=FORECAST_COLOUR, alpha=alpha, lw=0,
                        label=f"{coverage:.0%} interval")  # fmt: skip
    ax.plot(ahead, forecast.median, color=FORECAST_COLOUR, lw=1.6, label="median")
    if forecast.start is not None:
        dates = require_matplotlib().dates
        locator = dates.AutoDateLocator()
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    ax.set_title(forecast.item_id or "forecast")
    ax.grid(alpha=0.25)
    ax.margins(x=0.01)
    ax.legend(loc="upper left", frameon=False, ncols=4, fontsize="small")
    return ax


def save_fan_charts(
    path: Path, forecasts: Sequence[Forecast], histories: Sequence[NDArray[np.float64]]
) -> None:
    """Write one picture with a panel a series; the file appears whole or not at all."""
    size = (10, 3.6 * len(forecasts))
    # A bare Figure needs no display and is not kept by pyplot.
    figure = require_matplotlib().figure.Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(forecasts), 1, squeeze=False)
    for ax, forecast, history in zip(axes[:, 0], forecasts, histories, strict=True):
        plot_forecast(forecast, history, ax=ax)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix[1:] or "png")


def _times(forecast: Forecast, first: int, count: int) -> NDArray[Any]:
    """Times of steps relative to the first forecast step, or step numbers without times."""
    times = forecast.times(first, count)
    return np.arange(first + 1, first + count + 1) if times is None else times


def require_matplotlib() -> Any:
    """Matplotlib with what the charts use. Raises MissingDependencyError."""
    try:
        import matplotlib.dates
        import matplotlib.figure
        import matplotlib.pyplot
    except ModuleNotFoundError as error:
        raise missing("matplotlib", "plot", "drawing a forecast") from error
    return matplotlib
