"""The floor: the matrix products that a forecast needs, at this machine's rate for such products.

No implementation of the algorithm with these numbers can be faster without fewer products, lower
precision or a better sgemm than NumPy's; what a forecast takes above it is overhead.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from laglite.spec import ModelSpec

Array = NDArray[np.float32]
PASSES = 5  # a measurement: long against starting the threads


def linear_shapes(spec: ModelSpec) -> list[tuple[int, int]]:
    """(inputs, outputs) of every weight matrix that each token passes."""
    layer = []
    for width, hidden in spec.tower_sizes:
        layer += [(width, 3 * width), (width, width)]
        layer += [(width, hidden), (width, hidden), (hidden, width)]
    first, last = (
        (spec.num_features, spec.width),
        (spec.width, len(spec.arguments) + spec.num_gates),
    )
    return [first, *(spec.num_layers * layer), last]


def token_flops(spec: ModelSpec) -> float:
    """Floating-point operations of one token's matrix products with weights."""
    return 2.0 * sum(inputs * outputs for inputs, outputs in linear_shapes(spec))


def attention_flops(spec: ModelSpec, seen: int) -> float:
    """Those of one token's scores and mixes over `seen` tokens, itself among them."""
    return 4.0 * seen * spec.width * spec.num_layers


def forecast_flops(spec: ModelSpec, context: int, horizon: int, paths: int) -> float:
    """All of a forecast: the prompt once, then a token a path for each step but the last."""
    prompt = context * token_flops(spec)
    prompt += sum(attention_flops(spec, seen) for seen in range(1, context + 1))
    steps = (horizon - 1) * token_flops(spec)
    steps += sum(attention_flops(spec, context + step) for step in range(1, horizon))
    return prompt + paths * steps


class MatrixRate:
    """Measures the rate of a step's products, rows split over threads as paths are."""

    def __init__(self, spec: ModelSpec, rows: int, threads: int) -> None:
        random = np.random.default_rng(0)
        self._weights = [random.random(shape, np.float32) for shape in linear_shapes(spec)]
        counts = [len(part) for part in np.array_split(np.arange(rows), min(threads, rows))]
        self._inputs = [
            {size: random.random((count, size), np.float32) for size, _ in linear_shapes(spec)}
            for count in counts
        ]
        self._flops = rows * token_flops(spec)
        self._pool = ThreadPoolExecutor(len(counts))

    def measure(self) -> float:
        """Floating-point operations a second, over a few passes through all layers."""
        list(self._pool.map(self._pass, self._inputs))  # caches hold what others left there
        begin = time.perf_counter()
        list(self._pool.map(self._pass, self._inputs))
        return PASSES * self._flops / (time.perf_counter() - begin)

    def _pass(self, inputs: dict[int, Array]) -> None:
        for _ in range(PASSES):
            for weight in self._weights:
                np.matmul(inputs[len(weight)], weight)

    def close(self) -> None:
        self._pool.shutdown()
