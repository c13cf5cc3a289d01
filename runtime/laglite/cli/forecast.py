"""`laglite forecast`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from laglite.bundle import manifest_digest
from laglite.cli.layout_options import layout_options
from laglite.cli.model_options import model_options, note
from laglite.cli.table_options import table_options
from laglite.errors import InputError, LagliteWarning
from laglite.forecast import Forecast, parse_quantile
from laglite.forecast_parts import ForecastParts
from laglite.forecast_table import ForecastSummary, TableLayout
from laglite.forecast_writer import check_output, render_csv, write_forecasts
from laglite.forecaster import Forecaster
from laglite.plotting import require_matplotlib, save_fan_charts
from laglite.randomness import fresh_seed
from laglite.reading import (
    Columns,
    InputSeries,
    count_streamed,
    covariates_over,
    read_series,
    stream_series,
)
from laglite.version import __version__

MOST_PANELS = 12
SERIES_A_BATCH = 64
Advance = Callable[[int], None]
SERIES_A_PART = 1024  # of a file that is read and written bit by bit


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
@click.option(
    "--output",
    help="FILE.csv, .json, .jsonl or .parquet, also .csv.gz; - (the default) is CSV on stdout.",
)
@layout_options
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
    layout: TableLayout,
    plot: Path | None,
    backend: str,
    precision: str,
    threads: int | None,
) -> None:
    """Forecast every series of INPUT: CSV, JSON lines or Parquet, or - for text on stdin.

    Files of more than 1,024 series in the Parquet series format are read and written bit by bit;
    after an interruption the same command goes on where it was.
    """
    check_output(output, layout)
    quantiles = layout.levels(quantiles)
    if plot is not None:
        _check_plot(plot)
    run = _Run(source, columns, horizon, samples, context, quantiles, nonnegative)
    total = count_streamed(source)
    if output is not None and output != "-" and total > SERIES_A_PART:
        if plot is not None:
            raise InputError(f"--plot draws files of at most {SERIES_A_PART} series, not {total:,}")
        if layout.wide:
            raise InputError(f"--layout wide is for at most {SERIES_A_PART} series, not {total:,}")
        forecaster = Forecaster.load(model, backend=backend, precision=precision, threads=threads)
        layout = layout.named(forecaster.bundle.name)
        _forecast_in_parts(run, forecaster, precision, Path(output), layout, total, seed)
        return
    series = read_series(source, columns, freq, note)
    covariates = run.covariates(series)
    forecaster = Forecaster.load(model, backend=backend, precision=precision, threads=threads)
    seed = fresh_seed() if seed is None else seed
    drawn = 0 if plot is None else MOST_PANELS
    with _progress(len(series)) as advance:
        shown, forecasts = run.forecast(forecaster, series, covariates, seed, advance, keep=drawn)
    layout = layout.named(forecaster.bundle.name)
    if plot is not None:
        save_fan_charts(plot, shown, [one.values for one in series[: len(shown)]])
        if len(series) > MOST_PANELS:
            note(f"{plot}: shows the first {MOST_PANELS} of {len(series)} series")
    if output is None or output == "-":
        click.echo(render_csv(forecasts, quantiles, layout), nl=False)
    else:
        write_forecasts(output, forecasts, quantiles, layout)


@dataclass(frozen=True)
class _Run:
    """What is to be forecast of every series of a source, and how."""

    source: str
    columns: Columns
    horizon: int
    samples: int
    context: int | None
    quantiles: tuple[float, ...]
    nonnegative: bool
    said: set[str] = field(default_factory=set)

    def covariates(self, series: Sequence[InputSeries]) -> list[NDArray[np.float64] | None]:
        names = self.columns.covariates
        return [covariates_over(one, self.horizon, self.source, names) for one in series]

    def forecast(
        self,
        forecaster: Forecaster,
        series: Sequence[InputSeries],
        covariates: Sequence[NDArray[np.float64] | None],
        seed: int,
        advance: Advance,
        keep: int = 0,
    ) -> tuple[list[Forecast], list[ForecastSummary]]:
        """The first `keep` forecasts with their paths, and all without; a batch at a time."""
        kept: list[Forecast] = []
        summaries: list[ForecastSummary] = []
        for begin in range(0, len(series), SERIES_A_BATCH):
            part = slice(begin, begin + SERIES_A_BATCH)
            forecasts = self._batch(forecaster, series[part], covariates[part], seed)
            kept += forecasts[: keep - len(kept)]
            summaries += [ForecastSummary.of(one, self.quantiles) for one in forecasts]
            advance(len(forecasts))
        return kept, summaries

    def _batch(
        self,
        forecaster: Forecaster,
        series: Sequence[InputSeries],
        covariates: Sequence[NDArray[np.float64] | None],
        seed: int,
    ) -> list[Forecast]:
        """Forecasts of some series; each warning is said once a run."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LagliteWarning)
            try:
                forecasts = forecaster.predict_batch(
                    [one.values for one in series],
                    horizon=self.horizon,
                    start=[one.start for one in series],
                    freq=[
                        None if one.start is None or one.freq is None else one.freq.alias
                        for one in series
                    ],
                    covariates=covariates,
                    num_samples=self.samples,
                    context_length=self.context,
                    seed=seed,
                    nonnegative=self.nonnegative,
                    item_ids=[one.item_id for one in series],
                )
            except InputError as error:
                raise InputError(f"{self.source}: {error}") from error
        for message in dict.fromkeys(str(warning.message) for warning in caught):
            if message not in self.said:
                note(f"Warning: {message}")
                self.said.add(message)
        return [replace(f, zone=one.zone) for f, one in zip(forecasts, series, strict=True)]

    def plan(self, forecaster: Forecaster, precision: str, layout: TableLayout) -> dict[str, Any]:
        """What parts of one run have in common."""
        file = Path(self.source).stat()
        return {
            "input": {"bytes": file.st_size, "modified": file.st_mtime_ns},
            "model": manifest_digest(forecaster.bundle.path),
            "version": __version__,
            "precision": precision,
            "horizon": self.horizon,
            "samples": self.samples,
            "context": self.context,
            "quantiles": list(self.quantiles),
            "columns": list(layout.figures(self.quantiles)),
            "nonnegative": self.nonnegative,
            "covariates": list(self.columns.covariates),
            "series_a_part": SERIES_A_PART,
        }


