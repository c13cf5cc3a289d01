"""The models in the package: whole, exact, and forecasters."""

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


LARGEST = {"base": (1_800_000, 13_500_000), "nano": (400_000, 2_800_000)}  # weights, bytes


@pytest.fixture(scope="module", params=list(LARGEST))
def model(request: pytest.FixtureRequest) -> Forecaster:
    return Forecaster.load(request.param)


@pytest.fixture(scope="module")
def births() -> np.ndarray:
    return np.loadtxt(EXAMPLE, delimiter=",", skiprows=1, usecols=1)


def test_base_is_the_default_among_the_shipped_models() -> None:
    assert sorted(shipped_models()) == sorted(LARGEST)
    assert Forecaster.load().bundle.path == Forecaster.load("base").bundle.path


def test_it_is_as_small_as_the_model_card_says(model: Forecaster) -> None:
    weights, size = LARGEST[model.bundle.name]
    assert model.spec.num_parameters <= weights
    assert sum(entry["bytes"] for entry in model.bundle.manifest["files"].values()) <= size


def test_it_passes_its_own_test_vectors(model: Forecaster) -> None:
    assert max(result.largest for result in verify(model.bundle, model.backend)) <= 1e-4


def quantile_loss(quantiles: np.ndarray, actual: np.ndarray) -> float:
    difference = actual - quantiles
    return float(np.maximum(LEVELS * difference, (LEVELS - 1) * difference).sum())


def test_over_a_year_it_forecasts_the_example_better_than_repeating_the_last_week(
    model: Forecaster, births: np.ndarray
) -> None:
    loss = naive = covered = 0.0
    cuts = [len(births) - 28 * window for window in range(1, 14)]
    for cut in cuts:
        history, actual = births[:cut], births[cut : cut + HORIZON]
        forecast = model.predict(history, horizon=HORIZON, start="1985-01-01", freq="D", seed=0)
        quantiles = np.stack([forecast.quantile(float(level)) for level in LEVELS[:, 0]])
        loss += quantile_loss(quantiles, actual)
        naive += quantile_loss(np.tile(history[-7:], HORIZON // 7), actual)
        covered += float(np.mean((quantiles[0] <= actual) & (actual <= quantiles[-1])))
    assert loss < 0.8 * naive
    assert 0.6 < covered / len(cuts) < 0.95  # of the 80 % interval


def test_it_needs_no_times_and_does_not_warn_without_them(
    model: Forecaster, births: np.ndarray
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast = model.predict(births, horizon=7, seed=0)
    assert forecast.median[:1] < forecast.median[2:5].min()  # a Sunday, before working days


@pytest.mark.parametrize("level", [5.0, -2e6, 0.0])
def test_a_constant_series_is_forecast_as_nearly_constant(model: Forecaster, level: float) -> None:
    forecast = model.predict(np.full(200, level), horizon=10, seed=0)
    spread = 0.02 * abs(level) or 0.02
    np.testing.assert_allclose(forecast.median, level, atol=spread)


@pytest.mark.parametrize("history", [[4.0], [4.0, 5.0], [np.nan, 4.0, np.nan, 6.0]])
def test_very_short_histories_give_forecasts_near_them(
    model: Forecaster, history: list[float]
) -> None:
    forecast = model.predict(history, horizon=5, seed=0)
    assert ((forecast.median > 0) & (forecast.median < 20)).all()


@pytest.mark.parametrize("factor", [1e-5, 20.0])
def test_units_within_the_advised_range_cost_little_accuracy(
    model: Forecaster, births: np.ndarray, factor: float
) -> None:
    history, actual = births[:-HORIZON], births[-HORIZON:]
    losses = []
    for unit in (1.0, factor):
        forecast = model.predict(
            history * unit, horizon=HORIZON, start="1985-01-01", freq="D", seed=0
        )
        quantiles = np.array([forecast.quantile(float(level)) for level in LEVELS[:, 0]]) / unit
        losses.append(quantile_loss(quantiles, actual))
    assert losses[1] < 1.25 * losses[0]
