"""Forecasts on a GPU by backend and precision, beside PyTorch and Chronos-Bolt on the same one.

    python benchmarks/gpu.py [--budget 600] [--series 1,16,256,4096] [--horizon 24,96]

One to thousands of series, 100 sample paths each, from the history's values to the deciles on the
host: median and 99th percentile of whole calls after the first, and series a second, also over what
`cpu` does. What runs is Lag-Llama's release configuration with random weights (8 layers x 9 heads x
16), context 32, through

- laglite on every backend that runs here, in fp32 and fp16, on `cuda` with and without CUDA graphs;
  where the device draws, with the time of its prefill and steps;
- *PyTorch eager*: the same network with a cache, the prompt computed once and copied to the paths;
  *compiled*: with layers under `torch.compile`; fp16 is autocast. As many series at once as a
  quarter of the free memory holds;
- *Chronos-Bolt* tiny and small (chronos-forecasting) at the published sizes with random weights:
  quantiles without sample paths. One call beyond 64 steps continues its own forecasts.

laglite's paths are refined, its default; those of the rows that say so, or all by `--independent`,
are independent, as the peers draw them. Rows of `cuda` use CUDA graphs, and are not measured where
they cannot; independent ones use them where they can. The floor is that of `device_floor`, by rates
measured on the device. Every method has a process of its own and, by its weight, a share of
`--budget` seconds, the most telling ones first; a method that cannot run, or a size that would take
too long, is listed with the reason. Where there is time for one call alone, it is shown as the
first. Results are written after every row: JSON, Markdown, and a plot at the end. Without a GPU
only the rows of `cpu` are measured. TensorRT's engines are made for each size, of at most 64 series
at once, in `--folder`, where a later run finds them.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from bar_chart import save_bars
from chronos_peer import BOLTS
from device_floor import Rates, Work, floor
from gpu_worker import RATES, Method, Task
from result_files import write_results

from laglite.benchmarking.environment import environment
from laglite.bundle import locate, open_bundle
from laglite.cli.bench import counts
from laglite.spec import ModelSpec

WORKER = Path(__file__).parent / "gpu_worker.py"
GRACE = 30.0  # seconds after its share at which a process is ended
HEADINGS = "| method | series | p50 | p99 | calls | series/s | / cpu | floor | / floor |"
PRECISIONS = ("fp32", "fp16")
CUDA = [
    *(Method(f"laglite cuda {name}", "laglite", "cuda", name, weight=6) for name in PRECISIONS),
    *(
        Method(f"laglite cuda {name}, independent", "laglite", "cuda", name, refine=False, weight=3)
        for name in PRECISIONS
    ),
    *(
        Method(f"laglite cuda {name}, no CUDA graph", "laglite", "cuda", name, False, weight=2)
        for name in PRECISIONS
    ),
]
REFERENCE = Method("laglite cpu fp32", "laglite", "cpu", weight=2)  # what series/s is compared with
PYTORCH = [
    Method(f"PyTorch {name} {precision}", "pytorch", "", precision, compiled=compiled, weight=part)
    for name, compiled, part in (("eager", False, 2), ("compiled", True, 4))
    for precision in PRECISIONS
]
TENSORRT = [
    Method(f"laglite {backend} {precision}", "laglite", backend, precision)
    for backend in ("onnxruntime-tensorrt", "tensorrt")
    for precision in PRECISIONS
]
CHRONOS = [Method(name, "chronos", weight=2) for name in BOLTS]
INT8 = Method("laglite cpu int8", "laglite", "cpu", "int8")
METHODS = [*CUDA[:2], REFERENCE, *CUDA[2:], *PYTORCH, *CHRONOS, INT8, *TENSORRT]


def measure(task: Task) -> Iterator[dict[str, Any]]:
    """What the method's process tells, line by line; its end is told if it came too early."""
    command = [sys.executable, str(WORKER), json.dumps(dataclasses.asdict(task))]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        timer = threading.Timer(task.seconds + GRACE, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):  # libraries may print, too
                    yield json.loads(line)
            late = not timer.is_alive()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        if late:
            yield {"absent": f"stopped after {task.seconds + GRACE:.0f} s, {GRACE:.0f} s late"}
        elif process.returncode:
            errors.seek(0)
            last = errors.read().strip().rpartition("\n")[2][:300]
            yield {"absent": f"its process ended with {process.returncode}: {last or 'no message'}"}


def cannot_run() -> dict[str, str]:
    """Why, by backend, in words of `laglite info`; a library that crashes does so apart."""
    info = [sys.executable, "-m", "laglite", "info", "--json"]
    try:
        told = subprocess.run(info, capture_output=True, text=True, check=True, timeout=60).stdout
    except subprocess.SubprocessError:
        return {}  # each method will say what it meets
    return {
        each["backend"]: f"{each['problem']}; {each['remedy']}"
        for each in json.loads(told)["backends"]
        if not each["available"]
    }


