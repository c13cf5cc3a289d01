"""Rotary tables against the formulas, in double precision."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from laglite.rope import rotary_tables
from laglite.spec import ModelSpec


def angles(spec: ModelSpec, length: int, base: float, stretch: float) -> np.ndarray:
    exponents = np.arange(0, spec.head_dim, 2) / spec.head_dim
    return np.arange(length)[:, None] / stretch * base**-exponents


@pytest.mark.parametrize(
    ("kind", "length", "base", "stretch"),
    [
        ("none", 200, 10000.0, 1.0),
        ("linear", 200, 10000.0, 4.0),
        ("dynamic", 128, 10000.0, 1.0),
        ("dynamic", 256, 10000.0 * (4 * 256 / 128 - 3) ** (8 / 6), 1.0),
    ],
)
def test_tables_are_the_cosines_and_sines_of_the_scaled_angles(
    small_spec: ModelSpec, kind: str, length: int, base: float, stretch: float
) -> None:
    spec = dataclasses.replace(small_spec, rope_scaling=kind, rope_factor=4.0)
    cos, sin = rotary_tables(spec, length)
    expected = angles(spec, length, base, stretch)
    np.testing.assert_allclose(cos, np.cos(expected), atol=3e-5)
    np.testing.assert_allclose(sin, np.sin(expected), atol=3e-5)
    assert cos.dtype == sin.dtype == np.float32


def test_nope_rotates_nothing(small_spec: ModelSpec) -> None:
    cos, sin = rotary_tables(dataclasses.replace(small_spec, rope_scaling="nope"), 10)
    assert (cos == 1).all()
    assert (sin == 0).all()
