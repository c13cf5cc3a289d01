"""Likelihood of the next value on held-out series: how well a model knows data it never saw.

    python benchmarks/next_value.py FOLDER --model base --model DIR [--series 60]

FOLDER holds data sets in the Parquet series format and their `manifest.csv` (columns dataset,
horizon, seasonality). Every value of the last windows is scored given all values before it, so that
no errors build up over a horizon and no single series decides: for comparing models the least noisy
measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import click
import numpy as np

from laglite import Forecaster
from laglite.errors import LagliteError
from laglite.evaluation.datasets import DataSet, list_datasets, read_dataset
from laglite.evaluation.seasonal_naive import seasonal_error
from laglite.evaluation.windows import Window, rolling_windows
from laglite.reading import Columns

WANTED_WINDOWS = 8  # of data sets with fewer series


def sampled_windows(dataset: DataSet, series: int) -> list[Window]:
    """The last window of at most `series` series; several of each where there are few."""
    rows = read_dataset(dataset, Columns(), lambda _: None)
    chosen = rows[:: max(1, len(rows) // series)][:series]
    count = max(1, WANTED_WINDOWS // len(rows))
    return rolling_windows(chosen, dataset.horizon, count, dataset.season)


def next_value_loss(forecaster: Forecaster, windows: Sequence[Window]) -> float:
    """Mean negative log-likelihood of a value given all before, in units of the seasonal error.

    Windows of series that repeat their last season exactly have no such unit and are left out.
    """
    losses = []
    for window in windows:
        unit = seasonal_error(window.history, window.season)
        freq = None if window.freq is None else window.freq.alias
        score = forecaster.score(window.history, window.actual, start=window.start, freq=freq)
        known = ~np.isnan(window.actual)
        if unit > 0:
            losses.append(float(-score.log_prob[known].mean()) - math.log(unit))
    return float(np.mean(losses))


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--model", "models", multiple=True, default=("base", "nano"), show_default=True)
@click.option("--series", type=int, default=60, show_default=True, help="Series a data set.")
def main(folder: str, models: tuple[str, ...], series: int) -> None:
    """Print a Markdown table: a row for each data set, a column for each model."""
    try:
        measure(folder, models, series)
    except LagliteError as error:
        raise click.ClickException(str(error)) from error


def measure(folder: str, models: Sequence[str], series: int) -> None:
    """Score all models on the same windows."""
    forecasters = [Forecaster.load(model) for model in models]
    click.echo("| data set | " + " | ".join(f"`{each.bundle.name}`" for each in forecasters) + " |")
    click.echo("|---|" + "---:|" * len(models))
    losses = []
    for dataset in list_datasets(folder, None, None, None):
        windows = sampled_windows(dataset, series)
        losses.append([next_value_loss(each, windows) for each in forecasters])
        click.echo(f"| `{dataset.name}` | " + " | ".join(f"{x:.3f}" for x in losses[-1]) + " |")
    means = np.mean(losses, axis=0)
    click.echo("| **mean** | " + " | ".join(f"**{x:.3f}**" for x in means) + " |")


if __name__ == "__main__":
    main()
