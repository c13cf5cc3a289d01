"""Half precision: matrices, keys and values in float16, products of float16, the rest in float32.

Products are summed in float32 by the kernels of GPUs; norms, softmax, the embedding (whose
features have unlike magnitudes) and the head stay float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite_export.graph_builder import FLOAT, HALF, GraphBuilder, WeightFile

FULL = ("wte.weight", "head.weight")
# Operators that leave numbers as they are: halves stay halves.
MOVES = ("Concat", "Reshape", "ScatterND", "Split", "Squeeze", "Transpose", "Unsqueeze")


class HalfBuilder(GraphBuilder):
    """A graph whose layers multiply in float16."""

    cached = HALF

    def __init__(self, name: str, weights: WeightFile) -> None:
        super().__init__(name, weights)
        self._halves: dict[str, str] = {}  # float16 of each float32 name; of a float16 name itself

    def input(self, name: str, shape: tuple[int | str, ...], kind: int = FLOAT) -> str:
        if kind == HALF:
            self._halves[name] = name
        return super().input(name, shape, kind)

    def output(self, name: str, value: str, shape: tuple[int | str, ...], kind: int = FLOAT) -> str:
        if kind == HALF:
            self._halves[name] = name
        return super().output(name, value, shape, kind)

    def ops(
        self, kind: str, count: int, *inputs: str, scope: str, **attributes: object
    ) -> list[str]:
        outputs = super().ops(kind, count, *inputs, scope=scope, **attributes)
        if kind in MOVES and self._halves.get(inputs[0]) == inputs[0]:
            self._halves.update({output: output for output in outputs})
        return outputs

    def linear(self, x: str, name: str, matrix: NDArray[np.float32], scope: str) -> str:
        """X [..., in] times matrix [in, out]."""
        if name in FULL:
            return super().linear(x, name, matrix, scope)
        with np.errstate(over="ignore"):  # shows when the graph is validated
            weight = self.weight(name, matrix.astype(np.float16))
        self._halves[weight] = weight
        return self.product(x, weight, scope)

    def product(self, a: str, b: str, scope: str) -> str:
        half = self.op("MatMul", self.to_cache(a, scope), self.to_cache(b, scope), scope=scope)
        return self.op("Cast", half, scope=scope, to=FLOAT)

    def to_cache(self, x: str, scope: str) -> str:
        if x not in self._halves:
            half = self.op("Cast", x, scope=scope, to=HALF)
            self._halves[x] = self._halves[half] = half
        return self._halves[x]

    def rounded(self, x: str, scope: str) -> str:
        return self.op("Cast", self.to_cache(x, scope), scope=scope, to=FLOAT)
