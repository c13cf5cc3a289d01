"""The model in the package: whole, exact, and a forecaster."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from laglite import Forecaster
from laglite.bundle import shipped_models
from laglite.verification import verify

EXAMPLE = Path(__file__).parents[2] / "examples" / "us_births_daily.csv"
HORIZON = 28
LEVELS = np.arange(1, 10)[:, None] / 10


@pytest.fixture(scope="module")
def base() -> Forecaster:
    return Forecaster.load()


@pytest.fixture(scope="module")
def births() -> np.ndarray:
    return np.loadtxt(EXAMPLE, delimiter=",", skiprows=1, usecols=1)


def test_base_is_shipped_and_loads_by_name_or_by_default(base: Forecaster) -> None:
    assert "base" in shipped_models()
    assert Forecaster.load("base").bundle.path == base.bundle.path


def test_it_passes_its_own_test_vectors(base: Forecaster) -> None:
    assert max(result.largest for result in verify(base.bundle, base.backend)) <= 1e-4


def quantile_loss(quantiles: np.ndarray, actual: np.ndarray) -> float:
    difference = actual - quantiles
    return float(np.maximum(LEVELS * difference, (LEVELS - 1) * difference).sum())


def test_over_a_year_it_forecasts_the_example_better_than_repeating_the_last_week(
    base: Forecaster, births: np.ndarray
) -> None:
    model = naive = covered = 0.0
    cuts = [len(births) - 28 * window for window in range(1, 14)]
    for cut in cuts:
        history, actual = births[:cut], births[cut : cut + HORIZON]
        forecast = base.predict(history, horizon=HORIZON, start="1985-01-01", freq="D", seed=0)
        quantiles = np.stack([forecast.quantile(float(level)) for level in LEVELS[:, 0]])
        model += quantile_loss(quantiles, actual)
        naive += quantile_loss(np.tile(history[-7:], HORIZON // 7), actual)
        covered += float(np.mean((quantiles[0] <= actual) & (actual <= quantiles[-1])))
    assert model < 0.8 * naive
    assert 0.6 < covered / len(cuts) < 0.95  # of the 80 % interval


def test_it_needs_no_times_and_does_not_warn_without_them(
    base: Forecaster, births: np.ndarray
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast = base.predict(births, horizon=7, seed=0)
    assert forecast.median[:1] < forecast.median[2:5].min()  # a Sunday, before working days


@pytest.mark.parametrize("level", [5.0, -2e6, 0.0])
def test_a_constant_series_is_forecast_as_nearly_constant(base: Forecaster, level: float) -> None:
    forecast = base.predict(np.full(200, level), horizon=10, seed=0)
    spread = 0.02 * abs(level) or 0.02
    np.testing.assert_allclose(forecast.median, level, atol=spread)


@pytest.mark.parametrize("history", [[4.0], [4.0, 5.0], [np.nan, 4.0, np.nan, 6.0]])
def test_very_short_histories_give_forecasts_near_them(
    base: Forecaster, history: list[float]
) -> None:
    forecast = base.predict(history, horizon=5, seed=0)
    assert ((forecast.median > 0) & (forecast.median < 20)).all()
