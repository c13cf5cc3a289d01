"""`laglite evaluate`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from laglite.cli.completion import complete_model, complete_path
from laglite.cli.evaluation_tables import (
    collection_table,
    dataset_table,
    extent,
    print_table,
    series_table,
)
from laglite.cli.forecast import parse_inner_quantiles
from laglite.cli.model_options import model_options, note
from laglite.cli.table_options import table_options
from laglite.errors import InputError, LagliteWarning
from laglite.evaluation.backtest import Backtest, Method, compare, model_method, model_reach
from laglite.evaluation.datasets import DataSet, list_datasets, read_dataset
from laglite.evaluation.pictures import save_backtest, save_collection
from laglite.evaluation.report import check_report, write_report
from laglite.evaluation.windows import rolling_windows
from laglite.figures import check_picture
from laglite.forecaster import Forecaster
from laglite.reading import Columns


def parse_contexts(
    _: click.Context, __: click.Parameter, text: str | None
) -> tuple[int | None, ...]:
    """`32,64` to numbers, nothing to the model's default; wrong usage otherwise."""
    if text is None:
        return (None,)
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text!r} is not a list of whole numbers of at least 1")
    return tuple(dict.fromkeys(int(part) for part in parts))


@click.command()
@click.argument("source", metavar="DATA", shell_complete=complete_path)
@click.option("--horizon", type=click.IntRange(1), help="Steps ahead; a manifest may say it.")
@click.option(
    "--windows",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Origins for each series, a horizon apart; the last window ends with the series.",
)
@click.option(
    "--season", type=click.IntRange(1), help="Steps in a season; by default by frequency."
)
@click.option(
    "--context",
    "contexts",
    callback=parse_contexts,
    help="Tokens of history; or several, comma-separated, to compare.",
)
@click.option(
    "--quantiles",
    default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9",
    show_default=True,
    callback=parse_inner_quantiles,
    help="Levels of the weighted quantile loss.",
)
@click.option(
    "--samples", type=click.IntRange(1), default=100, show_default=True, help="Sample paths."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample paths.")
@table_options
@click.option(
    "--model",
    shell_complete=complete_model,
    help="Bundle directory, or a shipped model's name.  [default: base]",
)
@click.option("--per-series", is_flag=True, help="Figures of every series, in table and output.")
@click.option("--output", type=click.Path(path_type=Path), help="All figures to FILE.json or .csv.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Error by step, calibration and gains to FILE.png, .svg or .pdf.",
)
@model_options  # fmt: skip
def evaluate(
    source: str,
    horizon: int | None,
    windows: int,
    season: int | None,
    contexts: tuple[int | None, ...],
    quantiles: tuple[float, ...],
    samples: int,
    seed: int,
    freq: str | None,
    columns: Columns,
    model: str | None,
    per_series: bool,
    output: Path | None,
    plot: Path | None,
    backend: str,
    precision: str,
    threads: int | None,
) -> None:
    """Backtest a model on DATA beside seasonal naive.

    DATA is a CSV, JSON lines or Parquet file, - for text on stdin, or a folder of them whose
    manifest.csv has the columns dataset, horizon and seasonality.
    """
    if horizon is None and not Path(source).is_dir():
        raise click.UsageError("Missing option '--horizon': only a folder's manifest may say it.")
    if output is not None:
        check_report(output)
    if plot is not None:
        check_picture(plot)
    datasets = list_datasets(source, horizon, season, freq)
    forecaster = Forecaster.load(model, backend=backend, precision=precision, threads=threads)
    results = run_backtests(
        datasets,
        columns,
        model_methods(forecaster, contexts, samples, seed),
        windows=windows,
        quantiles=quantiles,
        reach=min(model_reach(forecaster.spec, context) for context in contexts),
    )
    if output is not None:  # before the tables: nothing printed may cost the figures
        settings = {
            "windows": windows, "samples": samples, "seed": seed, "quantiles": list(quantiles)
        }  # fmt: skip
        write_report(output, results, settings, per_series=per_series)
    if plot is not None:
        save_picture(plot, results, collection=Path(source).is_dir())
    if Path(source).is_dir():
        print_table(collection_table(results))
    else:
        print_table(dataset_table(next(iter(results.values()))))
    if per_series:
        for name, result in results.items():
            print_table(series_table(name, result))


def save_picture(plot: Path, results: Mapping[str, Backtest], *, collection: bool) -> None:
    """Draw a data set, or what several have in common."""
    if collection:
        save_collection(plot, results)
    else:
        (name, result), *_ = results.items()
        save_backtest(plot, result, f"{name}: {extent(result)}")


def model_methods(
    forecaster: Forecaster, contexts: tuple[int | None, ...], samples: int, seed: int
) -> dict[str, Method]:
    """The model once for each context; its name says which, where there are several."""
    name = forecaster.bundle.name
    return {
        name if context is None else f"{name}, context {context}": model_method(
            forecaster, context, samples, seed
        )
        for context in contexts
    }


def run_backtests(
    datasets: list[DataSet],
    columns: Columns,
    methods: Mapping[str, Method],
    *,
    windows: int,
    quantiles: tuple[float, ...],
    reach: int,
) -> dict[str, Backtest]:
    """Backtest `methods` on each data set, with notes, and a bar on a terminal.

    `reach` is how many values before the origin all of them see (see `rolling_windows`).
    """
    results = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LagliteWarning)
        for dataset in datasets:
            series = read_dataset(dataset, columns, note)

            def say(message: str, name: str = dataset.name) -> None:
                note(f"{name}: {message}")

            try:
                cut = rolling_windows(
                    series, dataset.horizon, windows, dataset.season, say, reach=reach
                )
                with progress_bar(dataset.name, len(cut) * (len(methods) + 2)) as advance:
                    results[dataset.name] = compare(cut, methods, quantiles, advance)
            except InputError as error:
                where = dataset.name if dataset.path == "-" else dataset.path
                raise InputError(f"{where}: {error}") from error
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        note(f"Warning: {message}")
    return results


@contextmanager
def progress_bar(name: str, total: int) -> Iterator[Callable[[int], Any]]:
    """A bar on a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(escape(name), total=total)
        yield lambda done: bar.advance(task, done)