def release(folder: Path) -> str:
    """The bundle that is measured by default. Raises UsageError where it cannot be exported."""
    try:
        from release_model import release_bundle
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"{error.name} is not installed: pip install 'laglite[train,export]', or name a "
            "--model, which leaves PyTorch out"
        ) from error
    return str(release_bundle(folder))


def gpu_name() -> str:
    """The first GPU with its driver and memory; a Jetson's name; or that there is none."""
    query = "--query-gpu=name,driver_version,memory.total"
    try:
        found = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return found.stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        board = Path("/proc/device-tree/model")
        return board.read_text().rstrip("\0") if board.exists() else "none"


class Report:
    """Rows and reasons so far, written whenever there is one more."""

    def __init__(self, output: Path, about: dict[str, Any], spec: ModelSpec) -> None:
        self._output, self._about, self._spec = output, about, spec
        self.rates: Rates | None = None
        self.rows: list[dict[str, Any]] = []
        self.absent: list[dict[str, Any]] = []

    def add(self, method: Method, row: dict[str, Any]) -> None:
        """Take a row, or a reason, of a method; say it, and write everything."""
        row = {"method": method.name, **row}
        size = f", {row['series']:,} x {row['horizon']}" if "series" in row else ""
        if "absent" in row:
            self.absent.append(row)
            click.echo(f"{method.name}{size}: {row['absent']}", err=True)
        else:
            self.rows.append(row | {"floor": self._floor(method, row)})
            click.echo(f"{method.name}{size}: {row['p50']:,.1f} ms", err=True)
        self.write()

    def write(self) -> None:
        rates = None if self.rates is None else dataclasses.asdict(self.rates)
        content = {
            "machine": self._about, "rates": rates, "rows": self.rows, "absent": self.absent
        }  # fmt: skip
        write_results(self._output, content, self.markdown())

    def _floor(self, method: Method, row: dict[str, Any]) -> dict[str, float] | None:
        """Of laglite's and PyTorch's network, where the rates are of its device and precision."""
        rates, on_cpu = self.rates, method.backend == "cpu"
        if rates is None or on_cpu != (rates.device == "cpu") or method.kind == "chronos":
            return None
        if method.precision not in rates.flops:
            return None
        work = Work(row["series"], self._about["paths"], self._about["context"], row["horizon"])
        return floor(self._spec, work, method.precision, rates)

    def markdown(self) -> str:
        """A table for each horizon; then what was not measured, and why."""
        about = self._about
        lines = ["# Forecasts on a GPU", ""]
        drawn = "" if about["refine"] else ", drawn independently"
        lines += [f"GPU: {about['gpu']}. {about['processor']}, {about['cores']} cores, "
                  f"{about['onnxruntime']}, Python {about['python']}. Model {about['model']}, "
                  f"context {about['context']}, {about['paths']} paths{drawn}; milliseconds a "
                  f"call. / cpu: series a second over the most that {REFERENCE.name} does at that "
                  "horizon.", ""]  # fmt: skip
        if about["gpu"] == "none":
            lines += ["There is no GPU on this machine: no figure below is of one.", ""]
        if self.rates is not None:
            speeds = ", ".join(
                f"{name} {rate / 1e12:.2f} TFLOP/s" for name, rate in self.rates.flops.items()
            )
            lines += [f"Rates of {self.rates.device}: {speeds}, copies "
                      f"{self.rates.bandwidth / 1e9:,.0f} GB/s, the smallest operation "
                      f"{1e6 * self.rates.launch:.2f} us. Floor: the largest of arithmetic (a), "
                      "memory (m) and launches (l).", ""]  # fmt: skip
        for horizon in dict.fromkeys(row["horizon"] for row in self.rows):
            lines += [f"## {horizon} steps", ""]
            lines += [HEADINGS, "|---|" + "---:|" * 8]
            shown = [row for row in self.rows if row["horizon"] == horizon]
            rates = [x["series_a_second"] for x in shown if x["method"] == REFERENCE.name]
            for row in sorted(shown, key=lambda row: row["series"]):
                lines.append(self._line(row, max(rates, default=None)))
            lines.append("")
        lines += self._stages()
        if self.absent:
            lines += ["## Not measured", ""]
            sizes: dict[tuple[str, str], list[str]] = {}
            for row in self.absent:
                found = sizes.setdefault((row["method"], row["absent"]), [])
                if "series" in row:
                    found.append(f"{row['series']:,} x {row['horizon']}")
            for (method, reason), at in sizes.items():
                lines.append(f"- {method}{' at ' if at else ''}{', '.join(at)}: {reason}")
        return "\n".join(lines).rstrip() + "\n"

    def _stages(self) -> list[str]:
        """Where the time of a median call went, for rows that can tell."""
        rows = [row for row in self.rows if row["stages"]]
        if not rows:
            return []
        lines = ["## Stages", "", "Of the median call; the rest is the host's: tokens, the first "
                 "and the refined draws, copies, quantiles.", ""]  # fmt: skip
        lines += ["| method | series | steps | prefill | decoding | rest |", "|---|" + "---:|" * 5]
        for row in rows:
            prefill, steps = row["stages"]["prefill"], row["stages"]["steps"]
            rest = max(0.0, row["p50"] - prefill - steps)
            lines.append(
                f"| {row['method']} | {row['series']:,} | {row['horizon']} | {prefill:,.2f} "
                f"| {steps:,.2f} | {rest:,.2f} |"
            )
        return [*lines, ""]

    def _line(self, row: dict[str, Any], cpu: float | None) -> str:
        least = above = ""
        if row["floor"]:
            bound = max(row["floor"], key=row["floor"].__getitem__)
            least = f"{row['floor'][bound]:,.2f} {bound[0]}"
            above = f"{row['p50'] / row['floor'][bound]:,.1f}"
        times = "" if cpu is None else f"{row['series_a_second'] / cpu:,.1f}"
        return (
            f"| {row['method']} | {row['series']:,} | {row['p50']:,.2f} | {row['p99']:,.2f} "
            f"| {row['calls'] or 'first'} | {row['series_a_second']:,.1f} | {times} "
            f"| {least} | {above} |"
        )

    def plot(self) -> None:
        """Bars of the first horizon: a chart for each number of series."""
        charts: dict[str, dict[str, float]] = {}
        for row in self.rows:
            if row["horizon"] == self.rows[0]["horizon"]:
                chart = charts.setdefault(f"{row['series']:,} series x {row['horizon']}", {})
                chart[row["method"]] = row["p50"]
        if not charts:
            return
        try:
            save_bars(charts, self._output.with_suffix(".png"), "milliseconds a call")
        except ModuleNotFoundError as error:
            click.echo(f"no plot: {error.name} is not installed", err=True)


