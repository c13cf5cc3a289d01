"""laglite beside what else one would forecast with on a CPU: the same series, horizon and deciles.

    pip install chronos-forecasting statsforecast darts
    python benchmarks/cpu_peers.py [--threads 2]

- Chronos-Bolt tiny and small (chronos-forecasting), at the published sizes with random weights,
  which do not change how long a forecast takes;
- AutoETS and AutoTheta (statsforecast), season 24, which fit anew for each series;
- ExponentialSmoothing of Darts with 100 simulated paths, and its regression on 48 lags with
  conformal intervals, which fit anew as well.

Hourly series of 512 values, 24 steps ahead, nine deciles: one series, and 64 at once, both without
loading the model or importing. A peer that is not installed is left out, which the result says.
Medians of alternating runs; accuracy is not compared here. Writes JSON, Markdown and a plot.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # laglite splits the paths itself

import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import numpy as np
from bar_chart import save_bars
from chronos_peer import BOLTS, bolt
from darts_peer import DARTS, darts
from numpy.typing import NDArray
from result_files import write_results

from laglite import Forecaster
from laglite.benchmarking.environment import environment

LENGTH, HORIZON, SEASON, MANY = 512, 24, 24, 64
LEVELS = [round(0.1 * step, 1) for step in range(1, 10)]
Series = NDArray[np.float64]  # [series, LENGTH]
Method = Callable[[Series], Any]

OURS = {
    "laglite base, fp32": ("base", "fp32", 100),
    "laglite base, int8, 25 paths": ("base", "int8", 25),
    "laglite nano, int8, 25 paths": ("nano", "int8", 25),
}


def hourly(count: int) -> Series:
    """Daily seasons of different height with noise and a drift."""
    random = np.random.default_rng(0)
    hours = np.arange(LENGTH)
    day = np.sin(2 * np.pi * hours / 24) * random.uniform(5, 30, (count, 1))
    return 100 + day + random.normal(size=(count, LENGTH)).cumsum(axis=1) / 3


def ours(model: str, precision: str, paths: int, threads: int) -> Method:
    """A forecast of laglite with its deciles."""
    forecaster = Forecaster.load(model, precision=precision, threads=threads)

    def run(series: Series) -> list[NDArray[np.float32]]:
        forecasts = forecaster.predict_batch(
            list(series), horizon=HORIZON, start="2024-01-01", freq="h", num_samples=paths, seed=0
        )
        return [one.quantile(level) for one in forecasts for level in LEVELS]

    return run


def statistical(name: str, threads: int) -> Method:
    """A model of statsforecast, fitted to each series; ModuleNotFoundError without the package."""
    import pandas as pd
    from statsforecast import StatsForecast, models

    model = getattr(models, name)(season_length=SEASON)
    intervals = sorted({round(100 * abs(2 * level - 1)) for level in LEVELS} - {0})

    def run(series: Series) -> Any:
        stamps = pd.date_range("2024-01-01", periods=LENGTH, freq="h")
        frame = pd.DataFrame(
            {
                "unique_id": np.repeat(np.arange(len(series)), LENGTH),
                "ds": np.tile(stamps, len(series)),
                "y": series.ravel(),
            }
        )
        jobs = threads if len(series) > 1 else 1
        fitted = StatsForecast([model], freq="h", n_jobs=jobs)
        return fitted.forecast(df=frame, h=HORIZON, level=intervals)

    return run


def methods(threads: int) -> tuple[dict[str, Method], list[str]]:
    """What can run here, and what is not installed."""
    found = {name: ours(*given, threads) for name, given in OURS.items()}
    absent = []
    makers: dict[str, Callable[[], Method]] = {
        name: (lambda name=name: bolt(name, LEVELS, HORIZON)) for name in BOLTS
    }
    for name in ("AutoTheta", "AutoETS"):
        makers[name] = lambda name=name: statistical(name, threads)  # type: ignore[misc]
    for name in DARTS:
        makers[name] = lambda name=name: darts(name, LEVELS, HORIZON, SEASON)  # type: ignore[misc]
    for name, make in makers.items():
        try:
            found[name] = make()
        except ModuleNotFoundError as error:
            absent.append(f"{name} ({error.name} is not installed)")
    return found, absent


def measure(found: dict[str, Method], count: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of each method for `count` series, alternating."""
    series = hourly(count)
    times: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(rounds + 1):
        for name, run in found.items():
            begin = time.perf_counter()
            run(series)
            if turn:  # the first warms up, and compiles where a peer does so
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: float(np.median(taken)) for name, taken in times.items()}


def markdown(results: dict[str, dict[str, float]], about: dict[str, Any]) -> str:
    """A row a method, a column a number of series."""
    versions = ", ".join(f"{name} {about[name]}" for name in PACKAGES if name in about)
    lines = ["# Forecasting on a CPU", ""]
    lines += [f"{about['processor']}, {about['cores']} cores, {about['threads']} threads, "
              f"{about['onnxruntime']}, {versions}. Hourly series of {LENGTH} values, {HORIZON} "
              "steps, deciles; milliseconds, medians of alternating runs. Chronos-Bolt has random "
              "weights at the published sizes.", ""]  # fmt: skip
    lines += [f"| | one series | {MANY} series |", "|---|---:|---:|"]
    one, many = results.values()
    lines += [f"| {name} | {one[name]:,.0f} | {many[name]:,.0f} |" for name in one]
    if about["absent"]:
        lines += ["", "Not measured: " + ", ".join(about["absent"]) + "."]
    return "\n".join(lines) + "\n"


PACKAGES = ("torch", "chronos-forecasting", "statsforecast", "darts")


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path),
    default=Path(__file__).parent / "results" / "cpu_peers.json",
)  # fmt: skip
def main(threads: int, rounds: int, output: Path) -> None:
    """Time every method that is installed."""
    found, absent = methods(threads)
    about: dict[str, Any] = {**environment("base"), "threads": threads, "absent": absent}
    for name in PACKAGES:
        try:
            about[name] = version(name)
        except PackageNotFoundError:
            continue
    if "torch" in about:
        import torch

        torch.set_num_threads(threads)
    results = {
        "one series": measure(found, 1, rounds),
        f"{MANY} series": measure(found, MANY, rounds),
    }
    text = markdown(results, about)
    write_results(output, {"machine": about, "milliseconds": results}, text)
    save_bars(results, output.with_suffix(".png"), "milliseconds")
    click.echo(text)


if __name__ == "__main__":
    main()
