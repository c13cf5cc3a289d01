"""`laglite forecast`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from laglite.cli.model_options import model_options, note
from laglite.cli.table_options import table_options
from laglite.errors import InputError, LagliteWarning
from laglite.forecast import Forecast, parse_quantile
from laglite.forecast_writer import check_output, render_csv, write_forecasts
from laglite.forecaster import Forecaster
from laglite.plotting import require_matplotlib, save_fan_charts
from laglite.randomness import fresh_seed
from laglite.reading import Columns, InputSeries, covariates_over, read_series

MOST_PANELS = 12


def parse_quantiles(_: click.Context, __: click.Parameter, text: str) -> tuple[float, ...]:
    """`0.1,0.5,0.9` to numbers; wrong usage otherwise."""
    try:
        levels = [parse_quantile(part.strip()) for part in text.split(",")]
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    return tuple(dict.fromkeys(levels))


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("--horizon", type=click.IntRange(1), required=True, help="How many steps ahead.")
@table_options
@click.option("--model", help="Bundle directory, or a shipped model's name.  [default: base]")
@click.option(
    "--samples", type=click.IntRange(1), default=100, show_default=True, help="Sample paths."
)
@click.option("--context", type=click.IntRange(1), help="Tokens of history; the model's default.")
@click.option(
    "--quantiles",
    default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9",
    show_default=True,
    callback=parse_quantiles,
    help="Comma-separated levels.",
)
@click.option("--seed", type=int, help="Makes the result repeatable.")
@click.option("--nonnegative", is_flag=True, help="No forecast below zero.")
@click.option("--output", help="FILE.csv, .json or .parquet; - (the default) is CSV on stdout.")
@click.option("--plot", type=click.Path(path_type=Path), help="Fan chart to FILE.png.")
@model_options  # fmt: skip
def forecast(
    source: str,
    horizon: int,
    freq: str | None,
    columns: Columns,
    model: str | None,
    samples: int,
    context: int | None,
    quantiles: tuple[float, ...],
    seed: int | None,
    nonnegative: bool,
    output: str | None,
    plot: Path | None,
    backend: str,
    precision: str,
    threads: int | None,
) -> None:
    """Forecast every series of INPUT, a CSV or Parquet file, or - for CSV on stdin."""
    check_output(output)
    if plot is not None:
        _check_plot(plot)
    series = read_series(source, columns, freq, note)
    known = [covariates_over(one, horizon, source, columns.covariates) for one in series]
    forecaster = Forecaster.load(model, backend=backend, precision=precision, threads=threads)
    seed = fresh_seed() if seed is None else seed
    forecasts = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LagliteWarning)
        for one, ahead in zip(_progress(series), known, strict=True):
            forecasts.append(
                _forecast_one(
                    forecaster, source, one, ahead, horizon, samples, context, seed, nonnegative
                )
            )
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        note(f"Warning: {message}")
    if plot is not None:
        save_fan_charts(plot, forecasts[:MOST_PANELS], [one.values for one in series[:MOST_PANELS]])
        if len(series) > MOST_PANELS:
            note(f"{plot}: shows the first {MOST_PANELS} of {len(series)} series")
    if output is None or output == "-":
        click.echo(render_csv(forecasts, quantiles), nl=False)
    else:
        write_forecasts(output, forecasts, quantiles)


def _forecast_one(
    forecaster: Forecaster,
    source: str,
    one: InputSeries,
    covariates: NDArray[np.float64] | None,
    horizon: int,
    samples: int,
    context: int | None,
    seed: int,
    nonnegative: bool,
) -> Forecast:
    try:
        return forecaster.predict(
            one.values,
            horizon=horizon,
            start=one.start,
            freq=None if one.start is None or one.freq is None else one.freq.alias,
            covariates=covariates,
            num_samples=samples,
            context_length=context,
            seed=seed,
            nonnegative=nonnegative,
            item_id=one.item_id,
        )
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _check_plot(plot: Path) -> None:
    if not plot.parent.is_dir():
        raise InputError(f"{plot}: the folder {plot.parent} does not exist")
    if plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"{plot}: the ending must be .png, .svg or .pdf")
    require_matplotlib()  # before anything is computed


def _progress(series: list[InputSeries]) -> Iterable[InputSeries]:
    """A bar on a terminal, for more than one series."""
    if len(series) == 1 or not sys.stderr.isatty():
        return series
    return track(series, description="forecasting", console=Console(stderr=True), transient=True)
