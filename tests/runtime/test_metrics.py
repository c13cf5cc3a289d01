"""Metrics beside those of utilsforecast, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import utilsforecast.losses as reference
from hypothesis import given
from hypothesis import strategies as st

from laglite.evaluation.metrics import (
    DECILES,
    INTERVALS,
    Metrics,
    QuantileForecast,
    combine,
    levels_needed,
    window_errors,
)
from laglite.evaluation.seasonal_naive import seasonal_error

HORIZON, SERIES, SEASON = 12, 5, 7
LEVELS = levels_needed(DECILES)


def random_forecast(rng: np.random.Generator, horizon: int = HORIZON) -> QuantileForecast:
    samples = rng.normal(size=(50, horizon)) * rng.uniform(0.5, 3) + rng.normal(size=horizon)
    return QuantileForecast(LEVELS, np.quantile(samples, LEVELS, axis=0), samples.mean(axis=0))


@pytest.fixture(scope="module")
def measured() -> tuple[Metrics, pd.DataFrame, pd.DataFrame]:
    """Our metrics of some random forecasts, and the same as utilsforecast's tables."""
    rng = np.random.default_rng(1)
    errors, tables, past = [], [], []
    for row in range(SERIES):
        history, actual = rng.normal(size=60), rng.normal(size=HORIZON) * 2
        forecast = random_forecast(rng)
        errors.append(window_errors(forecast, actual, seasonal_error(history, SEASON)))
        columns = {f"q{level:g}": forecast.at([level])[0] for level in LEVELS}
        frame = {"unique_id": str(row), "ds": range(60, 72), "y": actual, "mean": forecast.mean}
        tables.append(pd.DataFrame({**frame, **columns}))
        past.append(pd.DataFrame({"unique_id": str(row), "ds": range(60), "y": history}))
    return combine(errors), pd.concat(tables), pd.concat(past)


def test_the_weighted_quantile_loss_is_utilsforecasts_scaled_crps(
    measured: tuple[Metrics, pd.DataFrame, pd.DataFrame],
) -> None:
    ours, table, _ = measured
    table = table.assign(unique_id="all")
    models = {"m": [f"q{level:g}" for level in DECILES]}
    theirs = reference.scaled_crps(table, models, np.array(DECILES))
    np.testing.assert_allclose(ours.wql, theirs["m"].item(), rtol=1e-6)


def test_mase_is_utilsforecasts_mean_over_series(
    measured: tuple[Metrics, pd.DataFrame, pd.DataFrame],
) -> None:
    ours, table, past = measured
    theirs = reference.mase(table, ["q0.5"], SEASON, past)["q0.5"].mean()
    np.testing.assert_allclose(ours.mase, theirs, rtol=1e-12)


def test_rmse_is_utilsforecasts_over_all_values(
    measured: tuple[Metrics, pd.DataFrame, pd.DataFrame],
) -> None:
    ours, table, _ = measured
    theirs = reference.rmse(table.assign(unique_id="all"), ["mean"])["mean"].item()
    np.testing.assert_allclose(ours.rmse, theirs, rtol=1e-12)


@pytest.mark.parametrize("interval", INTERVALS)
def test_coverage_is_utilsforecasts(
    measured: tuple[Metrics, pd.DataFrame, pd.DataFrame], interval: int
) -> None:
    ours, table, _ = measured
    low, high = (f"q{level:g}" for level in INTERVALS[interval])
    renamed = table.rename(columns={low: f"m-lo-{interval}", high: f"m-hi-{interval}"})
    theirs = reference.coverage(renamed.assign(unique_id="all"), ["m"], interval)["m"].item()
    np.testing.assert_allclose(ours.coverage[interval], theirs, rtol=1e-12)
    width = (table[high] - table[low]).mean()
    np.testing.assert_allclose(ours.width[interval], width, rtol=1e-12)
    np.testing.assert_allclose(ours.relative_width[interval], width / table["y"].abs().mean())


