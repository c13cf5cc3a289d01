"""Seeds: one stream for each series and seed, the same wherever it is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np

from laglite.randomness import fresh_seed, path_uniforms
from laglite.window import Window

WINDOW = Window(np.arange(5, dtype=np.float32), 1.0, 2.0, 3, 0)


def test_the_same_seed_and_window_give_the_same_uniforms() -> None:
    np.testing.assert_array_equal(path_uniforms(1, WINDOW, 4, 7), path_uniforms(1, WINDOW, 4, 7))


def test_another_seed_or_another_window_gives_another_stream() -> None:
    first = path_uniforms(1, WINDOW, 4, 7)
    for other in (
        path_uniforms(2, WINDOW, 4, 7),
        path_uniforms(1, dataclasses.replace(WINDOW, loc=1.5), 4, 7),
        path_uniforms(1, dataclasses.replace(WINDOW, scaled=WINDOW.scaled + 1), 4, 7),
    ):
        assert not np.isclose(first, other).any()


def test_a_longer_horizon_continues_a_shorter_one() -> None:
    np.testing.assert_array_equal(
        path_uniforms(1, WINDOW, 9, 7)[:4], path_uniforms(1, WINDOW, 4, 7)
    )


def test_uniforms_are_above_zero_and_at_most_one() -> None:
    uniforms = path_uniforms(0, WINDOW, 50, 1000)
    assert uniforms.min() > 0
    assert uniforms.max() <= 1
    assert abs(uniforms.mean() - 0.5) < 0.005


def test_a_negative_seed_is_a_seed() -> None:
    assert not np.array_equal(path_uniforms(-1, WINDOW, 2, 2), path_uniforms(1, WINDOW, 2, 2))


def test_fresh_seeds_differ() -> None:
    assert len({fresh_seed() for _ in range(20)}) == 20
