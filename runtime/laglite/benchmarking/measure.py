"""Measuring one workload in this process; `process` gives it a process of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from laglite import Forecaster
from laglite.benchmarking.floor import MatrixRate, forecast_flops
from laglite.benchmarking.stages import TimedBackend
from laglite.benchmarking.workload import FREQ, START, Workload, series
from laglite.forecast import Forecast
from laglite.tokens import TimeAxis, encode

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Measurement:
    """What a workload took; times in milliseconds, memory in MB (10^6 bytes).

    `latency` are percentiles of a `predict` call with its quantiles; `floor` is the median time
    that its `gflop` of matrix products take at the rate measured between the calls, and `ratio` the
    median of call over floor, each with the rate measured just before. `stages` split the median
    call: `features` (window, scaling, tokens of the prompt), `prefill` and `steps` (in the
    sessions, of the slowest thread), and `rest` (draws, tokens of the paths, caches, quantiles).

    `import_time`, `load` and `first_call` came before; `until_first` is all from the start of the
    process to the first forecast. `resident_first` is resident memory after it, None where the
    system does not tell, and `resident_peak` the most once warm, without what the floor takes.
    """

    backend: str
    context: int
    latency: dict[str, float]
    steps_per_second: float
    gflop: float
    floor: float
    ratio: float
    stages: dict[str, float]
    import_time: float
    load: float
    first_call: float
    until_first: float
    resident_first: float | None
    resident_peak: float


def measure(workload: Workload, started: float, import_seconds: float) -> Measurement:
    """Load, forecast once, warm up, and time `workload.repeats` forecasts beside their floor.

    `started` is when, by `time.time`, the process was asked for, `import_seconds` what importing
    laglite took. Raises what `Forecaster.load` and `predict` raise.
    """
    begin = time.perf_counter()
    forecaster = Forecaster.load(
        workload.model,
        backend=workload.backend,
        precision=workload.precision,
        threads=workload.threads,
    )
    load = time.perf_counter() - begin
    spec = forecaster.spec
    context = workload.tokens(spec)
    values = series(spec.max_lag + context)
    timed = TimedBackend(forecaster.backend)
    forecaster = Forecaster(forecaster.bundle, timed, workload.threads)

    def call() -> Forecast:
        forecast = workload.forecast(forecaster, values)
        forecast.interval(0.8)
        return forecast

    first_call = _seconds(call)
    until_first = time.time() - started
    resident_first = _resident("VmRSS")
    for _ in range(workload.warmup):
        call()
    resident_peak = _resident("VmHWM") or _peak()
    flops = forecast_flops(spec, context, workload.horizon, workload.paths)
    rate = MatrixRate(spec, workload.paths, workload.threads)
    calls, floors, prefills, steps = [], [], [], []
    for _ in range(workload.repeats):
        floors.append(flops / rate.measure())
        timed.restart()
        calls.append(_seconds(call))
        prefills.append(timed.prefill_seconds)
        steps.append(timed.steps_seconds)
    rate.close()
    axis = TimeAxis.of(START, FREQ)
    checked = values.astype(np.float64)
    features = [
        _seconds(lambda: encode(spec, checked, axis, context))
        for _ in range(min(20, workload.repeats))
    ]
    typical = float(np.median(calls))
    parts = {
        "features": float(np.median(features)),
        "prefill": float(np.median(prefills)),
        "steps": float(np.median(steps)),
    }
    parts["rest"] = max(0.0, typical - sum(parts.values()))
    return Measurement(
        timed.name,
        context,
        {f"p{level}": 1e3 * float(np.percentile(calls, level)) for level in PERCENTILES},
        workload.horizon / typical,
        flops / 1e9,
        1e3 * float(np.median(floors)),
        float(np.median([took / least for took, least in zip(calls, floors, strict=True)])),
        {name: 1e3 * value for name, value in parts.items()},
        1e3 * import_seconds,
        1e3 * load,
        1e3 * first_call,
        1e3 * until_first,
        resident_first,
        resident_peak,
    )


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _resident(key: str) -> float | None:
    """A line of /proc/self/status, in MB; None where there is no such file."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return float(line.split()[1]) * 1024 / 1e6
    return None


def _peak() -> float:
    """The most resident memory so far, in MB, where /proc does not tell."""
    import resource  # not on every system

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
