"""Seeds: one stream for each series and seed, the same wherever it is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from laglite.randomness import (
    LATTICE,
    IndependentNoise,
    LatticeNoise,
    Noise,
    fresh_seed,
    path_uniforms,
)
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


def lattice(seed: int = 0, horizon: int = 3, paths: int = 50, draws: int = 4) -> LatticeNoise:
    return LatticeNoise(seed, WINDOW, horizon, paths, draws)


def whole(noise: Noise) -> slice:
    return slice(0, noise.paths)


@given(
    paths=st.integers(1, 150), shards=st.integers(1, 9), seed=st.integers(0, 99), even=st.booleans()
)
def test_parts_cover_the_paths_and_give_what_the_whole_gives(
    paths: int, shards: int, seed: int, even: bool
) -> None:
    uniforms = path_uniforms(seed, WINDOW, 2, paths)
    noise: Noise = lattice(seed, 2, paths, 3) if even else IndependentNoise(uniforms)
    state = np.random.default_rng(seed).integers(0, 9, paths).astype(float)  # with ties
    parts = noise.parts(shards)
    assert len(parts) <= shards
    assert [i for part in parts for i in range(part.start, part.stop)] == [*range(paths)]
    for step, values in ((0, None), (1, state)):
        together = noise.uniforms(step, whole(noise), values)
        apart = [
            noise.uniforms(step, part, None if values is None else values[part]) for part in parts
        ]
        np.testing.assert_array_equal(np.concatenate(apart, axis=1), together)
        assert together.min() > 0
        assert together.max() <= 1
    fine = noise.fine(1, whole(noise))
    if not even:
        assert fine is None
        return
    assert fine is not None
    pieces = [noise.fine(1, part) for part in parts]
    np.testing.assert_array_equal(np.concatenate([p for p in pieces if p is not None], 2), fine)
    assert fine.shape == (2, 3, paths)
    assert fine.min() > 0
    assert fine.max() <= 1


def test_each_path_by_itself_has_uniform_and_independent_numbers() -> None:
    seen = []
    for seed in range(1500):
        noise = lattice(seed, 2, 40)
        first = noise.uniforms(0, whole(noise), None)
        second = noise.uniforms(1, whole(noise), first[0])
        fine = noise.fine(1, whole(noise))
        assert fine is not None
        seen.append([*first[:, 7], *second[:, 7], *fine[:, 2, 7]])
    columns = np.array(seen).T
    for column in columns:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    correlations = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlations).max() < 4 / np.sqrt(len(seen))


def test_paths_take_the_points_of_their_groups_lattice_in_the_order_of_their_values() -> None:
    noise = lattice(paths=80)  # groups of 26, 27, 27
    assert [(p.start, p.stop) for p in noise.parts(9)] == [(0, 26), (26, 53), (53, 80)]
    state = np.random.default_rng(1).normal(size=80)
    plain, dealt = noise.uniforms(1, whole(noise), None), noise.uniforms(1, whole(noise), state)
    for part in noise.parts(9):
        order = np.argsort(state[part])
        np.testing.assert_array_equal(dealt[:, part][:, order], plain[:, part])
        steps = np.diff(plain[:, part], axis=1) % 1.0
        np.testing.assert_allclose(steps, np.tile(1 - LATTICE[:, None], steps.shape[1]))


def test_a_group_covers_the_unit_square_more_evenly_than_independent_paths() -> None:
    def gap(uniforms: np.ndarray) -> float:
        return max(stats.kstest(row, "uniform").statistic for row in uniforms)

    even = [gap(lattice(seed, paths=32).uniforms(0, slice(0, 32), None)) for seed in range(50)]
    plain = [gap(path_uniforms(seed, WINDOW, 1, 32)[0]) for seed in range(50)]
    assert np.median(even) < 0.1
    assert np.median(plain) > 0.15


@pytest.mark.parametrize("paths", [1, 20, 80])
def test_points_and_groups_tell_all_that_uniforms_deal(paths: int) -> None:
    uniforms = path_uniforms(0, WINDOW, 3, paths)
    state = np.random.default_rng(1).integers(0, 9, paths).astype(float)  # with ties
    for noise in (lattice(paths=paths), IndependentNoise(uniforms)):
        points = noise.points()
        assert points.shape == (3, 2, paths)
        np.testing.assert_array_equal(points[0], noise.uniforms(0, whole(noise), None))
        order = np.lexsort((state, noise.groups))  # by group, then by value
        dealt = np.empty_like(points[1])
        dealt[:, order] = points[1]
        np.testing.assert_array_equal(dealt, noise.uniforms(1, whole(noise), state))


def test_a_longer_horizon_continues_a_shorter_lattice() -> None:
    long, short = lattice(horizon=9), lattice(horizon=4)
    for step in range(4):
        state = np.arange(50.0)[::-1]
        np.testing.assert_array_equal(
            long.uniforms(step, whole(long), state), short.uniforms(step, whole(short), state)
        )
        fine = [noise.fine(step, whole(noise)) for noise in (long, short)]
        np.testing.assert_array_equal(*fine)


def test_no_fine_draws_are_none() -> None:
    noise = lattice(draws=0)
    assert noise.fine(0, whole(noise)) is None