@click.command()
@click.option("--model", help="Bundle or shipped name.  [default: the release configuration]")
@click.option("--series", default="1,16,256,4096", show_default=True, callback=counts)
@click.option("--horizon", default="24,96", show_default=True, callback=counts)
@click.option("--paths", type=click.IntRange(2), default=100, show_default=True)
@click.option("--context", type=click.IntRange(1), default=32, show_default=True)
@click.option("--only", multiple=True, help="Methods whose name holds this; may be repeated.")
@click.option("--budget", type=float, default=600.0, show_default=True, help="Seconds in all.")
@click.option("--repeats", type=click.IntRange(1), default=100, show_default=True)
@click.option("--independent", is_flag=True, help="Paths drawn as the peers draw them.")
@click.option("--torch-device", default="cuda", show_default=True, help="Where the peers run.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keeps bundle and engines.")
@click.option(
    "--output", type=click.Path(path_type=Path),
    default=Path(__file__).parent / "results" / "gpu.json",
)  # fmt: skip
def main(
    model: str | None,
    series: list[int],
    horizon: list[int],
    paths: int,
    context: int,
    only: tuple[str, ...],
    budget: float,
    repeats: int,
    independent: bool,
    torch_device: str,
    folder: Path | None,
    output: Path,
) -> None:
    """Measure every method at every size, the small ones first."""
    begin = time.perf_counter()
    chosen = [one for one in METHODS if not only or any(part in one.name for part in only)]
    if not chosen:
        raise click.UsageError(f"no method holds {' or '.join(only)} in its name")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        kept = folder or Path(temporary)
        path = model or release(kept)
        about = {
            **environment(path), "gpu": gpu_name(), "paths": paths, "context": context,
            "refine": not independent,
        }  # fmt: skip
        report = Report(output, about, open_bundle(locate(path)).spec)
        sizes = [(count, steps) for count in series for steps in horizon]
        reasons = cannot_run()
        waiting = [Method(RATES, RATES)]
        for method in chosen:
            if method.kind == "pytorch" and model is not None:
                report.add(method, {"absent": "its network is that of the release configuration"})
            elif method.backend in reasons:
                report.add(method, {"absent": reasons[method.backend]})
            else:
                waiting.append(method)
        for place, method in enumerate(waiting):
            left = budget - (time.perf_counter() - begin)
            share = max(0.0, left) * method.weight / sum(each.weight for each in waiting[place:])
            if left <= 0:
                report.add(method, {"absent": f"the budget of {budget:.0f} s is used up"})
                continue
            task = Task(
                method, path, sizes, paths, context, repeats, share, torch_device,
                not independent, str(kept / "engines"),
            )  # fmt: skip
            for row in measure(task):
                if "flops" in row:
                    report.rates = Rates(**row)
                else:
                    report.add(method, row)
    report.write()
    report.plot()
    click.echo(report.markdown())


if __name__ == "__main__":
    main()
