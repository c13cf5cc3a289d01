"""Augmented windows: what changes, what does not, and how much of a partner there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from laglite.scaling import fit_scale
from laglite.tokens import TimeAxis
from laglite_train.draws import RawWindow
from laglite_train.window_augmentation import SHORTEST_SPECTRUM, AugmentationConfig, augment

EVERYTHING: dict[str, Any] = {
    "frequency": 1.0, "series_mix": 1.0, "sign_flip": 0.5, "magnitude": 0.2, "jitter": 0.05,
}  # fmt: skip


def window(length: int = 64, seed: int = 0, level: float = 50.0, scale: float = 10.0) -> RawWindow:
    values = np.random.default_rng(seed).normal(level, scale, length).astype(np.float32)
    return RawWindow(values, length // 2, TimeAxis.of("2024-01-01", "h"), 3)


def partner(**options: Any) -> Callable[[], RawWindow]:
    return lambda: window(**{"seed": 1, **options})


def changed(
    own: RawWindow, draw: Callable[[], RawWindow] | None = None, seed: int = 0, **config: Any
) -> RawWindow:
    return augment(
        own, draw or partner(), AugmentationConfig(**config), np.random.default_rng(seed)
    )


def scaled(values: np.ndarray) -> np.ndarray:
    loc, scale = fit_scale(values[~np.isnan(values)], "iqr")
    return (values - loc) / scale


def test_without_any_augmentation_a_window_is_left_as_it_is() -> None:
    own = window()
    assert changed(own) is own


def test_only_the_values_change_and_the_source_is_left_alone() -> None:
    own = dataclasses.replace(window(), covariates=np.ones((2, 64), np.float32))
    before = own.values.copy()
    after = changed(own, **EVERYTHING)
    np.testing.assert_array_equal(own.values, before)
    assert not np.allclose(after.values, before)
    assert after.values.dtype == np.float32
    assert dataclasses.replace(after, values=own.values) == own


def test_the_same_generator_gives_the_same_window_and_another_one_another() -> None:
    first, second, third = (changed(window(), seed=seed, **EVERYTHING) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.values, second.values)
    assert not np.array_equal(first.values, third.values)


@pytest.mark.parametrize("name", ["frequency", "series_mix"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_windows_is_changed(name: str, share: float) -> None:
    """Half of the mixtures draw a mixture of one, the window itself."""
    own, random = window(), np.random.default_rng(0)
    config = AugmentationConfig(**{name: share, "most_partners": 1})
    count = sum(augment(own, partner(), config, random) is not own for _ in range(400))
    expected = share / 2 if name == "series_mix" else share
    assert binomtest(count, 400, expected).pvalue > 1e-3


@pytest.mark.parametrize("name", ["frequency", "series_mix"])
def test_a_partner_counts_in_its_own_scaled_units(name: str) -> None:
    plain, moved = (
        changed(window(), partner(level=level, scale=scale), seed=5, **{name: 1.0})
        for level, scale in ((0.0, 1.0), (-3000.0, 700.0))
    )
    np.testing.assert_allclose(moved.values, plain.values, atol=0.02)


@pytest.mark.parametrize("name", ["frequency", "series_mix"])
def test_the_result_is_in_the_units_of_the_window(name: str) -> None:
    near, far = (
        changed(window(level=level, scale=scale), seed=5, **{name: 1.0}).values
        for level, scale in ((0.0, 1.0), (5000.0, 300.0))
    )
    np.testing.assert_allclose((far - 5000.0) / 300.0, near, atol=1e-3)


def test_missing_values_stay_missing_and_no_others_become_so() -> None:
    own = window()
    own.values[[3, 4, 40]] = np.nan
    for seed in range(10):
        after = changed(own, seed=seed, **EVERYTHING)
        np.testing.assert_array_equal(np.isnan(after.values), np.isnan(own.values))


def test_mixed_with_flat_partners_a_window_keeps_its_shape_and_loses_amplitude() -> None:
    own = window()
    flat = RawWindow(np.full(64, 7.0, np.float32), 32, TimeAxis(), 0)
    shares = []
    for seed in range(20):
        after = changed(own, lambda: flat, seed=seed, series_mix=1.0, most_partners=3)
        loc, scale = fit_scale(own.values, "iqr")
        share = (after.values - loc) / scale / scaled(own.values)
        np.testing.assert_allclose(share, np.median(share), rtol=1e-2)
        shares.append(float(np.median(share)))
    assert 0 < min(shares) < 0.5
    assert max(shares) == pytest.approx(1.0)  # a mixture of one


def test_a_short_partner_repeats_and_an_empty_one_counts_as_flat() -> None:
    for values in (np.float32([1, 2, 3, 4, 9]), np.full(5, np.nan, np.float32)):
        other = RawWindow(values, 3, TimeAxis(), 0)
        after = changed(window(), lambda other=other: other, frequency=1.0, series_mix=1.0)
        assert np.isfinite(after.values).all()


def test_where_a_partner_is_missing_so_is_the_mixture() -> None:
    gap = window().values.copy()
    gap[40:50] = np.nan
    other = RawWindow(gap, 32, TimeAxis(), 0)
    found = [
        np.isnan(changed(window(), lambda: other, seed=seed, series_mix=1.0).values)
        for seed in range(20)
    ]
    assert {int(missing.sum()) for missing in found} == {0, 10}  # 0: a mixture of one
    assert all(missing[40:50].all() for missing in found if missing.any())


def test_spectra_of_very_short_windows_are_not_touched() -> None:
    own = window(SHORTEST_SPECTRUM - 1)
    assert changed(own, frequency=1.0) is own


def test_a_window_without_a_value_passes() -> None:
    own = RawWindow(np.full(32, np.nan, np.float32), 16, TimeAxis(), 0)
    assert np.isnan(changed(own, **EVERYTHING).values).all()


def test_flips_mirror_at_zero_and_magnitude_is_one_factor() -> None:
    own = window()
    np.testing.assert_array_equal(changed(own, sign_flip=1.0).values, -own.values)
    factors = [changed(own, seed=k, magnitude=0.3).values / own.values for k in range(300)]
    assert all(np.ptp(factor) < 1e-5 for factor in factors)
    assert np.log([factor[0] for factor in factors]).std() == pytest.approx(0.3, rel=0.15)


def test_jitter_has_its_deviation_in_scaled_units() -> None:
    own = window(4000, level=300.0, scale=50.0)
    noise = changed(own, jitter=0.1).values - own.values
    assert noise.std() == pytest.approx(0.1 * fit_scale(own.values, "iqr")[1], rel=0.05)
