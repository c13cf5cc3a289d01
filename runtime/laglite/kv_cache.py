"""Keys and values: the prompt's, shared by all paths, and each path's own, written in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laglite.spec import ModelSpec

Array = NDArray[np.float32]
FIRST_CAPACITY = 32


@dataclass(frozen=True)
class PromptCache:
    """Keys and values of one series' prompt, computed once and read by every path.

    For each layer keys are [heads, head_dim + 1, 1 + context] and values
    [heads, 1 + context, head_dim], with the border that docs/bundle-format.md explains.
    """

    keys: Sequence[Array]
    values: Sequence[Array]


class SuffixCache:
    """Keys and values of the tokens that each path has decoded.

    For each layer keys are [paths, heads, head_dim, capacity] and values
    [paths, heads, capacity, head_dim]; `mask` [capacity] is 0 where a token is and -inf where none
    is yet. The capacity doubles as the horizon needs it, up to `most`.
    """

    def __init__(self, spec: ModelSpec, paths: int, most: int) -> None:
        self._spec, self._paths, self._most = spec, paths, max(1, most)
        self.length = 0
        self._allocate(min(FIRST_CAPACITY, self._most))

    def _allocate(self, capacity: int) -> None:
        heads, dim = self._spec.num_heads, self._spec.head_dim
        layers = range(self._spec.num_layers)
        self.keys = [np.zeros((self._paths, heads, dim, capacity), np.float32) for _ in layers]
        self.values = [np.zeros((self._paths, heads, capacity, dim), np.float32) for _ in layers]
        self.mask = np.full(capacity, -np.inf, np.float32)

    def reserve(self) -> bool:
        """Make room for one more token; True if the arrays were replaced by larger ones."""
        capacity = len(self.mask)
        if self.length < capacity:
            return False
        keys, values = self.keys, self.values
        self._allocate(min(2 * capacity, self._most))
        for layer in range(self._spec.num_layers):
            self.keys[layer][..., :capacity] = keys[layer]
            self.values[layer][:, :, :capacity] = values[layer]
        self.mask[:capacity] = 0.0
        return True

    def append(self, keys: Sequence[Array], values: Sequence[Array]) -> None:
        """Write one token's keys and values, [paths, heads, head_dim] for each layer."""
        for layer in range(self._spec.num_layers):
            self.keys[layer][..., self.length] = keys[layer]
            self.values[layer][:, :, self.length] = values[layer]
        self.mask[self.length] = 0.0
        self.length += 1