def _forecast_in_parts(
    run: _Run,
    forecaster: Forecaster,
    precision: str,
    output: Path,
    layout: TableLayout,
    total: int,
    seed: int | None,
) -> None:
    """Forecast a file too long to hold at once; what a run before has finished is kept."""
    parts = ForecastParts(output, run.plan(forecaster, precision, layout), seed)
    count = -(-total // SERIES_A_PART)
    done = sum(parts.path(number).exists() for number in range(count))
    if done:
        note(f"{parts.folder}: {done} of {count} parts were finished before; going on")
    with _progress(total) as advance:
        for number, series in enumerate(stream_series(run.source, run.columns, SERIES_A_PART)):
            path = parts.path(number)
            if path.exists():
                advance(len(series))
                continue
            covariates = run.covariates(series)
            _, forecasts = run.forecast(forecaster, series, covariates, parts.seed, advance)
            write_forecasts(str(path), forecasts, run.quantiles, layout)
    parts.join(count)


def _check_plot(plot: Path) -> None:
    if not plot.parent.is_dir():
        raise InputError(f"{plot}: the folder {plot.parent} does not exist")
    if plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"{plot}: the ending must be .png, .svg or .pdf")
    require_matplotlib()  # before anything is computed


@contextmanager
def _progress(total: int) -> Iterator[Advance]:
    """What to call with the number of series just forecast: a bar on a terminal, for several."""
    hidden = total == 1 or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as progress:
        task = progress.add_task("forecasting", total=total)
        yield lambda count: progress.advance(task, count)
