"""Rotary positions: the tables by which queries and keys are rotated (Su et al. 2021)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite.spec import ModelSpec

BASE = 10000.0


def rotary_tables(spec: ModelSpec, length: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cos and sin of positions `0 .. length - 1`, float32 [length, head_dim / 2] each.

    `length` is the whole sequence, prompt and horizon: "dynamic" scaling (NTK-aware) changes the
    base with it once it exceeds `max_context_length`. "nope" rotates nothing. Angles are formed in
    float32, as in the published implementation.
    """
    half = spec.head_dim // 2
    if spec.rope_scaling == "nope":
        return np.ones((length, half), np.float32), np.zeros((length, half), np.float32)
    base, longest = BASE, adapted_length(spec, length)
    positions = np.arange(length, dtype=np.float32)
    if spec.rope_scaling == "linear":
        positions /= np.float32(spec.rope_factor)
    elif longest is not None and half > 1:
        growth = spec.rope_factor * longest / spec.max_context_length - (spec.rope_factor - 1)
        base *= growth ** (spec.head_dim / (spec.head_dim - 2))
    exponents = np.arange(0, spec.head_dim, 2, dtype=np.float32) / np.float32(spec.head_dim)
    frequencies = np.float32(1) / np.float32(base) ** exponents
    angles = positions[:, None] * frequencies
    return np.cos(angles), np.sin(angles)


def adapted_length(spec: ModelSpec, length: int) -> int | None:
    """The length of a sequence where its rotary rows are not those of all others, else None."""
    adapts = spec.rope_scaling == "dynamic" and length > spec.max_context_length
    return length if adapts else None
