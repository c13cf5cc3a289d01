"""Accuracy on held-out series: weighted quantile loss beside seasonal naive, as one command.

    python benchmarks/accuracy.py FOLDER [--model DIR] [--context 64,256] [--samples 100]
                                  [--peer autoets] [--pool nano] [--output accuracy.json]

FOLDER holds data sets in the Parquet series format and their `manifest.csv` (columns dataset,
horizon, seasonality). The last `horizon` values of every series are forecast from those before.
The same as `laglite evaluate FOLDER`, and on the same windows a peer from another library, and
half of the paths of the model together with as many of another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from laglite import Forecaster
from laglite.cli.evaluate import model_methods, parse_contexts, run_backtests
from laglite.cli.evaluation_tables import collection_table, print_table
from laglite.errors import LagliteError
from laglite.evaluation.backtest import Method, model_reach
from laglite.evaluation.datasets import list_datasets
from laglite.evaluation.metrics import DECILES, QuantileForecast
from laglite.evaluation.report import check_report, write_report
from laglite.evaluation.windows import Window
from laglite.reading import Columns


def pooled(members: tuple[Forecaster, Forecaster], samples: int) -> Method:
    """Quantiles of the members' paths put together, half of `samples` from each."""

    def forecast(windows: Sequence[Window], levels: Sequence[float]) -> list[QuantileForecast]:
        paths = [
            member.predict_batch(
                [window.history for window in windows],
                horizon=len(windows[0].actual),
                start=[window.start for window in windows],
                freq=[window.freq and window.freq.alias for window in windows],
                num_samples=samples // 2,
                seed=0,
            )
            for member in members
        ]
        pools = [
            np.concatenate([one.samples, other.samples]) for one, other in zip(*paths, strict=True)
        ]
        return [
            QuantileForecast(tuple(levels), np.quantile(pool, levels, axis=0), pool.mean(axis=0))
            for pool in pools
        ]

    return forecast


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--model", help="Bundle directory or shipped name.")
@click.option("--context", "contexts", callback=parse_contexts, help="Tokens of history.")
@click.option("--samples", type=click.IntRange(1), default=100, show_default=True)
@click.option("--windows", type=click.IntRange(1), default=1, show_default=True)
@click.option("--peer", "peers", type=click.Choice(["autoets"]), multiple=True)
@click.option("--pool", help="Another model, whose paths make up half of a forecast.")
@click.option("--output", type=click.Path(path_type=Path), help="All figures to FILE.json or .csv.")
def main(**options: Any) -> None:
    """Measure MODEL on every data set of FOLDER."""
    try:
        measure(**options)
    except LagliteError as error:
        raise click.ClickException(str(error)) from error


def measure(
    folder: str,
    model: str | None,
    contexts: tuple[int | None, ...],
    samples: int,
    windows: int,
    peers: tuple[str, ...],
    pool: str | None,
    output: Path | None,
) -> None:
    """Print the table, and write the report where one is wanted."""
    if output is not None:
        check_report(output)
    datasets = list_datasets(folder, None, None, None)
    forecaster = Forecaster.load(model)
    methods = model_methods(forecaster, contexts, samples, seed=0)
    if "autoets" in peers:
        from statsforecast_peer import auto_ets

        methods["AutoETS"] = auto_ets()
    if pool is not None:
        other = Forecaster.load(pool)
        name = f"{forecaster.bundle.name} and {other.bundle.name}"
        methods[name] = pooled((forecaster, other), samples)
    results = run_backtests(
        datasets,
        Columns(),
        methods,
        windows=windows,
        quantiles=DECILES,
        reach=min(model_reach(forecaster.spec, context) for context in contexts),
    )
    print_table(collection_table(results))
    if output is not None:
        write_report(output, results, {"windows": windows, "samples": samples, "seed": 0})


if __name__ == "__main__":
    main()