def test_missing_actual_values_count_as_if_their_steps_were_not_there() -> None:
    rng = np.random.default_rng(2)
    forecast, actual = random_forecast(rng), rng.normal(size=HORIZON)
    gone = [0, 4, 11]
    kept = np.setdiff1d(np.arange(HORIZON), gone)
    shorter = QuantileForecast(LEVELS, forecast.values[:, kept], forecast.mean[kept])
    actual[gone] = np.nan
    ours = combine([window_errors(forecast, actual, 1.5)])
    assert ours == combine([window_errors(shorter, actual[kept], 1.5)])
    assert ours.values == 9


@given(st.integers(0, 2**32), st.floats(1e-3, 1e3))
def test_wql_mase_and_coverage_do_not_depend_on_the_unit(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    forecast, actual, history = random_forecast(rng), rng.normal(size=HORIZON), rng.normal(size=40)
    scaled = QuantileForecast(LEVELS, forecast.values * unit, forecast.mean * unit)
    one = combine([window_errors(forecast, actual, seasonal_error(history, 3))])
    other = combine([window_errors(scaled, actual * unit, seasonal_error(history * unit, 3))])
    np.testing.assert_allclose([other.wql, other.mase], [one.wql, one.mase], rtol=1e-9)
    np.testing.assert_allclose(other.rmse, one.rmse * unit, rtol=1e-9)
    assert other.coverage == one.coverage


@given(st.permutations(range(6)))
def test_the_order_of_the_windows_does_not_matter(order: list[int]) -> None:
    rng = np.random.default_rng(3)
    errors = [window_errors(random_forecast(rng), rng.normal(size=HORIZON), 1.0) for _ in range(6)]
    one, other = combine(errors), combine([errors[place] for place in order])
    np.testing.assert_allclose([other.wql, other.rmse], [one.wql, one.rmse], rtol=1e-12)


def test_a_perfect_forecast_has_no_loss_and_full_coverage_without_width() -> None:
    actual = np.arange(1.0, 5.0)
    perfect = QuantileForecast(LEVELS, np.tile(actual, (len(LEVELS), 1)), actual)
    metrics = combine([window_errors(perfect, actual, 1.0)])
    assert (metrics.wql, metrics.mase, metrics.rmse) == (0, 0, 0)
    assert metrics.coverage == {50: 1, 80: 1, 95: 1}
    assert metrics.width == {50: 0, 80: 0, 95: 0}


def test_what_the_windows_do_not_define_is_nan() -> None:
    rng = np.random.default_rng(4)
    zeros = combine([window_errors(random_forecast(rng), np.zeros(HORIZON), 0.0)])
    assert np.isnan(zeros.wql)
    assert np.isnan(zeros.mase)
    assert zeros.rmse > 0


def test_windows_without_a_scale_are_left_out_of_mase_alone() -> None:
    rng = np.random.default_rng(5)
    some = window_errors(random_forecast(rng), rng.normal(size=HORIZON), 2.0)
    none = window_errors(random_forecast(rng), rng.normal(size=HORIZON), float("nan"))
    both = combine([some, none])
    assert both.mase == combine([some]).mase
    assert (both.values, both.windows) == (2 * HORIZON, 2)


def test_levels_of_the_loss_need_not_be_deciles() -> None:
    levels = levels_needed([0.05, 0.5])
    values = np.repeat(np.array(levels)[:, None], 2, axis=1)
    forecast = QuantileForecast(levels, values, np.zeros(2))
    metrics = combine([window_errors(forecast, np.array([1.0, -1.0]), 1.0, [0.05, 0.5])])
    # By hand: pinball losses 0.05 x 0.95 and 0.5 x 0.5 at 1, 0.95 x 1.05 and 0.5 x 1.5 at -1.
    expected = 2 * (0.05 * 0.95 + 0.5 * 0.5 + 0.95 * 1.05 + 0.5 * 1.5) / 2 / 2
    np.testing.assert_allclose(metrics.wql, expected)
