"""Backtests as tables for people."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from laglite.evaluation.backtest import NAIVE, Backtest, relative_wql
from laglite.evaluation.metrics import INTERVALS, Metrics
from laglite.evaluation.report import Backtests, mean_relative_wql, pooled_coverage

RATIO = "/ naive"  # WQL relative to seasonal naive with intervals


def print_table(table: Table) -> None:
    """Print on stdout, as wide as the table needs: narrow terminals and pipes cut no figure."""
    wide = Console(width=10_000, markup=False, emoji=False)  # names are no markup
    needed = Measurement.get(wide, wide.options, table).maximum
    width = max(needed, Console().width)
    Console(width=width, markup=False, emoji=False).print(table)


def dataset_table(result: Backtest) -> Table:
    """A row for each method: accuracy, and coverage and width of the intervals."""
    table = Table(title=extent(result), box=None, title_justify="left")
    table.add_column("method")
    for heading in ("WQL", RATIO, "MASE", "RMSE"):
        table.add_column(heading, justify="right")
    for interval in INTERVALS:
        table.add_column(f"in {interval} %", justify="right")
    for interval in INTERVALS:
        table.add_column(f"width {interval} %", justify="right")
    for method, metrics in result.overall.items():
        table.add_row(method, *_figures(result.overall, method), *_intervals(metrics))
    return table


def extent(result: Backtest) -> str:
    """How much was measured: series, windows and values."""
    some = result.model
    return (
        f"{_count(len(result.per_series), 'series', 'series')}, "
        f"{_count(some.windows, 'window', 'windows')} of {result.horizon} steps, "
        f"{_count(some.values, 'value', 'values')}"
    )


def series_table(name: str, result: Backtest) -> Table:
    """A row for each series: the model, and seasonal naive's WQL."""
    model = next(iter(result.overall))
    table = Table(title=f"{name}: {model}", box=None, title_justify="left")
    table.add_column("series")
    for heading in ("WQL", RATIO, "MASE", "RMSE"):
        table.add_column(heading, justify="right")
    for interval in INTERVALS:
        table.add_column(f"in {interval} %", justify="right")
    for item, metrics in result.per_series.items():
        covered = (_share(metrics[model].coverage[interval]) for interval in INTERVALS)
        table.add_row(item, *_figures(metrics, model), *covered)
    return table


def collection_table(results: Backtests) -> Table:
    """A row for each data set, and the geometric mean of the WQL relative to seasonal naive."""
    methods = list(next(iter(results.values())).overall)
    model, peers = methods[0], [m for m in methods[1:] if m != NAIVE]
    table = Table(title=f"{model}: WQL, and relative to {NAIVE}", box=None, title_justify="left")
    table.add_column("data set")
    for heading in ("series", "WQL", RATIO, *peers, "MASE", *(f"in {i} %" for i in INTERVALS)):
        table.add_column(heading, justify="right")
    for name, result in results.items():
        own = result.model
        table.add_row(
            name,
            str(len(result.per_series)),
            _number(own.wql),
            *(_number(relative_wql(result.overall, method)) for method in (model, *peers)),
            _number(own.mase),
            *(_share(own.coverage[interval]) for interval in INTERVALS),
        )
    table.add_row(
        "geometric mean; all values",
        "",
        "",
        *(_number(mean_relative_wql(results, method)) for method in (model, *peers)),
        "",
        *(_share(pooled_coverage(results, model, interval)) for interval in INTERVALS),
    )
    return table


def _figures(metrics: Mapping[str, Metrics], method: str) -> tuple[str, ...]:
    own = metrics[method]
    figures = (own.wql, relative_wql(metrics, method), own.mase, own.rmse)
    return tuple(_number(figure) for figure in figures)


def _intervals(metrics: Metrics) -> tuple[str, ...]:
    covered = (_share(metrics.coverage[interval]) for interval in INTERVALS)
    return (*covered, *(_number(metrics.width[interval]) for interval in INTERVALS))


def _number(value: float) -> str:
    """Three decimals, or four digits of larger numbers."""
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
