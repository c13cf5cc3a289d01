"""Scaling rules against torch, whose results the published implementation's are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from laglite.scaling import fit_scale

finite = st.floats(-1e6, 1e6, width=32)
windows = arrays(np.float32, st.integers(1, 60), elements=finite)


@given(windows)
def test_robust_is_the_lower_median_and_the_interquartile_range_of_torch(
    values: np.ndarray,
) -> None:
    tensor = torch.from_numpy(values)
    quartiles = [torch.nanquantile(tensor, q).item() for q in (0.25, 0.75)]
    loc, scale = fit_scale(values, "robust")
    assert loc == torch.nanmedian(tensor).item()
    expected = max(np.float32(quartiles[1]) - np.float32(quartiles[0]), 1e-10)
    tolerance = 1e-6 * float(np.abs(values).max())
    assert scale == pytest.approx(expected, rel=1e-6, abs=tolerance)


@given(windows)
def test_mean_has_no_location_and_the_mean_absolute_value_as_scale(values: np.ndarray) -> None:
    loc, scale = fit_scale(values, "mean")
    expected = max(torch.from_numpy(values).abs().mean().item(), 1e-10)
    assert (loc, scale) == (0.0, pytest.approx(expected, rel=1e-5))


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e3, 1e3, width=32)))
def test_std_uses_the_biased_variance_with_a_floor(values: np.ndarray) -> None:
    tensor = torch.from_numpy(values)
    expected = torch.sqrt(tensor.var(correction=0) + 1e-5).item()
    loc, scale = fit_scale(values, "std")
    assert loc == pytest.approx(tensor.mean().item(), rel=1e-4, abs=1e-3)
    assert scale == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_none_leaves_values_as_they_are() -> None:
    assert fit_scale(np.array([5.0, 7.0]), "none") == (0.0, 1.0)


def test_the_published_robust_rule_gives_a_constant_series_its_tiny_scale() -> None:
    assert fit_scale(np.full(30, 7.0), "robust") == (7.0, 1e-10)


@pytest.mark.parametrize("level", [7.0, -0.1, 1e-8, 3e30])
def test_iqr_gives_a_constant_series_a_share_of_its_level(level: float) -> None:
    loc, scale = fit_scale(np.full(30, level), "iqr")
    assert loc == level
    assert scale == pytest.approx(0.01 * abs(level))


def test_iqr_gives_a_series_of_zeros_a_finite_scale() -> None:
    assert fit_scale(np.zeros(30), "iqr") == (0.0, 0.01)


def test_iqr_widens_to_a_quarter_of_the_central_90_percent_for_spiky_series() -> None:
    values = np.sin(np.arange(100)) / 100
    values[::8] = 50.0
    low, high = np.quantile(values, (0.05, 0.95))
    loc, scale = fit_scale(values, "iqr")
    assert loc == np.median(values)
    assert scale == pytest.approx((high - low) / 4)
    assert scale > 10


def test_one_outlier_does_not_change_the_iqr_of_an_ordinary_series() -> None:
    values = np.random.default_rng(0).standard_normal(200)
    spoiled = values.copy()
    spoiled[50] = 1e9
    assert fit_scale(spoiled, "iqr") == pytest.approx(fit_scale(values, "iqr"), rel=0.1, abs=0.02)


def test_iqr_falls_back_to_the_standard_deviation_for_intermittent_demand() -> None:
    values = np.zeros(100)
    values[::40] = 5.0
    assert fit_scale(values, "iqr") == (0.0, pytest.approx(values.std()))


@given(
    arrays(np.float64, st.integers(8, 60), elements=st.floats(-100, 100)),
    st.floats(0.01, 100),
    st.floats(-1000, 1000),
)
def test_iqr_follows_shifts_and_stretches_of_a_varying_series(
    values: np.ndarray, stretch: float, shift: float
) -> None:
    low, high = np.quantile(values, (0.25, 0.75))
    if high - low < 1e-3:
        values = values + np.arange(len(values))
    loc, scale = fit_scale(values, "iqr")
    moved_loc, moved_scale = fit_scale(values * stretch + shift, "iqr")
    assert moved_loc == pytest.approx(loc * stretch + shift, rel=1e-6, abs=1e-6)
    assert moved_scale == pytest.approx(scale * stretch, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("value", [5e-324, -1e-310, 1e-39])
def test_values_too_small_for_samples_to_show_are_scaled_as_zeros(value: float) -> None:
    assert fit_scale(np.array([value]), "iqr") == (value, 0.01)
    assert fit_scale(np.array([0.0, value, 3 * value]), "iqr") == (value, 0.01)
