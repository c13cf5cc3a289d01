"""A process of its own for each workload, so that start-up and memory are those of a user's."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time

from laglite.benchmarking.measure import Measurement, measure
from laglite.benchmarking.workload import Workload
from laglite.errors import LagliteError

# What a user's program does first, and how long that takes.
CHILD = """
import sys, time
sys.path[:] = sys.argv[3:]  # with -c it would begin with the current folder, whatever lies there
begin = time.perf_counter()
from laglite import Forecaster
seconds = time.perf_counter() - begin
from laglite.benchmarking.process import report
report(sys.argv[1], float(sys.argv[2]), seconds)
"""
# NumPy's products are of one thread each: the floor starts its own.
ONE_THREAD = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def measure_apart(workload: Workload) -> Measurement:
    """Measure in a fresh Python process. Raises LagliteError with what went wrong there."""
    command = [sys.executable, "-c", CHILD, json.dumps(dataclasses.asdict(workload))]
    done = subprocess.run(
        [*command, repr(time.time()), *sys.path],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
    )
    try:
        told = json.loads(done.stdout.strip().rpartition("\n")[2])  # libraries may print before
    except ValueError as error:
        last = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise LagliteError(f"the measuring process ended early: {last}") from error
    if "error" in told:
        raise LagliteError(told["error"])
    return Measurement(**told)


def report(workload: str, started: float, import_seconds: float) -> None:
    """The child's side: print the measurement of a workload, or the error, as JSON."""
    try:
        found = measure(Workload(**json.loads(workload)), started, import_seconds)
    except LagliteError as error:
        print(json.dumps({"error": str(error)}))
    else:
        print(json.dumps(dataclasses.asdict(found)))
