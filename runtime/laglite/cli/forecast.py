"""`laglite forecast`."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from laglite.bundle import locate, open_bundle
from laglite.cli.completion import complete_model, complete_path
from laglite.cli.layout_options import layout_options
from laglite.cli.model_options import model_options, note
from laglite.cli.preview import MOST_PREVIEWS, print_previews
from laglite.cli.table_options import table_options
from laglite.errors import InputError
from laglite.figures import check_picture
from laglite.forecast import parse_quantile
from laglite.forecast_parts import ForecastParts
from laglite.forecast_run import Batch, BatchForecasts, Engine, ForecastRun, LocalEngine
from laglite.forecast_table import ForecastSummary, TableLayout
from laglite.forecast_writer import check_output, render_csv, write_forecasts
from laglite.forecaster import Forecaster
from laglite.plotting import save_fan_charts
from laglite.randomness import fresh_seed
from laglite.ray_engine import ray_engine
from laglite.reading import Columns, count_streamed, read_series, stream_series

MOST_PANELS = 12
ENGINES = ("local", "ray")
Advance = Callable[[int], None]
SERIES_A_PART = 1024  # of a file that is read and written bit by bit


def parse_quantiles(_: click.Context, __: click.Parameter, text: str) -> tuple[float, ...]:
    """`0.1,0.5,0.9` to numbers; wrong usage otherwise."""
    try:
        levels = [parse_quantile(part.strip()) for part in text.split(",")]
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    return tuple(dict.fromkeys(levels))


def parse_inner_quantiles(
    ctx: click.Context, option: click.Parameter, text: str
) -> tuple[float, ...]:
    """`parse_quantiles` without the ends, at which a distribution has no finite value."""
    levels = parse_quantiles(ctx, option, text)
    if not all(0 < level < 1 for level in levels):
        raise click.BadParameter("levels must lie between 0 and 1, not at them")
    return levels


@click.command()
@click.argument("source", metavar="INPUT", shell_complete=complete_path)
@click.option("--horizon", type=click.IntRange(1), required=True, help="How many steps ahead.")
@table_options
@click.option(
    "--model",
    shell_complete=complete_model,
    help="Bundle directory, or a shipped model's name.  [default: base]",
)
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
    shell_complete=complete_path,
    help="FILE.csv, .json, .jsonl or .parquet, also .csv.gz; - (the default) is CSV on stdout.",
)
@layout_options
@click.option("--plot", type=click.Path(path_type=Path), help="Fan charts to FILE.png, .svg, .pdf.")
@click.option("--preview", is_flag=True, help="Draw the forecasts in the terminal, on stderr.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="Where to compute: here, or on the machines of a Ray cluster (docs/many-machines.md).",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="The Ray cluster's head, or auto; by default a local Ray for this run alone.",
)
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
    preview: bool,
    engine: str,
    address: str | None,
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
        check_picture(plot)
    if address is not None and engine != "ray":
        raise click.UsageError("--address names a Ray cluster: add --engine ray")
    run = ForecastRun(source, columns, horizon, samples, context, quantiles, nonnegative)
    opened = _open_engine(engine, address, model, backend, precision, threads)
    total = count_streamed(source)
    if output is not None and output != "-" and total > SERIES_A_PART:
        if plot is not None or preview:
            drawing = "--plot" if plot is not None else "--preview"
            raise InputError(
                f"{drawing} draws files of at most {SERIES_A_PART} series, not {total:,}"
            )
        if layout.wide:
            raise InputError(f"--layout wide is for at most {SERIES_A_PART} series, not {total:,}")
        with opened as computing:
            _forecast_in_parts(run, computing, precision, Path(output), layout, total, seed)
        return
    series = read_series(source, columns, freq, note)
    run.check(series)
    drawn = max(0 if plot is None else MOST_PANELS, MOST_PREVIEWS if preview else 0)
    batches = run.batches(series, drawn)
    seed = fresh_seed() if seed is None else seed
    with opened as computing, _progress(len(series)) as advance:
        results = list(_watched(computing.forecasts(run, batches, seed), advance))
    shown = [one for result in results for one in result.kept]
    forecasts = [one for result in results for one in result.summaries]
    layout = layout.named(computing.bundle.name)
    if plot is not None:
        save_fan_charts(plot, shown, [one.values for one in series[: len(shown)]])
        if len(series) > MOST_PANELS:
            note(f"{plot}: shows the first {MOST_PANELS} of {len(series)} series")
    if preview:
        few = shown[:MOST_PREVIEWS]
        print_previews(few, [one.values for one in series[: len(few)]], Console(stderr=True))
        if len(series) > MOST_PREVIEWS:
            note(f"preview: the first {MOST_PREVIEWS} of {len(series)} series")
    if output is None or output == "-":
        click.echo(render_csv(forecasts, quantiles, layout), nl=False)
    else:
        write_forecasts(output, forecasts, quantiles, layout)


@contextmanager
def _open_engine(
    kind: str,
    address: str | None,
    model: str | None,
    backend: str,
    precision: str,
    threads: int | None,
) -> Iterator[Engine]:
    """The model loaded where it is to compute."""
    if kind == "local":
        yield LocalEngine(
            Forecaster.load(model, backend=backend, precision=precision, threads=threads)
        )
        return
    if backend not in ("auto", "cpu"):
        raise InputError(f"--engine ray computes on CPUs; leave --backend {backend} out")
    with ray_engine(address, open_bundle(locate(model)), precision, threads or 1) as engine:
        yield engine


def _watched(results: Iterable[BatchForecasts], advance: Advance) -> Iterator[BatchForecasts]:
    """The same, with progress shown and each warning said once."""
    said: set[str] = set()
    for result in results:
        for message in result.warnings:
            if message not in said:
                note(f"Warning: {message}")
                said.add(message)
        advance(len(result.summaries))
        yield result


def _forecast_in_parts(
    run: ForecastRun,
    engine: Engine,
    precision: str,
    output: Path,
    layout: TableLayout,
    total: int,
    seed: int | None,
) -> None:
    """Forecast a file too long to hold at once; what a run before has finished is kept."""
    layout = layout.named(engine.bundle.name)
    plan = run.plan(engine.bundle, precision, SERIES_A_PART)
    parts = ForecastParts(output, plan | {"columns": list(layout.figures(run.quantiles))}, seed)
    count = -(-total // SERIES_A_PART)
    done = sum(parts.path(number).exists() for number in range(count))
    if done:
        note(f"{parts.folder}: {done} of {count} parts were finished before; going on")
    begun: deque[tuple[Path, int]] = deque()  # parts handed out, with how many series each has
    with _progress(total) as advance:

        def batches() -> Iterator[Batch]:
            for number, series in enumerate(stream_series(run.source, run.columns, SERIES_A_PART)):
                path = parts.path(number)
                if path.exists():
                    advance(len(series))
                    continue
                begun.append((path, len(series)))
                yield from run.batches(series)

        forecasts: list[ForecastSummary] = []
        for result in _watched(engine.forecasts(run, batches(), parts.seed), advance):
            forecasts += result.summaries
            path, length = begun[0]
            if len(forecasts) == length:
                write_forecasts(str(path), forecasts, run.quantiles, layout)
                begun.popleft()
                forecasts = []
    parts.join(count)


@contextmanager
def _progress(total: int) -> Iterator[Advance]:
    """What to call with the number of series just forecast: a bar on a terminal, for several."""
    hidden = total == 1 or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as progress:
        task = progress.add_task("forecasting", total=total)
        yield lambda count: progress.advance(task, count)
