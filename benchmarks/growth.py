"""How a forecast's time and memory grow with its context, horizon, paths and the number of series.

    python benchmarks/growth.py [--model base] [--threads 2]

One quantity at a time, the others at context 64, horizon 24, 100 paths. Each point is a process of
its own, which forecasts several times and tells its peak memory; series are forecast by one call of
`predict_batch` with 25 paths in 8 bits. Writes JSON, Markdown and a plot.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from result_files import write_results

from laglite.benchmarking.environment import environment
from laglite.benchmarking.process import ONE_THREAD, measure_apart
from laglite.benchmarking.workload import Workload, grid

SWEEPS: dict[str, tuple[int, ...]] = {
    "context": (32, 64, 128, 256, 512, 1000),
    "horizon": (8, 24, 48, 96, 168),
    "paths": (10, 25, 100, 300, 1000),
    "series": (1, 10, 100, 1000, 10_000),
}
LABELS = {
    "context": "tokens of context",
    "horizon": "steps of the horizon",
    "paths": "sample paths",
    "series": "series of 1,000 values",
}
BATCH = """
import json, resource, sys, time
import numpy as np
from laglite import Forecaster
model, threads, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
values = np.random.default_rng(0).normal(size=(count, 1000)).cumsum(axis=1)
forecaster = Forecaster.load(model, precision="int8", threads=threads)
options = dict(horizon=24, start="2024-01-01", freq="h", num_samples=25, seed=0)
forecaster.predict_batch(values[:threads], **options)
begin = time.perf_counter()
done = 0
for first in range(0, count, 64):
    done += len(forecaster.predict_batch(values[first : first + 64], **options))
seconds = time.perf_counter() - begin
assert done == count
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
print(json.dumps({"milliseconds": 1e3 * seconds, "peak": peak}))
"""


def one_series(model: str, threads: int, name: str, repeats: int) -> list[dict[str, float]]:
    """Median milliseconds and peak MB for each value of one quantity."""
    base = Workload(model=model, threads=threads, context=64, repeats=repeats, warmup=1)
    points = []
    for workload in grid(base, **{name: SWEEPS[name]}):
        found = measure_apart(workload)
        at = getattr(workload, name)
        points.append({"at": at, "milliseconds": found.latency["p50"], "peak": found.resident_peak})
        click.echo(f"{name} {at}: {points[-1]['milliseconds']:.0f} ms", err=True)
    return points


def many_series(model: str, threads: int) -> list[dict[str, float]]:
    """Milliseconds of all series together and peak MB, for each number of series."""
    points = []
    for count in SWEEPS["series"]:
        done = subprocess.run(
            [sys.executable, "-c", BATCH, model, str(threads), str(count)],
            capture_output=True, text=True, check=True,
            env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
        )  # fmt: skip
        points.append({"at": count, **json.loads(done.stdout)})
        click.echo(f"series {count}: {points[-1]['milliseconds']:.0f} ms", err=True)
    return points


def markdown(results: dict[str, list[dict[str, float]]], about: dict[str, Any]) -> str:
    """A table for each quantity."""
    lines = ["# Growth of time and memory", ""]
    lines += [f"{about['processor']}, {about['cores']} cores, {about['threads']} threads, "
              f"{about['onnxruntime']}. Model {about['model']}; context 64, horizon 24, 100 paths, "
              "fp32, but for the quantity that changes; series: all of them, 25 paths, int8. "
              "Milliseconds are medians, memory is the process's peak.", ""]  # fmt: skip
    for name, points in results.items():
        lines += [f"| {LABELS[name]} | ms | times the first | peak MB |", "|---:|---:|---:|---:|"]
        for point in points:
            ratio = point["milliseconds"] / points[0]["milliseconds"]
            lines.append(
                f"| {point['at']:,} | {point['milliseconds']:,.0f} | {ratio:,.2f} "
                f"| {point['peak']:.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def plot(results: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Time and memory of each quantity, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(results), figsize=(3.2 * len(results), 5), sharex="col")
    for column, (name, points) in enumerate(results.items()):
        at = [point["at"] for point in points]
        for row, (key, colour) in enumerate((("milliseconds", "C0"), ("peak", "C1"))):
            ax = axes[row, column]
            ax.plot(at, [point[key] for point in points], "o-", color=colour)
            ax.set(xscale="log")
            if (name, key) == ("series", "milliseconds"):
                ax.set_yscale("log")
            else:
                ax.set_ylim(0, 1.08 * max(point[key] for point in points))
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(alpha=0.25)
        axes[1, column].set_xticks(at, [f"{value:,}" for value in at], fontsize=8)
        axes[1, column].minorticks_off()
        axes[1, column].set_xlabel(LABELS[name])
    axes[0, 0].set_ylabel("milliseconds")
    axes[1, 0].set_ylabel("peak memory, MB")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


@click.command()
@click.option("--model", default="base", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=7, show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path),
    default=Path(__file__).parent / "results" / "growth.json",
)  # fmt: skip
def main(model: str, threads: int, repeats: int, output: Path) -> None:
    """Measure every point of every sweep."""
    results = {
        name: one_series(model, threads, name, repeats) for name in ("context", "horizon", "paths")
    }
    results["series"] = many_series(model, threads)
    about = {**environment(model), "threads": threads}
    text = markdown(results, about)
    write_results(output, {"machine": about, "points": results}, text)
    plot(results, output.with_suffix(".png"))
    click.echo(text)


if __name__ == "__main__":
    main()
