"""The floor on a device: what a forecast must at least take there, from rates measured with torch.

Three bounds: the products with weights and of attention, at the rate of large matrix products;
every weight, key and value that a step reads, at the rate of a copy (what fits the processor's
caches may come faster); and, for the operations of a step that wait for one another, five a layer
and two more, the time that the smallest one takes inside a CUDA graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from laglite.benchmarking.floor import forecast_flops
from laglite.spec import ModelSpec

ITEM_BYTES = {"fp32": 4, "fp16": 2}
DTYPES = {"fp32": "float32", "fp16": "float16"}
LAYER_KERNELS, OTHER_KERNELS = 5, 2  # q, k, v; attention; its output; up; down; embedding; head
LARGE, SMALL = (4096, 1 << 28), (512, 1 << 24)  # rows of a product, bytes of a copy
CHAIN = 1000  # the smallest operations that are timed together


@dataclass(frozen=True)
class Rates:
    """Of one device: operations a second by precision, bytes a second, seconds an operation."""

    device: str
    flops: dict[str, float]
    bandwidth: float
    launch: float


@dataclass(frozen=True)
class Work:
    """Series forecast at once."""

    series: int
    paths: int
    context: int
    horizon: int


def measure_rates(device: str) -> Rates:
    """Large square products, large copies and chains of small operations on a torch device."""
    import torch

    size, copied = LARGE if device.startswith("cuda") else SMALL
    torch.backends.cuda.matmul.allow_tf32 = False
    flops = {}
    for precision, dtype in DTYPES.items():
        left, right = (
            torch.rand(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2)
        )
        flops[precision] = 2 * size**3 / _seconds(lambda a=left, b=right: a @ b, device)
    source = torch.empty(copied // 4, device=device)
    target = torch.empty_like(source)
    bandwidth = 2 * copied / _seconds(lambda: target.copy_(source), device)
    name = torch.cuda.get_device_name() if device.startswith("cuda") else device
    return Rates(name, flops, bandwidth, _launch_seconds(device))


def bytes_read(spec: ModelSpec, work: Work, item: int) -> int:
    """Bytes that decoding must read: weights and prompts in each step, suffixes as they grow."""
    token = 2 * spec.num_layers * spec.width * item  # keys and values of one token
    steps = work.horizon - 1
    prompts = steps * work.series * work.context * token
    suffixes = work.series * work.paths * token * steps * (steps + 1) // 2
    return steps * spec.num_parameters * item + prompts + suffixes


def floor(spec: ModelSpec, work: Work, precision: str, rates: Rates) -> dict[str, float]:
    """Milliseconds of each bound; the floor is the largest."""
    flops = work.series * forecast_flops(spec, work.context, work.horizon, work.paths)
    kernels = (work.horizon - 1) * (LAYER_KERNELS * spec.num_layers + OTHER_KERNELS)
    return {
        "arithmetic": 1e3 * flops / rates.flops[precision],
        "memory": 1e3 * bytes_read(spec, work, ITEM_BYTES[precision]) / rates.bandwidth,
        "launches": 1e3 * kernels * rates.launch,
    }


def _launch_seconds(device: str) -> float:
    """Seconds of the smallest operation that waits for the one before it."""
    import torch

    number = torch.zeros(1, device=device)

    def chain() -> None:
        for _ in range(CHAIN):
            number.add_(1)

    if not device.startswith("cuda"):
        return _seconds(chain, device) / CHAIN
    chain()  # what a first launch loads cannot be loaded while a graph is captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        chain()
    return _seconds(graph.replay, device) / CHAIN


def _seconds(call: Callable[[], object], device: str, repeats: int = 5) -> float:
    """The best of a few runs, after one that warms up."""
    import torch

    taken = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return min(taken[1:])
