"""What streams cost: values a second, memory over a long run, and the same lines after a kill.

    python benchmarks/streaming.py --output FILE.json [--values 1000000] [--model nano]

The speeds are those of a Stream's `update` alone and of a session's lines (JSON, three quantiles)
in one process, in processor time, for both shipped models. The long run is `laglite stream` on
--values lines, one
thread, twice at once: one undisturbed, whose resident memory is read along the way, and one that
is killed with SIGKILL after half of its lines and started again with --replay. Every line of the
second must be that of the first. A Markdown table is written beside FILE.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from result_files import write_results

from laglite import Forecaster
from laglite.benchmarking.environment import environment
from laglite.streaming.session import OutputSettings, Session, StreamSettings

MODELS = ("nano", "base")
WARM, TIMED = 500, 5000  # values
READINGS = 20  # of the memory
STATE_EVERY = 1000


def series(count: int) -> NDArray[np.float64]:
    """A day's and a week's season, correlated noise, some values missing and some far away."""
    random = np.random.default_rng(0)
    hours = np.arange(count)
    noise = random.standard_normal(count)
    noise[1:] += 0.7 * noise[:-1]
    values = 100 + 20 * np.sin(hours * (2 * np.pi / 24)) + 8 * np.sin(hours * (2 * np.pi / 168))
    values += 3 * noise
    values[random.random(count) < 1e-3] += 60
    values[random.random(count) < 2e-3] = np.nan
    return values


def as_lines(values: NDArray[np.float64]) -> list[bytes]:
    return [b"%.6g\n" % value for value in values]


def per_second(take: Callable[[Any], object], inputs: list[Any]) -> float:
    """Values a second of processor time, after a warm-up."""
    for value in inputs[:WARM]:
        take(value)
    began = time.process_time()
    for value in inputs[WARM:]:
        take(value)
    return (len(inputs) - WARM) / (time.process_time() - began)


def speeds() -> list[dict[str, Any]]:
    values = series(WARM + TIMED)
    rows = []
    for model in MODELS:
        forecaster = Forecaster.load(model, threads=1)
        session = Session(forecaster, StreamSettings(), OutputSettings())
        rows.append(
            {
                "model": model,
                "updates": per_second(forecaster.stream().update, values.tolist()),
                "lines": per_second(session.take, as_lines(values)),
            }
        )
    return rows


@dataclass
class Run:
    """One `laglite stream`: a hash of each line by its number, and what was read along the way."""

    arguments: list[str]
    source: Path
    values: int
    hashes: NDArray[np.uint64]
    repeated: int = 0
    memory: list[tuple[int, int]] = field(default_factory=list)  # lines, KiB
    differing: int = 0
    summary: str = ""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0

    def serve(self, stop_after: int | None = None) -> None:
        """Read results to the end, or kill the process after so many lines."""
        began = time.perf_counter()
        with self.source.open("rb") as lines, tempfile.TemporaryFile() as notes:
            process = subprocess.Popen(
                [sys.executable, "-m", "laglite", "stream", *self.arguments],
                stdin=lines,
                stdout=subprocess.PIPE,
                stderr=notes,
            )
            assert process.stdout is not None
            for line in process.stdout:
                number = self._note(line)
                if number % (self.values // READINGS) == 0:
                    self.memory.append((number, _resident(process.pid)))
                if number == stop_after:
                    process.kill()
                    break
            _, _, usage = os.wait4(process.pid, 0)
            notes.seek(0)
            self.summary = notes.read().decode().strip().rpartition("\n")[2]
        self.wall_seconds += time.perf_counter() - began
        self.cpu_seconds += usage.ru_utime + usage.ru_stime

    def _note(self, line: bytes) -> int:
        number = int(json.loads(line)["n"])
        digest = np.frombuffer(hashlib.blake2b(line, digest_size=8).digest(), np.uint64)[0]
        if self.hashes[number]:
            self.repeated += 1
            self.differing += bool(self.hashes[number] != digest)
        self.hashes[number] = digest
        return number


def _resident(process: int) -> int:
    """KiB of a process' resident memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    return int(found.group(1)) if found else 0


def long_run(model: str, values: int, folder: Path) -> dict[str, Any]:
    source = folder / "values.txt"
    source.write_bytes(b"".join(as_lines(series(values))))
    common = ["--model", model, "--threads", "1", "--start", "2000-01-01", "--freq", "h"]
    state = ["--state", str(folder / "state.json"), "--state-every", str(STATE_EVERY)]
    whole = Run(common, source, values, np.zeros(values + 1, np.uint64))
    killed = Run([*common, *state], source, values, np.zeros(values + 1, np.uint64))

    def serve_killed() -> None:
        killed.serve(stop_after=values // 2 + STATE_EVERY // 2)
        killed.arguments.append("--replay")
        killed.serve()

    other = threading.Thread(target=serve_killed)
    other.start()
    whole.serve()
    other.join()
    return {
        "model": model,
        "values": values,
        "lines": int(np.count_nonzero(whole.hashes)),
        "summary": whole.summary,
        "wall_seconds": whole.wall_seconds,
        "cpu_seconds": whole.cpu_seconds,
        "memory_kib": whole.memory,
        "killed_lines_repeated": killed.repeated,
        "killed_lines_that_differ": killed.differing + int((killed.hashes != whole.hashes).sum()),
        "killed_cpu_seconds": killed.cpu_seconds,
        "state_bytes": (folder / "state.json").stat().st_size,
    }


def to_markdown(rows: list[dict[str, Any]], long: dict[str, Any], machine: dict[str, Any]) -> str:
    memory = ", ".join(f"{kib / 1024:.1f}" for _, kib in long["memory_kib"])
    lines = [
        "# Streams",
        "",
        f"{machine['processor']}, {machine['cores']} cores, load average "
        f"{machine['load_average']}; {machine['onnxruntime']}, one thread.",
        "",
        "| model | `update`, values per second of processor time | lines with three quantiles |",
        "|---|---:|---:|",
        *(f"| `{row['model']}` | {row['updates']:,.0f} | {row['lines']:,.0f} |" for row in rows),
        "",
        f"`laglite stream` with `{long['model']}` on {long['values']:,} lines: "
        f"{long['lines']:,} results, {long['wall_seconds']:,.0f} s "
        f"({long['values'] / long['wall_seconds']:,.0f} a second; "
        f"{long['values'] / long['cpu_seconds']:,.0f} per second of processor time).",
        "",
        f"> {long['summary']}",
        "",
        f"Resident memory in MiB after every {long['values'] // READINGS:,} values: {memory}.",
        "",
        f"The same lines to a process that was killed with SIGKILL after half of them and started "
        f"again from its state ({long['state_bytes']:,} bytes, saved every {STATE_EVERY:,} lines): "
        f"{long['killed_lines_repeated']:,} lines came twice, "
        f"{long['killed_lines_that_differ']:,} lines differ from the undisturbed run's.",
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--values", type=click.IntRange(10_000), default=1_000_000, show_default=True)
@click.option("--model", default="nano", show_default=True)
def main(output: Path, values: int, model: str) -> None:
    """Measure streams."""
    rows = speeds()
    with tempfile.TemporaryDirectory() as folder:
        long = long_run(model, values, Path(folder))
    machine = environment(model)
    content = {"machine": machine, "speeds": rows, "long_run": long}
    write_results(output, content, to_markdown(rows, long, machine))


if __name__ == "__main__":
    main()
