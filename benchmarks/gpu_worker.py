"""One method of `gpu.py` in a process of its own: a JSON line for each size, once it is measured.

A crash, a lost device or a full memory ends this process alone; see `gpu.py` for what is measured.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from chronos_peer import BOLTS, bolt

from laglite import Forecaster, LagliteError
from laglite.benchmarking.stages import TimedBackend
from laglite.benchmarking.workload import FREQ, START, series
from laglite.bundle import locate, open_bundle
from laglite.forecaster import available_cores
from laglite.spec import ModelSpec

LEVELS = [round(0.1 * step, 1) for step in range(1, 10)]
PEER_BYTES = 2 << 30  # of a PyTorch peer's keys and values at once in the host's memory
DEVICE_SHARE = 0.25  # of a GPU's free memory for them; concatenation holds them twice
BOLT_SERIES = 1024  # at once: beyond 64 steps each becomes nine
ENGINE_SERIES = 64  # the most that a TensorRT engine is made for
FIRST = (0, 0)  # the size that stands for all where engines do not depend on it
RATES = "rates"  # the method that measures the device itself


@dataclass(frozen=True)
class Method:
    """Something that forecasts. `kind` is laglite, pytorch or chronos; `compiled` is pytorch's.

    With `capture`, laglite's default, a backend may turn the steps into one CUDA graph; `refine`
    is laglite's option. `weight` is how many equal parts of the time it gets.
    """

    name: str
    kind: str
    backend: str = ""
    precision: str = "fp32"
    capture: bool = True
    compiled: bool = False
    refine: bool = True
    weight: int = 1


@dataclass(frozen=True)
class Task:
    """What one process measures: (series, horizon) in order, within `seconds`.

    `engines` is the folder of TensorRT engines.
    """

    method: Method
    model: str
    sizes: list[tuple[int, int]]
    paths: int
    context: int
    repeats: int
    seconds: float
    torch_device: str
    refine: bool
    engines: str

    @classmethod
    def from_json(cls, text: str) -> Task:
        fields = json.loads(text)
        sizes = [(series, horizon) for series, horizon in fields["sizes"]]
        return cls(**fields | {"method": Method(**fields["method"]), "sizes": sizes})


# [series, length], horizon -> quantiles on the host; returns the seconds of stages it can tell.
Stages = dict[str, float]
Call = Callable[[np.ndarray, int], Stages]


def many_series(count: int, length: int) -> np.ndarray:
    """Hourly series with a day, a week and noise, [count, length]."""
    noise = np.random.default_rng(1).normal(size=(count, length))
    return series(length)[:length] + 3 * noise


def laglite(task: Task) -> Call:
    """Forecasts of laglite with their deciles; `prefill` and `steps` are those of a device."""
    method, begin = task.method, time.perf_counter()
    opened: dict[tuple[int, int], tuple[Forecaster, TimedBackend]] = {}

    def open_timed(size: tuple[int, int]) -> None:
        left = task.seconds - (time.perf_counter() - begin)
        forecaster = open_forecaster(task, *size, left)
        timed = TimedBackend(forecaster.backend)
        opened[size] = Forecaster(forecaster.bundle, timed, available_cores()), timed

    def run(values: np.ndarray, horizon: int) -> Stages:
        size = (min(len(values), ENGINE_SERIES), horizon) if method.backend == "tensorrt" else FIRST
        if size not in opened:
            opened.clear()  # its memory first
            open_timed(size)
        forecaster, timed = opened[size]
        timed.restart()
        forecasts = forecaster.predict_batch(
            list(values), horizon=horizon, start=START, freq=FREQ, num_samples=task.paths,
            context_length=task.context, seed=0, refine=task.refine and method.refine,
        )  # fmt: skip
        for one in forecasts:
            for level in LEVELS:
                one.quantile(level)
        if timed.device is None:  # several series at once: their clocks overlap
            return {}
        return {"prefill": timed.prefill_seconds, "steps": timed.steps_seconds}

    if method.backend != "tensorrt":
        open_timed(FIRST)
    return run


def open_forecaster(task: Task, series: int, horizon: int, seconds: float) -> Forecaster:
    """On the method's backend; for `tensorrt` with engines made for this size, in `seconds`."""
    method = task.method
    if method.backend == "tensorrt":
        os.environ["LAGLITE_ENGINES"] = f"{task.engines}/{series}-{horizon}"
        sizes = {"series": series, "horizon": horizon, "paths": task.paths, "context": task.context}
        options = [text for name, size in sizes.items() for text in (f"--{name}", str(size))]
        compile_engines = [sys.executable, "-m", "laglite", "compile", task.model]
        try:
            done = subprocess.run(
                [*compile_engines, "--precision", method.precision, *options],
                capture_output=True, text=True, check=False, timeout=max(1.0, seconds),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise LagliteError(f"laglite compile: takes more than {error.timeout:.0f} s") from error
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise LagliteError(f"laglite compile: {last}")
    forecaster = Forecaster.load(task.model, backend=method.backend, precision=method.precision)
    if method.backend == "cuda" and method.capture and method.refine:
        check_captures(forecaster.backend.device)
    if method.capture:
        return forecaster
    from laglite.backends.gpu_engines import CUDA
    from laglite.backends.onnxruntime_gpu import OnnxRuntimeGpu

    backend = OnnxRuntimeGpu(forecaster.bundle, method.precision, CUDA, capture=False)
    return Forecaster(forecaster.bundle, backend, available_cores())


def check_captures(device: Any) -> None:
    """Raises LagliteError where forecasts would not be what the method's name says."""
    if device is None or not device.captures:
        raise LagliteError("runs without CUDA graphs here: see the rows without one")


def pytorch(task: Task) -> Call:
    """The release configuration in PyTorch: cache, prompt computed once, in parts that fit."""
    import torch
    from pytorch_peer import Peer, compiled, shared_prompt
    from release_model import release_model

    device = task.torch_device
    model = release_model().to(device)
    decode = compiled if task.method.compiled else shared_prompt
    half = task.method.precision == "fp16"
    room = PEER_BYTES
    if device.startswith("cuda"):  # before PyTorch keeps what it once had for itself
        room = int(DEVICE_SHARE * torch.cuda.mem_get_info()[0])

    def run(values: np.ndarray, horizon: int) -> Stages:
        tokens = task.paths * (task.context + horizon)
        most = max(1, room // (8 * model.spec.num_layers * model.spec.width * tokens))
        for first in range(0, len(values), most):
            peer = Peer(model, values[first : first + most], task.context, horizon, task.paths)
            with torch.autocast(torch.device(device).type, torch.float16, enabled=half):
                samples = peer.forecast(decode).cpu().numpy()
            shares = samples.reshape(-1, task.paths, horizon)
            for window, one in zip(peer.windows, shares, strict=True):
                np.quantile(window.to_data(one), LEVELS, axis=0)
        return {}

    return run


def chronos(task: Task) -> Call:
    """Chronos-Bolt of the method's name."""
    (name,) = (size for size in BOLTS if task.method.name.startswith(size))
    made: dict[int, Callable[[np.ndarray], np.ndarray]] = {}

    def run(values: np.ndarray, horizon: int) -> Stages:
        if horizon not in made:
            made[horizon] = bolt(name, LEVELS, horizon, task.torch_device)
        for first in range(0, len(values), BOLT_SERIES):
            made[horizon](values[first : first + BOLT_SERIES])
        return {}

    return run


KINDS = {"laglite": laglite, "pytorch": pytorch, "chronos": chronos}


def rows(task: Task, spec: ModelSpec) -> Iterator[dict[str, Any]]:
    """Each size's times, or the reason why there are none."""
    begin = time.perf_counter()
    call = KINDS[task.method.kind](task)
    unit = 0.0  # seconds for a step of a series, at the last size
    for place, (count, horizon) in enumerate(task.sizes):
        row: dict[str, Any] = {"series": count, "horizon": horizon}
        left = task.seconds - (time.perf_counter() - begin)
        expected = unit * count * horizon
        if left <= 0:
            yield row | {"absent": "no time was left"}
            continue
        if expected > left:
            yield row | {"absent": f"may need {expected:.0f} s, {left:.0f} s are left"}
            continue
        values = many_series(count, spec.max_lag + task.context)
        rest = len(task.sizes) - place  # sizes, of which each gets more than the one before
        share = 2 * left / (rest * (rest + 1))
        try:
            end = left if unit else math.inf  # the first size of all sets up and compiles
            first, further = timed(partial(call, values, horizon), task.repeats, share, end)
        except Exception as error:  # whatever a library raises: the next size may go
            yield row | {"absent": one_line(error)}
            continue
        if not further and first.seconds > 2 * expected:
            yield row | {"absent": f"its first call took {first.seconds:.0f} s, mostly to set up"}
            continue
        measured = further or [first]
        times = [one.seconds for one in measured]
        unit = min(times) / (count * horizon)
        p50, p99 = (float(np.percentile(times, level)) for level in (50, 99))
        yield row | {
            "first": 1e3 * first.seconds, "p50": 1e3 * p50, "p99": 1e3 * p99,
            "calls": len(further), "series_a_second": count / p50,
            "stages": {
                name: 1e3 * float(np.median([one.stages[name] for one in measured]))
                for name in first.stages
            },
        }  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """One call: all its seconds, and those of its stages."""

    seconds: float
    stages: Stages


def timed(
    call: Callable[[], Stages], repeats: int, share: float, left: float
) -> tuple[Timed, list[Timed]]:
    """The first call, which warms up, and at most `repeats` further ones.

    They end after `share` seconds. There is at least one, unless another like the first would not
    end within `left`.
    """
    begin = time.perf_counter()
    taken: list[Timed] = []
    while len(taken) <= repeats:
        at = time.perf_counter()
        if len(taken) > 1 and at - begin >= share:
            break
        if len(taken) == 1 and at - begin + taken[0].seconds > left:
            break
        stages = call()
        taken.append(Timed(time.perf_counter() - at, stages))
    return taken[0], taken[1:]


def check_device(device: str) -> None:
    """Raises LagliteError where torch has no such device."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise LagliteError("torch finds no GPU here")


def one_line(error: BaseException) -> str:
    """What went wrong, in one line of a table."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, LagliteError) else f"{type(error).__name__}: {text}"[:300]


def main(text: str) -> None:
    """Print a row a line; a line with `absent` alone where the method cannot run at all."""
    task = Task.from_json(text)
    try:
        if task.method.kind != "laglite":
            check_device(task.torch_device)
        if task.method.kind == RATES:
            from device_floor import measure_rates

            print(json.dumps(dataclasses.asdict(measure_rates(task.torch_device))), flush=True)
            return
        for row in rows(task, open_bundle(locate(task.model)).spec):
            print(json.dumps(row), flush=True)
    except Exception as error:  # the parent lists it beside the methods that ran
        print(json.dumps({"absent": one_line(error)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
