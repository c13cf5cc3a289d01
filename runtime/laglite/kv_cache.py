"""Keys and values: the prompt's, shared by all paths, and each path's own, written in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laglite.spec import ModelSpec

Array = NDArray[np.float32] | NDArray[np.float16]
FIRST_CAPACITY = 16
ROUND = 8  # capacities are multiples of it: products of other sizes are slower


@dataclass(frozen=True)
class PromptCache:
    """Keys and values of one series' prompt, computed once and read by every path.

    For each layer keys are [heads, head_dim + 1, 1 + context] and values
    [heads, 1 + context, head_dim], with the border that docs/bundle-format.md explains.
    """

    keys: Sequence[Array]
    values: Sequence[Array]


def empty_prompts(spec: ModelSpec, series: int, dtype: str) -> list[tuple[Array, Array]]:
    """Keys [series, heads, head_dim + 1, 1] and values of prompts before their first token.

    They are the border alone, one pair for each layer: zeros, but for a 1 in the keys' last row.
    """
    keys = np.zeros((series, spec.num_heads, spec.head_dim + 1, 1), dtype)
    keys[:, :, -1] = 1.0
    values = np.zeros((series, spec.num_heads, 1, spec.head_dim), dtype)
    return [(keys, values)] * spec.num_layers


class SuffixCache:
    """Keys and values of the tokens that each path has decoded, in the graphs' `dtype`.

    `keys` and `values` are [layers, paths, heads, capacity, head_dim]; `mask` [capacity] is 0 where
    a token is and -inf where none is yet. The capacity grows by halves as the horizon needs it, up
    to `most`: every step reads all of it, so that little of it should be empty.
    """

    def __init__(self, spec: ModelSpec, paths: int, most: int, dtype: str) -> None:
        self._spec, self._paths, self._most = spec, paths, max(1, most)
        self._dtype = dtype
        self.length = 0
        self._allocate(min(FIRST_CAPACITY, self._most))

    def _allocate(self, capacity: int) -> None:
        spec = self._spec
        shape = (spec.num_layers, self._paths, spec.num_heads, capacity, spec.head_dim)
        self.keys: Array = np.zeros(shape, self._dtype)
        self.values: Array = np.zeros(shape, self._dtype)
        self.mask = np.full(capacity, -np.inf, np.float32)

    def reserve(self) -> bool:
        """Make room for one more token; True if the arrays were replaced by larger ones."""
        capacity = len(self.mask)
        if self.length < capacity:
            return False
        keys, values = self.keys, self.values
        more = max(1, capacity // (2 * ROUND)) * ROUND
        self._allocate(min(capacity + more, self._most))
        self.keys[:, :, :, :capacity] = keys
        self.values[:, :, :, :capacity] = values
        self.mask[:capacity] = 0.0
        return True

    def append(self, keys: Array, values: Array) -> None:
        """Write one token's keys and values, [layers, paths, heads, head_dim]."""
        self.keys[:, :, :, self.length] = keys
        self.values[:, :, :, self.length] = values
        self.mask[self.length] = 0.0
        self.length += 1
