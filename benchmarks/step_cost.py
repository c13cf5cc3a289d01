"""Cost of the decoder step over its arithmetic floor, on this machine, as one command.

    python benchmarks/step_cost.py [--context 32] [--context 1024] [--output step_cost.json]

Lag-Llama's release configuration (8 layers x 9 heads x 16, 84 lags, random weights), one series,
horizon 24, 100 paths, one thread. The floor is the floating-point work of the matrix products of
all steps over this machine's one-thread sgemm rate, measured between the runs; ratios are medians.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: the floor is one thread's

import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

from laglite.backends import open_backend
from laglite.bundle import open_bundle
from laglite.decoding import prefill, sample_paths
from laglite.heads import HEADS
from laglite.randomness import LatticeNoise
from laglite.rope import rotary_tables
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_export.bundle_writer import export_bundle
from laglite_train.model import LagLlama

PATHS, HORIZON = 100, 24
# The sorted union of GluonTS' default lags for Q, M, W, D, h, min and s, each less one.
RELEASE_LAGS = (
    0, 7, 8, 10, 11, 12, 13, 14, 19, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 34, 35, 36, 46, 47,
    48, 50, 51, 52, 55, 57, 58, 59, 60, 61, 70, 71, 72, 83, 94, 95, 96, 102, 103, 104, 117, 118,
    119, 120, 121, 142, 143, 144, 154, 155, 156, 166, 167, 168, 177, 178, 179, 180, 181, 334, 335,
    336, 362, 363, 364, 502, 503, 504, 670, 671, 672, 718, 719, 720, 726, 727, 728, 1090, 1091,
    1092,
)  # fmt: skip


def step_flops(spec: ModelSpec) -> float:
    """Multiply-adds, counted twice, of one token's linear layers."""
    return 2.0 * (spec.num_parameters - spec.num_layers * 2 * spec.width - spec.width)


def sgemm_rate(spec: ModelSpec) -> float:
    """FLOP/s of one-thread sgemm at the size of the step's largest product."""
    left = np.random.default_rng(0).random((PATHS, spec.width), np.float32)
    right = np.random.default_rng(1).random((spec.width, spec.mlp_width), np.float32)
    times = []
    for _ in range(15):
        begin = time.perf_counter()
        for _ in range(20):
            left @ right
        times.append(time.perf_counter() - begin)
    return 20 * 2.0 * PATHS * spec.width * spec.mlp_width / float(np.median(times))


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@click.command()
@click.option("--context", "contexts", multiple=True, type=int, default=(32, 1024))
@click.option("--repeats", default=11, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(contexts: tuple[int, ...], repeats: int, output: Path | None) -> None:
    """Time prefill and decoding of the release configuration, beside the floor."""
    spec = ModelSpec(8, 9, 16, 512, RELEASE_LAGS)
    torch.manual_seed(0)
    model = LagLlama(spec)
    model.initialise()
    history = 10 + np.sin(np.arange(4000) / 4) + np.random.default_rng(0).normal(size=4000) / 5
    axis = TimeAxis.of("2024-01-01", "h")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "release"
        export_bundle(model.eval(), path, name="release", license_name="none", summary={})
        backend = open_backend("cpu", open_bundle(path), "fp32", threads=1)
        work = PATHS * (HORIZON - 1) * step_flops(spec)
        rows = {context: _measure(spec, backend, history, axis, context, repeats, work)
                for context in contexts}  # fmt: skip
    table = Table(title=f"{work / 1e9:.1f} GFLOP, {PATHS} paths x {HORIZON} steps, 1 thread",
                  box=None)  # fmt: skip
    for heading in ("context", "floor ms", "decode ms", "ratio", "prefill ms", "total ms"):
        table.add_column(heading, justify="right")
    for context, row in rows.items():
        cells = [row[key] for key in ("floor", "decode", "ratio", "prefill", "total")]
        table.add_row(str(context), *(f"{value:.2f}" for value in cells))
    Console().print(table)
    first = rows[contexts[0]]["total"]
    for context in contexts[1:]:
        growth = rows[context]["total"] / first
        click.echo(f"context {context} costs {growth:.2f} x context {contexts[0]}")
    if output is not None:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnxruntime": onnxruntime.__version__,
        }
        output.write_text(json.dumps({"machine": machine, "contexts": rows}, indent=1) + "\n")


def _measure(
    spec: ModelSpec, backend: Any, history: Any, axis: TimeAxis, context: int, repeats: int,
    work: float,
) -> dict[str, float]:  # fmt: skip
    """Medians in milliseconds; floor and runs alternate, so that both see the same machine."""
    prompt = encode(spec, history, axis, context)
    noise = LatticeNoise(0, prompt.window, HORIZON, PATHS, HEADS[spec.head].fine_draws)
    calendar = axis.calendar(len(history), HORIZON)
    rotary = rotary_tables(spec, context + HORIZON - 1)

    def forecast() -> None:
        sample_paths(backend, spec, prompt, calendar, noise, nonnegative=False, shards=1)

    forecast()
    floors, prefills, totals = [], [], []
    for _ in range(repeats):
        floors.append(work / sgemm_rate(spec))
        prefills.append(seconds(lambda: prefill(backend, prompt, rotary)))
        totals.append(seconds(forecast))
    decodes = [total - first for total, first in zip(totals, prefills, strict=True)]
    ratios = [decode / floor for decode, floor in zip(decodes, floors, strict=True)]
    figures = {"floor": floors, "prefill": prefills, "decode": decodes, "total": totals}
    row = {name: 1e3 * float(np.median(values)) for name, values in figures.items()}
    return {**row, "ratio": float(np.median(ratios))}


if __name__ == "__main__":
    main()
