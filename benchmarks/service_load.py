"""The service under load: latency by arrival rate, at half of saturation, and beyond it.

    python benchmarks/service_load.py --output FILE.json [--model base] [--seconds 15]

Starts `laglite serve` on loopback. Requests arrive at random times, whether or not those
before have been answered, as from many clients; a latency counts from the moment at which the
request was due. One request is one series of 512 hourly values, 24 steps, 100 paths. Every rate is
measured with micro-batching and without it (a batch holds one request's draws). Saturation is the
most answered in a second at any rate; then the service is measured at half of that and, with a
shorter queue, at three times that, where only 200 and 503 may come. Client and service share the
machine. Writes JSON, a Markdown table and a plot.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
from numpy.typing import NDArray
from result_files import write_results
from service_fuzz import start

from laglite.benchmarking.environment import environment

RATES = (1, 2, 4, 6, 8, 12, 16, 24, 32)
HORIZON, PATHS, LENGTH = 24, 100, 512
OVERLOAD, SHORT_QUEUE = 3, 16
PATIENCE = 120.0  # seconds for one answer
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Load:
    """What came of one rate.

    Latencies of status 200, and the service's processor time an answer, are in milliseconds.
    """

    rate: float
    sent: int
    answered_a_second: float
    p50: float
    p90: float
    p99: float
    statuses: dict[int, int]
    requests_a_batch: float
    processor: float


def bodies(count: int) -> list[bytes]:
    """Requests for different series: a day's season and noise."""
    random = np.random.default_rng(0)
    hours = np.arange(LENGTH)
    made = []
    for seed in range(count):
        values = 100 + 20 * np.sin(hours * (2 * np.pi / 24)) + random.standard_normal(LENGTH) * 5
        series = {"values": values.round(2).tolist(), "start": "2024-01-01", "freq": "h"}
        asked = {"series": [series], "horizon": HORIZON, "samples": PATHS, "seed": seed}
        made.append(json.dumps(asked).encode())
    return made


async def send_at(
    client: httpx.AsyncClient, due: NDArray[np.float64], contents: Sequence[bytes]
) -> tuple[list[tuple[int, float]], float]:
    """Status and seconds of each request, and the seconds until all were answered."""
    began = time.perf_counter()

    async def send(moment: float, content: bytes) -> tuple[int, float]:
        await asyncio.sleep(began + moment - time.perf_counter())
        response = await client.post("/forecast", content=content, headers=JSON)
        return response.status_code, time.perf_counter() - began - moment

    sending = [
        send(moment, contents[place % len(contents)]) for place, moment in enumerate(due.tolist())
    ]
    return list(await asyncio.gather(*sending)), time.perf_counter() - began


def counted(url: str) -> NDArray[np.float64]:
    """Requests forecast so far, in how many batches, and the service's processor seconds."""
    lines = httpx.get(f"{url}/metrics", timeout=PATIENCE).text.splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    names = (
        "laglite_batch_requests_sum",
        "laglite_batch_requests_count",
        "process_cpu_seconds_total",
    )
    return np.array([float(found[name]) for name in names])


def measure(url: str, rate: float, seconds: float) -> Load:
    """Requests at one rate for so long, and all their answers."""
    random = np.random.default_rng(round(1000 * rate))
    due = np.sort(random.uniform(0, seconds, round(rate * seconds)))

    async def run() -> tuple[list[tuple[int, float]], float]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as client:
            return await send_at(client, due, bodies(32))

    before = counted(url)
    results, took = asyncio.run(run())
    requests, batches, processor = counted(url) - before
    good = 1e3 * np.array([spent for status, spent in results if status == 200] or [np.nan])
    p50, p90, p99 = np.percentile(good, [50, 90, 99]).tolist()
    statuses = dict(sorted(Counter(status for status, _ in results).items()))
    load = Load(
        rate, len(due), statuses.get(200, 0) / max(took, seconds), p50, p90, p99, statuses,
        requests / max(batches, 1), 1e3 * processor / max(requests, 1),
    )  # fmt: skip
    click.echo(f"{rate:g} a second: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {statuses}", err=True)
    return load


@contextmanager
def service(model: str, *options: str) -> Iterator[str]:
    """The address of a service that has forecast before."""
    server, url = start(model, *options)
    try:
        for content in bodies(3):
            httpx.post(f"{url}/forecast", content=content, headers=JSON, timeout=PATIENCE)
        yield url
    finally:
        server.terminate()
        server.wait()


