"""laglite beside PyTorch on the same network: one series, 100 sample paths, paired in one run.

    python benchmarks/pytorch_peers.py [--context 32] [--context 256] [--threads 2]

Lag-Llama's release configuration (8 layers x 9 heads x 16, 84 lags, random weights), horizon 24.
The peers decode as programs around this network do:

- *recomputed*: the published default; every path's whole sequence through the network at each step;
- *cached*: keys and values kept; the prompt is replicated for every path, as published;
- *shared prompt*: as cached, but the prompt goes through the network once;
- *shared prompt, compiled*: the same with each layer's step under `torch.compile`, which needs a
  C++ compiler: left out where there is none;

laglite's rows are the fp32 and int8 precisions, with refined paths (its default) and with
independent ones, which is what the peers draw. Times are whole forecasts from the history's values
on, medians of alternating runs. Writes JSON, Markdown and a plot.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # laglite splits the paths itself

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from bar_chart import save_bars
from pytorch_peer import Peer, cached, compiled, compiler, recomputed, shared_prompt
from release_model import release_bundle, release_model
from result_files import write_results

from laglite import Forecaster
from laglite.benchmarking.environment import environment
from laglite.benchmarking.workload import FREQ, START, series
from laglite_train.model import LagLlama

PATHS, HORIZON = 100, 24
OURS = {
    "laglite fp32": ("fp32", True),
    "laglite fp32, independent paths": ("fp32", False),
    "laglite int8": ("int8", True),
    "laglite int8, independent paths": ("int8", False),
}


PEERS: dict[str, Callable[[Peer], torch.Tensor]] = {
    "PyTorch, recomputed": recomputed,
    "PyTorch, cached": cached,
    "PyTorch, shared prompt": shared_prompt,
}
if compiler():
    PEERS["PyTorch, shared prompt, compiled"] = compiled


def same_distribution(peer: Peer, path: Path) -> float:
    """Largest difference, in spreads, of the peers' mean and laglite's at any step."""
    ours = Forecaster.load(path).predict(
        peer.values[0], horizon=HORIZON, start=START, freq=FREQ, num_samples=2000, seed=0,
        context_length=peer.context, refine=False,
    ).samples  # fmt: skip
    torch.manual_seed(0)
    scaled = [peer.forecast(cached).numpy() for _ in range(10)]
    means = peer.windows[0].to_data(np.concatenate(scaled)).mean(0)
    return float(np.max(np.abs(means - ours.mean(0)) / ours.std(0)))


def measure(path: Path, model: LagLlama, context: int, threads: int, rounds: int) -> dict[str, Any]:
    """Medians in milliseconds of every method at one context."""
    values = series(model.spec.max_lag + context)
    peer = Peer(model, values[None], context, HORIZON, PATHS)
    click.echo(f"context {context}: means differ by {same_distribution(peer, path):.3f} spreads")
    loaded = {
        precision: Forecaster.load(path, precision=precision, threads=threads)
        for precision in ("fp32", "int8")
    }

    def ours(precision: str, refine: bool) -> Callable[[], Any]:
        return lambda: loaded[precision].predict(
            values, horizon=HORIZON, start=START, freq=FREQ, num_samples=PATHS, seed=0,
            context_length=context, refine=refine,
        ).quantile(0.9)  # fmt: skip

    calls: dict[str, Callable[[], Any]] = {
        name: (lambda run=run: peer.forecast(run)) for name, run in PEERS.items()
    }
    calls |= {name: ours(*arguments) for name, arguments in OURS.items()}
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: float(np.median(taken)) for name, taken in times.items()}


def markdown(results: dict[int, dict[str, float]], about: dict[str, Any]) -> str:
    """A table: rows are methods, columns contexts, with ratios to the cached peer."""
    lines = ["# One forecast: PyTorch and laglite", ""]
    lines += [f"{about['processor']}, {about['cores']} cores, {about['threads']} threads, "
              f"torch {about['torch']}, onnxruntime {about['onnxruntime']}. Release configuration "
              f"(8 x 9 x 16, 84 lags, random weights), {PATHS} paths x {HORIZON} steps, "
              "milliseconds, medians of alternating runs.", ""]  # fmt: skip
    head = "".join(f" context {context} | cached / it |" for context in results)
    lines += [f"| |{head}", "|---|" + "---:|---:|" * len(results)]
    for name in next(iter(results.values())):
        cells = ""
        for row in results.values():
            cells += f" {row[name]:,.0f} | {row['PyTorch, cached'] / row[name]:.1f} |"
        lines.append(f"| {name} |{cells}")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--context", "contexts", multiple=True, type=int, default=(32, 256))
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path),
    default=Path(__file__).parent / "results" / "pytorch_peers.json",
)  # fmt: skip
def main(contexts: tuple[int, ...], threads: int, rounds: int, output: Path) -> None:
    """Time every method at every context, alternating."""
    torch.set_num_threads(threads)
    model = release_model()
    with tempfile.TemporaryDirectory() as folder:
        path = release_bundle(Path(folder))
        results = {c: measure(path, model, c, threads, rounds) for c in contexts}
        about = {
            **environment(str(path)),
            "threads": threads,
            "torch": torch.__version__,
        }
    text = markdown(results, about)
    write_results(output, {"machine": about, "milliseconds": results}, text)
    charts = {f"context {context}": row for context, row in results.items()}
    save_bars(charts, output.with_suffix(".png"), "milliseconds a forecast")
    click.echo(text)


if __name__ == "__main__":
    main()
