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

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from bar_chart import save_bars
from published_lags import PUBLISHED_LAGS
from result_files import write_results
from torch.nn import functional

from laglite import Forecaster
from laglite.benchmarking.environment import environment
from laglite.benchmarking.workload import FREQ, START, series
from laglite.rope import rotary_tables
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_export.bundle_writer import export_bundle
from laglite_train.distributions import sample
from laglite_train.model import KeysValues, LagLlama, rotate

PATHS, HORIZON = 100, 24
OURS = {
    "laglite fp32": ("fp32", True),
    "laglite fp32, independent paths": ("fp32", False),
    "laglite int8": ("int8", True),
    "laglite int8, independent paths": ("int8", False),
}


class Peer:
    """The PyTorch network around one series; every method yields [paths, horizon] scaled values."""

    def __init__(self, model: LagLlama, values: np.ndarray, context: int) -> None:
        self.model, self.context = model, context
        self.axis = TimeAxis.of(START, FREQ)
        self.values = values

    def forecast(self, run: Callable[[Peer], torch.Tensor]) -> torch.Tensor:
        """Features, network and draws of one forecast."""
        spec = self.model.spec
        prompt = encode(spec, self.values, self.axis, self.context)
        self.prompt = torch.from_numpy(prompt.tokens)
        self.static = torch.from_numpy(prompt.tokens[-1, spec.num_past :][: spec.num_static])
        calendar = self.axis.calendar(len(self.values), HORIZON - 1)
        self.calendar = torch.from_numpy(calendar)
        self.history = torch.from_numpy(prompt.window.scaled).repeat(PATHS, 1)
        with torch.inference_mode():
            return run(self)

    def draw(self, arguments: dict[str, torch.Tensor]) -> None:
        """Draw the next value of each path, [paths]."""
        uniforms = 1 - torch.rand(2, PATHS)
        last = {name: value.expand(PATHS) for name, value in arguments.items()}
        drawn = sample(self.model.spec.head, last, uniforms)
        self.history = torch.cat([self.history, drawn[:, None]], dim=1)

    def token(self, step: int) -> torch.Tensor:
        """The token of each path's last value, [paths, 1, features]."""
        spec = self.model.spec
        places = self.history.shape[1] - 1 - torch.tensor(spec.lags)
        lagged = self.history[:, places]
        static, calendar = (x.expand(PATHS, -1) for x in (self.static, self.calendar[step]))
        return torch.cat([lagged, static, calendar], dim=1)[:, None]

    def result(self) -> torch.Tensor:
        return self.history[:, -HORIZON:]


def recomputed(peer: Peer) -> torch.Tensor:
    """The whole sequence of every path at each step."""
    tokens = peer.prompt.expand(PATHS, -1, -1)
    for step in range(HORIZON):
        arguments = peer.model(tokens)
        peer.draw({name: value[:, -1] for name, value in arguments.items()})
        if step + 1 < HORIZON:
            tokens = torch.cat([tokens, peer.token(step)], dim=1)
    return peer.result()


def cached(peer: Peer) -> torch.Tensor:
    """Keys and values kept, the prompt computed for every path."""
    return _with_cache(peer, peer.prompt.expand(PATHS, -1, -1))


def shared_prompt(peer: Peer) -> torch.Tensor:
    """Keys and values kept, the prompt computed once and copied to every path."""
    return _with_cache(peer, peer.prompt[None])


def compiled(peer: Peer) -> torch.Tensor:
    """As `shared_prompt`, with layers compiled for any length of the cache."""
    return _with_cache(peer, peer.prompt[None], _compiled_block)


def _with_cache(peer: Peer, prompt: torch.Tensor, layer: Any = None) -> torch.Tensor:
    model, layer = peer.model, layer or _block
    arguments, caches = model.with_caches(prompt)
    arguments = {name: value[:, -1] for name, value in arguments.items()}
    caches = [tuple(part.expand(PATHS, -1, -1, -1) for part in cache) for cache in caches]
    tables = rotary_tables(model.spec, peer.context + HORIZON - 1)
    cos, sin = (torch.from_numpy(table) for table in tables)
    for step in range(HORIZON):
        peer.draw(arguments)
        if step + 1 == HORIZON:
            break
        tokens, place = peer.token(step), peer.context + step
        x = model.embed(tokens)
        for number, block in enumerate(model.transformer["h"]):
            x, caches[number] = layer(
                block, x, cos[place : place + 1], sin[place : place + 1], caches[number]
            )
        arguments = {name: value[:, -1] for name, value in model.head(x, tokens).items()}
    return peer.result()


def _block(
    block: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cache: KeysValues
) -> tuple[torch.Tensor, KeysValues]:
    """One layer for one new token a path."""
    query, key, value = (part.transpose(1, 2) for part in block.attn.heads(block.rms_1(x)))
    keys = torch.cat([cache[0], rotate(key, cos, sin)], dim=2)
    values = torch.cat([cache[1], value], dim=2)
    mixed = functional.scaled_dot_product_attention(rotate(query, cos, sin), keys, values)
    x = x + block.attn.c_proj(mixed.transpose(1, 2).flatten(2))
    return x + block.mlp(block.rms_2(x)), (keys, values)


_compiled_block = torch.compile(_block, dynamic=True)

PEERS: dict[str, Callable[[Peer], torch.Tensor]] = {
    "PyTorch, recomputed": recomputed,
    "PyTorch, cached": cached,
    "PyTorch, shared prompt": shared_prompt,
}
if shutil.which(os.environ.get("CXX", "g++")):
    PEERS["PyTorch, shared prompt, compiled"] = compiled


def same_distribution(peer: Peer, path: Path) -> float:
    """Largest difference, in spreads, of the peers' mean and laglite's at any step."""
    ours = Forecaster.load(path).predict(
        peer.values, horizon=HORIZON, start=START, freq=FREQ, num_samples=2000, seed=0,
        context_length=peer.context, refine=False,
    ).samples  # fmt: skip
    window = encode(peer.model.spec, peer.values, peer.axis, peer.context).window
    torch.manual_seed(0)
    means = np.mean([window.to_data(peer.forecast(cached).numpy()).mean(0) for _ in range(10)], 0)
    return float(np.max(np.abs(means - ours.mean(0)) / ours.std(0)))


def measure(path: Path, model: LagLlama, context: int, threads: int, rounds: int) -> dict[str, Any]:
    """Medians in milliseconds of every method at one context."""
    values = series(model.spec.max_lag + context)
    peer = Peer(model, values, context)
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
    torch.manual_seed(0)
    model = LagLlama(ModelSpec(8, 9, 16, 512, PUBLISHED_LAGS))
    model.initialise()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "release"
        export_bundle(model.eval(), path, name="release", license_name="none", summary={})
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
