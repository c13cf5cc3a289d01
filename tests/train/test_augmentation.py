"""Augmentation of windows: each function's invariants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite_train.augmentation import (
    DOMINANT_BINS,
    aggregate,
    changeable_bins,
    fill_missing,
    freq_mask,
    freq_mix,
    jitter,
    magnitude_scaling,
    mix_series,
    mixing_weights,
    sign_flip,
)

Windows = NDArray[np.float32]
NAN = float("nan")


def windows(seed: int, batch: int = 4, length: int = 50, missing: float = 0.0) -> Windows:
    random = np.random.default_rng(seed)
    values = random.standard_normal((batch, length)).cumsum(axis=1).astype(np.float32)
    values[random.random(values.shape) < missing] = NAN
    return values


def energy(values: Windows) -> NDArray[np.float64]:
    return (values.astype(np.float64) ** 2).sum(axis=-1)


seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 70)
rates = st.floats(0, 1)

RANDOM_FUNCTIONS: dict[str, Callable[[Windows, np.random.Generator], Windows]] = {
    "freq_mask": lambda values, random: freq_mask(values, 0.5, random),
    "freq_mix": lambda values, random: freq_mix(values, values[::-1], 0.25, random),
    "mix_series": lambda values, random: mix_series(
        values, values[::-1, None], mixing_weights(random, len(values), 2)
    ),
    "jitter": lambda values, random: jitter(values, 0.1, random),
    "magnitude_scaling": lambda values, random: magnitude_scaling(values, 0.3, random),
    "sign_flip": lambda values, random: sign_flip(values, 0.5, random),
}


@pytest.mark.parametrize("name", RANDOM_FUNCTIONS)
def test_the_same_seed_gives_the_same_windows_and_arguments_are_not_changed(name: str) -> None:
    values = windows(1, missing=0.1)
    before = values.copy()
    first, second, other = (
        RANDOM_FUNCTIONS[name](values, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other, equal_nan=True)
    np.testing.assert_array_equal(values, before)
    assert first.dtype == np.float32
    assert first.shape == values.shape


@pytest.mark.parametrize("name", [name for name in RANDOM_FUNCTIONS if name != "mix_series"])
def test_missing_values_stay_missing_and_no_others_appear(name: str) -> None:
    values = windows(2, missing=0.2)
    augmented = RANDOM_FUNCTIONS[name](values, np.random.default_rng(3))
    np.testing.assert_array_equal(np.isnan(augmented), np.isnan(values))


def test_missing_values_are_filled_by_the_line_between_their_neighbours() -> None:
    values = np.array([[NAN, 1, NAN, NAN, 4, NAN], [NAN] * 6, [1, 2, 3, 4, 5, 6]], dtype=np.float32)
    np.testing.assert_allclose(
        fill_missing(values), [[1, 1, 2, 3, 4, 4], [0] * 6, [1, 2, 3, 4, 5, 6]]
    )


@given(seeds, lengths, rates)
@settings(max_examples=60, deadline=None)
def test_masked_bins_are_zero_and_all_others_are_kept(seed: int, length: int, rate: float) -> None:
    values = windows(seed, length=length)
    spectrum = np.fft.rfft(values)
    chosen = changeable_bins(spectrum, rate, np.random.default_rng(seed))
    masked = np.fft.rfft(freq_mask(values, rate, np.random.default_rng(seed)))
    tolerance = 1e-4 * (1 + np.abs(spectrum).max())
    np.testing.assert_allclose(masked, np.where(chosen, 0, spectrum), atol=tolerance)


@given(seeds, lengths, rates)
@settings(max_examples=60, deadline=None)
def test_the_mean_and_the_dominant_bins_are_never_chosen(
    seed: int, length: int, rate: float
) -> None:
    spectrum = np.fft.rfft(windows(seed, length=length))
    chosen = changeable_bins(spectrum, rate, np.random.default_rng(seed))
    assert not chosen[:, 0].any()
    order = np.argsort(-np.abs(spectrum[:, 1:]), axis=-1)[:, :DOMINANT_BINS]
    assert not np.take_along_axis(chosen[:, 1:], order, axis=-1).any()


@given(seeds, lengths, rates)
@settings(max_examples=60, deadline=None)
def test_masking_never_adds_energy(seed: int, length: int, rate: float) -> None:
    values = windows(seed, length=length)
    masked = freq_mask(values, rate, np.random.default_rng(seed))
    assert (energy(masked) <= energy(values) * (1 + 1e-5) + 1e-5).all()


def test_the_share_of_masked_bins_is_the_rate() -> None:
    spectrum = np.fft.rfft(windows(0, batch=50, length=400))
    chosen = changeable_bins(spectrum, 0.3, np.random.default_rng(0))
    assert chosen.mean() == pytest.approx(0.3 * (1 - 4 / 201), abs=0.02)


@given(seeds, lengths)
@settings(max_examples=30, deadline=None)
def test_rate_0_gives_the_windows_back(seed: int, length: int) -> None:
    values, others = windows(seed, length=length), windows(seed + 1, length=length)
    random = np.random.default_rng(seed)
    np.testing.assert_allclose(freq_mask(values, 0.0, random), values, atol=1e-4)
    np.testing.assert_allclose(freq_mix(values, others, 0.0, random), values, atol=1e-4)


@given(seeds, lengths, rates)
@settings(max_examples=60, deadline=None)
def test_mixed_bins_come_from_the_other_window(seed: int, length: int, rate: float) -> None:
    values, others = windows(seed, length=length), windows(seed + 1, length=length)
    own, foreign = np.fft.rfft(values), np.fft.rfft(others)
    chosen = changeable_bins(own, rate, np.random.default_rng(seed))
    mixed = np.fft.rfft(freq_mix(values, others, rate, np.random.default_rng(seed)))
    tolerance = 1e-4 * (1 + np.abs(own).max() + np.abs(foreign).max())
    np.testing.assert_allclose(mixed, np.where(chosen, foreign, own), atol=tolerance)


@given(seeds, st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_convex_combination_lies_between_its_windows(seed: int, count: int) -> None:
    values = windows(seed)
    others = np.stack([windows(seed + i) for i in range(1, count + 1)], axis=1)
    weights = mixing_weights(np.random.default_rng(seed), len(values), 1 + count)
    mixed = mix_series(values, others, weights)
    everything = np.concatenate([values[:, None], others], axis=1)
    assert (mixed <= everything.max(axis=1) + 1e-4).all()
    assert (mixed >= everything.min(axis=1) - 1e-4).all()
    np.testing.assert_allclose(
        mixed, np.einsum("bk,bkl->bl", weights, everything), rtol=1e-4, atol=1e-4
    )


def test_weight_1_is_the_window_itself_and_weight_0_adds_no_missing_values() -> None:
    values = windows(0, missing=0.1)
    others = np.full((4, 2, 50), NAN, np.float32)
    weights = np.tile(np.float32([1, 0, 0]), (4, 1))
    np.testing.assert_array_equal(mix_series(values, others, weights), values)


def test_a_step_missing_in_any_mixed_window_is_missing() -> None:
    values, others = windows(0, missing=0.1), windows(1, missing=0.1)
    mixed = mix_series(values, others[:, None], np.full((4, 2), 0.5, np.float32))
    np.testing.assert_array_equal(np.isnan(mixed), np.isnan(values) | np.isnan(others))


@given(seeds, st.integers(1, 6), st.floats(0.2, 5))
@settings(max_examples=40, deadline=None)
def test_mixing_weights_are_convex(seed: int, count: int, concentration: float) -> None:
    weights = mixing_weights(np.random.default_rng(seed), 10, count, concentration)
    assert weights.dtype == np.float32
    assert weights.shape == (10, count)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


def test_every_number_of_mixed_windows_is_equally_likely() -> None:
    weights = mixing_weights(np.random.default_rng(0), 6000, 3)
    used = (weights > 0).sum(axis=1)
    np.testing.assert_allclose(np.bincount(used)[1:] / 6000, 1 / 3, atol=0.03)


def test_jitter_has_the_deviation_asked_for() -> None:
    values = windows(0, batch=100, length=200)
    noise = jitter(values, 0.25, np.random.default_rng(0)) - values
    assert noise.std() == pytest.approx(0.25, rel=0.02)
    assert noise.mean() == pytest.approx(0.0, abs=0.01)


def test_magnitude_scaling_is_one_positive_factor_for_each_window() -> None:
    values = windows(0, batch=500)
    factors = magnitude_scaling(values, 0.3, np.random.default_rng(0)) / values
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1], factors.shape), rtol=1e-4)
    assert (factors > 0).all()
    assert np.log(factors[:, 0]).std() == pytest.approx(0.3, rel=0.1)


def test_a_share_of_the_windows_is_mirrored_at_zero() -> None:
    values = windows(0, batch=1000, length=5)
    flipped = sign_flip(values, 0.3, np.random.default_rng(0))
    mirrored = (flipped == -values).all(axis=1)
    assert ((flipped == values).all(axis=1) | mirrored).all()
    assert mirrored.mean() == pytest.approx(0.3, abs=0.05)


@given(seeds, st.integers(1, 9), st.integers(1, 9), st.sampled_from(["start", "end"]))
@settings(max_examples=60, deadline=None)
def test_aggregation_keeps_the_mean_of_whole_blocks(
    seed: int, factor: int, count: int, anchor: str
) -> None:
    values = windows(seed, length=factor * count)
    means = aggregate(values, factor, anchor)  # type: ignore[arg-type]
    assert means.shape == (4, count)
    assert means.dtype == np.float32
    np.testing.assert_allclose(means.mean(axis=1), values.mean(axis=1), rtol=1e-4, atol=1e-4)


def test_aggregation_drops_what_is_left_over_at_the_end_away_from_its_anchor() -> None:
    values = np.arange(1, 8, dtype=np.float32)
    np.testing.assert_array_equal(aggregate(values, 3, "start"), [2, 5])
    np.testing.assert_array_equal(aggregate(values, 3, "end"), [3, 6])


def test_a_mean_ignores_missing_values_and_is_missing_where_all_are() -> None:
    values = np.array([1, NAN, 3, NAN, NAN, NAN], np.float32)
    np.testing.assert_array_equal(aggregate(values, 3), [2, NAN])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, r: freq_mask(v, 1.5, r), "rate 1.5 must be a share from 0 to 1"),
        (lambda v, r: freq_mix(v, v[:, :9], 0.1, r), "must have the shape of values"),
        (lambda v, r: freq_mix(v, v, NAN, r), "rate nan must be a share"),
        (lambda v, r: sign_flip(v, -0.1, r), "rate -0.1 must be a share"),
        (lambda v, r: mix_series(v, v, np.ones((4, 1), np.float32)), "do not fit values"),
        (
            lambda v, r: mix_series(v, v[:, None], np.ones((4, 2), np.float32)),
            "must be at least 0 and sum to 1",
        ),
        (lambda v, r: aggregate(v, 0), "factor 0 must be from 1 to the length 50"),
        (lambda v, r: aggregate(v, 51), "factor 51 must be from 1 to the length 50"),
        (lambda v, r: aggregate(v, 2, "middle"), "anchor 'middle' is not"),
    ],
)
def test_impossible_arguments_are_named(
    call: Callable[[Windows, np.random.Generator], Windows], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(windows(0), np.random.default_rng(0))