def curve(url: str, seconds: float) -> list[Load]:
    """Loads of rising rates, up to the first that the service cannot keep up with."""
    loads: list[Load] = []
    for rate in RATES:
        loads.append(measure(url, rate, seconds))
        if loads[-1].answered_a_second < 0.8 * loads[-1].sent / seconds:
            break
    return loads


def plot(curves: dict[str, list[Load]], path: Path) -> None:
    """Latency and answers a second by arrival rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (latency, answered) = plt.subplots(1, 2, figsize=(10, 3.6))
    for (name, loads), colour in zip(curves.items(), ("C0", "0.6"), strict=True):
        rates = [load.rate for load in loads]
        latency.plot(rates, [load.p50 for load in loads], "o-", color=colour, label=f"{name}, p50")
        latency.plot(rates, [load.p99 for load in loads], "^--", color=colour, label=f"{name}, p99")
        answers = [load.answered_a_second for load in loads]
        answered.plot(rates, answers, "o-", color=colour, label=name)
    latency.set(xlabel="requests a second", ylabel="milliseconds", yscale="log")
    answered.set(xlabel="requests a second", ylabel="answers a second")
    answered.axline((0, 0), slope=1, color="0.85", zorder=0)
    for ax in (latency, answered):
        ax.legend(frameon=False, fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def to_markdown(content: dict[str, Any]) -> str:
    machine = content["machine"]
    head = (
        "| requests a second | answered a second | p50 ms | p90 ms | p99 ms | requests a batch | "
        "processor ms an answer | statuses |"
    )

    def row(load: dict[str, Any]) -> str:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in load["statuses"].items())
        return (
            f"| {load['rate']:.3g} | {load['answered_a_second']:.1f} | {load['p50']:,.0f} | "
            f"{load['p90']:,.0f} | {load['p99']:,.0f} | {load['requests_a_batch']:.1f} | "
            f"{load['processor']:,.0f} | {statuses} |"
        )

    lines = [
        "# The service under load",
        "",
        f"`laglite serve --model {machine['model']}`; {machine['processor']}, "
        f"{machine['cores']} cores that the client shares, load average before "
        f"{machine['load_average']}; {machine['onnxruntime']}. Requests of one series of {LENGTH} "
        f"values, {HORIZON} steps, {PATHS} paths, arriving at random for {content['seconds']:g} s.",
    ]
    for name, loads in content["curves"].items():
        lines += [
            "",
            f"## {name.capitalize()}",
            "",
            head,
            "|---:|---:|---:|---:|---:|---:|---:|---|",
        ]
        lines += [row(load) for load in loads]
    lines += [
        "",
        f"## At half of saturation ({content['saturation']:.1f} a second), and beyond it",
        "",
        f"The last row is {OVERLOAD} times saturation at `--max-requests {SHORT_QUEUE}`.",
        "",
        head,
        "|---:|---:|---:|---:|---:|---:|---:|---|",
        row(content["half"]),
        row(content["overload"]),
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--model", default="base", show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=15.0, show_default=True)
def main(output: Path, model: str, seconds: float) -> None:
    """Load the service."""
    machine = environment(model)
    curves = {}
    with service(model) as url:
        curves["batched"] = curve(url, seconds)
        saturation = max(load.answered_a_second for load in curves["batched"])
        half = measure(url, saturation / 2, 2 * seconds)
    with service(model, "--max-draws", str(PATHS * HORIZON)) as url:
        curves["one at a time"] = curve(url, seconds)
    with service(model, "--max-requests", str(SHORT_QUEUE)) as url:
        overload = measure(url, OVERLOAD * saturation, seconds)
    content = {
        "machine": machine,
        "seconds": seconds,
        "saturation": saturation,
        "curves": {name: [asdict(load) for load in loads] for name, loads in curves.items()},
        "half": asdict(half),
        "overload": asdict(overload),
    }
    write_results(output, content, to_markdown(content))
    plot(curves, output.with_suffix(".png"))
    unexpected = {status for load in (half, overload) for status in load.statuses} - {200, 429, 503}
    if unexpected:
        raise click.ClickException(f"statuses {sorted(unexpected)} came beside 200, 429 and 503")


if __name__ == "__main__":
    main()
