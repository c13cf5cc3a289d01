"""Accuracy on held-out series: weighted quantile loss beside seasonal naive, as one command.

    python benchmarks/accuracy.py FOLDER [--model DIR] [--output accuracy.json]

FOLDER holds data sets in the Parquet series format and their `manifest.csv` (columns dataset,
horizon, seasonality). The last `horizon` values of every series are forecast from those before.
Seasonal naive repeats the last season, with normal quantiles whose standard deviation is that of
the in-sample seasonal differences, growing with the root of the seasons ahead.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from laglite import Forecaster
from laglite.reading import Columns, InputSeries, read_series

LEVELS = np.arange(1, 10) / 10
Array = NDArray[np.float64]


def quantile_loss(forecast: Array, actual: Array) -> float:
    """Twice the pinball loss summed over levels and steps; forecast is [levels, horizon]."""
    difference = actual - forecast
    losses = np.maximum(LEVELS[:, None] * difference, (LEVELS[:, None] - 1) * difference)
    return float(2 * np.nansum(losses))


def seasonal_naive(history: Array, horizon: int, season: int) -> Array:
    """Quantiles [levels, horizon]; falls back to the last value for short histories."""
    filled = np.interp(
        np.arange(len(history)), np.flatnonzero(~np.isnan(history)), history[~np.isnan(history)]
    )
    season = season if len(filled) > season else 1
    repeats = -(-horizon // season)
    centre = np.tile(filled[-season:], repeats)[:horizon]
    sigma = np.sqrt(np.nanmean((history[season:] - history[:-season]) ** 2))
    sigma = 0.0 if np.isnan(sigma) else sigma
    growth = np.sqrt(np.arange(horizon) // season + 1)
    scores = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    return centre + scores[:, None] * sigma * growth


def measure(
    forecaster: Forecaster, series: Sequence[InputSeries], horizon: int, season: int
) -> dict[str, float]:
    """Losses and 80 % coverage of one data set."""
    model = naive = total = inside = count = 0.0
    for one in track(series, transient=True, console=Console(stderr=True)):
        history, actual = one.values[:-horizon], one.values[-horizon:]
        if np.isnan(history).all() or np.isnan(actual).all():
            continue
        forecast = forecaster.predict(
            history,
            horizon=horizon,
            start=one.start,
            freq=None if one.freq is None else one.freq.alias,
            seed=0,
        )
        quantiles = np.stack([forecast.quantile(float(level)) for level in LEVELS]).astype(float)
        model += quantile_loss(quantiles, actual)
        naive += quantile_loss(seasonal_naive(history, horizon, season), actual)
        known = ~np.isnan(actual)
        total += float(np.abs(actual[known]).sum())
        inside += float(((quantiles[0] <= actual) & (actual <= quantiles[-1]))[known].sum())
        count += float(known.sum())
    levels = len(LEVELS)
    return {
        "series": len(series),
        "wql": model / levels / total,
        "wql_seasonal_naive": naive / levels / total,
        "relative": model / naive,
        "coverage_80": inside / count,
    }


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", help="Bundle directory or shipped name.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(folder: Path, model: str | None, output: Path | None) -> None:
    """Measure MODEL on every data set of FOLDER."""
    forecaster = Forecaster.load(model)
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        sets = list(csv.DictReader(file))
    results: dict[str, Any] = {}
    for entry in sets:
        name = entry["dataset"]
        series = read_series(str(folder / f"{name}.parquet"), Columns(), None, print)
        results[name] = measure(
            forecaster, series, int(entry["horizon"]), int(entry["seasonality"])
        )
    relative = [result["relative"] for result in results.values()]
    mean = math.exp(sum(math.log(value) for value in relative) / len(relative))
    table = Table(title=f"{forecaster.bundle.name}: WQL, and relative to seasonal naive", box=None)
    for heading in ("data set", "series", "WQL", "naive", "relative", "80 % coverage"):
        table.add_column(heading, justify="left" if heading == "data set" else "right")
    for name, r in results.items():
        cells = (r["wql"], r["wql_seasonal_naive"], r["relative"], r["coverage_80"])
        table.add_row(name, str(r["series"]), *(f"{value:.3f}" for value in cells))
    table.add_row("geometric mean", "", "", "", f"{mean:.3f}", "")
    Console().print(table)
    if output is not None:
        summary = {"relative_wql": mean, "data_sets": results}
        output.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
