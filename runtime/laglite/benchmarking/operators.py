"""Operators: what each kind takes inside the two graphs, by onnxruntime's own trace."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from laglite.backends.onnxruntime_cpu import OnnxRuntimeCpu
from laglite.benchmarking.workload import Workload, series
from laglite.bundle import locate, open_bundle
from laglite.errors import InputError
from laglite.forecaster import Forecaster


@dataclass(frozen=True)
class Operator:
    """One kind of operator in one graph, over `runs` forecasts: calls and milliseconds of each."""

    graph: str
    name: str
    calls: float
    milliseconds: float
    share: float


def profile(workload: Workload, folder: Path, runs: int = 5) -> tuple[list[Operator], list[Path]]:
    """Run the workload with onnxruntime's profiler, which slows it; traces are left in `folder`.

    Returns the operators of both graphs, the costliest first, and the traces, which
    https://ui.perfetto.dev opens. Raises InputError for another backend than the CPU's.
    """
    if workload.backend not in ("auto", "cpu"):
        raise InputError(f"backend {workload.backend!r} has no traces; profile the backend 'cpu'")
    bundle = open_bundle(locate(workload.model))
    backend = OnnxRuntimeCpu(bundle, workload.precision, workload.threads, folder)
    forecaster = Forecaster(bundle, backend, workload.threads)
    values = series(bundle.spec.max_lag + workload.tokens(bundle.spec))
    for _ in range(runs):
        workload.forecast(forecaster, values)
    traces = backend.end_traces()
    events = {name: json.loads(path.read_text()) for name, path in traces.items()}
    return _operators(events, runs), list(traces.values())


def _operators(traces: dict[str, list[dict[str, object]]], runs: int) -> list[Operator]:
    """Events of kernels, summed by graph and kind."""
    calls: Counter[tuple[str, str]] = Counter()
    times: Counter[tuple[str, str]] = Counter()
    for graph, events in traces.items():
        for event in events:
            details = event.get("args")
            if event.get("cat") != "Node" or not isinstance(details, dict):
                continue
            if not str(event["name"]).endswith("_kernel_time"):
                continue
            key = (graph, str(details["op_name"]))
            calls[key] += 1
            times[key] += int(str(event["dur"]))  # microseconds
    total = sum(times.values()) or 1
    return [
        Operator(graph, name, calls[graph, name] / runs, spent / 1e3 / runs, spent / total)
        for (graph, name), spent in times.most_common()
    ]
