"""How far quantiles are from those of very many paths, by paths and milliseconds.

    python benchmarks/quantile_error.py DATA --output FILE.json [--model base] [--horizon 24]
                                        [--series 3] [--repeats 12] [--known 20000]

DATA is a folder of data sets; the last --series series of each with at least three times the
horizon's values are forecast, without their last --horizon values. The truth are the deciles of
--known independent paths; an error is the root mean square over deciles and steps of the difference
to them, over the width of the 80 % interval, and over the repeats, each with a seed of its own. All
variants take turns, so that their times see the same machine. A Markdown table and a plot are
written beside FILE.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from result_files import write_results

from laglite import Forecast, Forecaster
from laglite.benchmarking.environment import environment
from laglite.evaluation.datasets import list_datasets, read_dataset
from laglite.evaluation.windows import Window, rolling_windows
from laglite.reading import Columns

DECILES = np.arange(1, 10) / 10
PATHS = (10, 25, 50, 100, 200, 400)
AT_ONCE = 1000  # independent paths of the truth in one call


def deciles(forecast: Forecast) -> NDArray[np.float64]:
    """[9, horizon]"""
    return np.stack([forecast.quantile(level) for level in DECILES]).astype(np.float64)


def known_deciles(
    forecaster: Forecaster, window: Window, horizon: int, paths: int
) -> NDArray[np.float64]:
    """Deciles [9, horizon] of `paths` independent paths."""
    parts = [
        predict(forecaster, window, horizon, AT_ONCE, 10_000 + part, refine=False).samples
        for part in range(-(-paths // AT_ONCE))
    ]
    return np.quantile(np.concatenate(parts), DECILES, axis=0)


def predict(
    forecaster: Forecaster, window: Window, horizon: int, paths: int, seed: int, *,
    refine: bool,
) -> Forecast:  # fmt: skip
    timed = window.start is not None and window.freq is not None
    return forecaster.predict(
        window.history,
        horizon=horizon,
        start=window.start if timed else None,
        freq=window.freq.alias if timed else None,
        num_samples=paths,
        seed=seed,
        refine=refine,
    )


def measure(
    forecaster: Forecaster, windows: list[Window], horizon: int, repeats: int, known: int
) -> list[dict[str, Any]]:
    """One row for each number of paths, independent and refined."""
    variants = [(paths, refine) for paths in PATHS for refine in (False, True)]
    squares: dict[tuple[int, bool], list[float]] = {variant: [] for variant in variants}
    seconds: dict[tuple[int, bool], list[float]] = {variant: [] for variant in variants}
    for window in windows:
        truth = known_deciles(forecaster, window, horizon, known)
        width = truth[-1] - truth[0]  # [horizon]
        for seed in range(repeats):
            for paths, refine in variants:
                began = time.perf_counter()
                found = deciles(predict(forecaster, window, horizon, paths, seed, refine=refine))
                seconds[paths, refine].append(time.perf_counter() - began)
                squares[paths, refine].append(float(np.mean(((found - truth) / width) ** 2)))
        click.echo(window.item_id, err=True)
    return [
        {
            "paths": paths,
            "refine": refine,
            "error": float(np.sqrt(np.mean(squares[paths, refine]))),
            "milliseconds": 1e3 * float(np.median(seconds[paths, refine])),
        }
        for paths, refine in variants
    ]


def to_markdown(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    by = {(row["paths"], row["refine"]): row for row in rows}
    reference = by[100, False]
    lines = [
        "# Quantile error by paths",
        "",
        f"`{settings['model']}`, {settings['windows']} series, horizon {settings['horizon']}, "
        f"{settings['repeats']} seeds each, {settings['threads']} threads, {settings['machine']}, "
        f"{settings['onnxruntime']}. Root mean square error of the deciles against "
        f"those of {settings['known']:,} independent paths, over the width of the 80 % interval; "
        "median time of a forecast and its quantiles, and its ratio to 100 independent paths.",
        "",
        "| paths | error, independent | error, refined | ms, independent | ms, refined "
        "| time ratio, refined |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for paths in PATHS:
        plain, fine = by[paths, False], by[paths, True]
        lines.append(
            f"| {paths} | {plain['error']:.3f} | {fine['error']:.3f} "
            f"| {plain['milliseconds']:.1f} | {fine['milliseconds']:.1f} "
            f"| {fine['milliseconds'] / reference['milliseconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Error over milliseconds, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for refine, label in ((False, "independent paths"), (True, "refined")):
        chosen = [row for row in rows if row["refine"] == refine]
        axes.plot(
            [row["milliseconds"] for row in chosen], [row["error"] for row in chosen], "o-",
            label=label,
        )  # fmt: skip
        for row in chosen:
            axes.annotate(str(row["paths"]), (row["milliseconds"], row["error"]), fontsize=7)
    axes.set(xscale="log", yscale="log", xlabel="milliseconds a forecast", ylabel="quantile error")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


@click.command()
@click.argument("data")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--model", default="base", show_default=True)
@click.option("--horizon", type=click.IntRange(1), default=24, show_default=True)
@click.option("--series", type=click.IntRange(1), default=3, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=12, show_default=True)
@click.option("--known", type=click.IntRange(100), default=20_000, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
def main(
    data: str, output: Path, model: str, horizon: int, series: int, repeats: int, known: int,
    threads: int,
) -> None:  # fmt: skip
    """Measure the quantile error of DATA's series."""
    forecaster = Forecaster.load(model, threads=threads)
    windows = []
    for dataset in list_datasets(data, None, None, None):
        found = read_dataset(dataset, Columns(), lambda message: None)
        long = [one for one in found if len(one.values) >= 3 * horizon][-series:]
        if long:
            windows += rolling_windows(long, horizon, 1, dataset.season)
    rows = measure(forecaster, windows, horizon, repeats, known)
    machine = environment(model)
    settings = {
        "model": model,
        "windows": len(windows),
        "horizon": horizon,
        "repeats": repeats,
        "known": known,
        "threads": threads,
        "machine": f"{machine['processor']}, {machine['cores']} cores",
        "onnxruntime": machine["onnxruntime"],
    }
    write_results(output, {"settings": settings, "rows": rows}, to_markdown(rows, settings))
    plot(rows, output.with_suffix(".png"))


if __name__ == "__main__":
    main()
