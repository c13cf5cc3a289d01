"""Seasonal naive: its centre, its growing intervals, gaps, short histories, default seasons."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from laglite.evaluation.seasonal_naive import (
    default_season,
    seasonal_error,
    seasonal_naive,
    seasonal_naive_point,
)
from laglite.frequency import parse_frequency

LEVELS = (0.025, 0.1, 0.5, 0.9)


@pytest.mark.parametrize(
    ("alias", "season"),
    [
        ("h", 24), ("30min", 48), ("15min", 96), ("5min", 288), ("min", 1440), ("s", 3600),
        ("10s", 360), ("D", 7), ("B", 5), ("W", 52), ("W-SUN", 52), ("2W", 26), ("M", 12),
        ("MS", 12), ("QS", 4), ("YS", 1), ("6h", 4), ("2D", 1), ("7min", 1), ("ms", 1), ("12M", 1),
    ],
)  # fmt: skip
def test_the_default_season_follows_the_frequency(alias: str, season: int) -> None:
    assert default_season(parse_frequency(alias)) == season


def test_without_a_frequency_there_is_no_season() -> None:
    assert default_season(None) == 1


def test_quantiles_are_normal_around_the_last_season_and_widen_season_by_season() -> None:
    history = np.random.default_rng(0).normal(size=50)
    forecast = seasonal_naive(history, 9, 4, LEVELS)
    centre = np.concatenate([history[-4:], history[-4:], history[-4:-3]])
    differences = np.array([history[t] - history[t - 4] for t in range(4, 50)])
    sigma = np.sqrt(np.mean(differences**2)) * np.sqrt([1, 1, 1, 1, 2, 2, 2, 2, 3])
    expected = norm.ppf(np.array(LEVELS)[:, None], centre, sigma)
    np.testing.assert_allclose(forecast.values, expected, rtol=1e-9)
    np.testing.assert_array_equal(forecast.mean, centre)


def test_as_a_point_forecast_all_quantiles_are_the_same() -> None:
    history = np.arange(10.0)
    forecast = seasonal_naive_point(history, 5, 3, LEVELS)
    np.testing.assert_array_equal(forecast.values, np.tile([7, 8, 9, 7, 8], (4, 1)))


def test_gaps_in_the_last_season_are_interpolated_and_left_out_of_the_differences() -> None:
    history = np.array([1.0, 2, 1, 2, np.nan, 4])
    forecast = seasonal_naive(history, 2, 2, (0.1, 0.5))
    np.testing.assert_allclose(forecast.mean, [3, 4])
    np.testing.assert_allclose(seasonal_error(history, 2), np.mean([0, 0, 2]))


@pytest.mark.parametrize("history", [[5.0], [5.0, np.nan], [np.nan, 5.0]])
def test_a_history_of_one_value_repeats_it_without_width(history: list[float]) -> None:
    forecast = seasonal_naive(np.array(history), 3, 7, LEVELS)
    np.testing.assert_array_equal(forecast.values, np.full((4, 3), 5.0))
    assert np.isnan(seasonal_error(np.array(history), 7))


def test_a_history_of_one_season_repeats_its_last_value() -> None:
    forecast = seasonal_naive(np.array([1.0, 3, 2]), 2, 3, (0.5,))
    np.testing.assert_array_equal(forecast.values, [[2, 2]])
    assert seasonal_error(np.array([1.0, 3, 2]), 3) == 1.5
