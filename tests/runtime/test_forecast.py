"""Forecast objects: what is read off the sample paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from laglite import Forecast, Forecaster
from laglite.errors import InputError
from laglite.frequency import parse_frequency

SAMPLES = np.random.default_rng(0).gamma(2.0, size=(37, 5)).astype(np.float32)


@pytest.fixture
def forecast() -> Forecast:
    start = np.datetime64("2024-01-31", "us")
    return Forecast(SAMPLES, start, parse_frequency("ME"), "sales")


@pytest.mark.parametrize("level", [0, 0.1, 0.5, 0.9, 1, "0.25", "p90"])
def test_quantiles_are_numpys(forecast: Forecast, level: Any) -> None:
    number = 0.9 if level == "p90" else float(level)
    expected = np.quantile(SAMPLES.astype(np.float64), number, axis=0)
    np.testing.assert_allclose(forecast.quantile(level), expected, rtol=1e-6)


def test_mean_median_and_interval_agree_with_the_samples(forecast: Forecast) -> None:
    np.testing.assert_allclose(forecast.mean, SAMPLES.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(forecast.median, np.median(SAMPLES, axis=0), rtol=1e-6)
    low, high = forecast.interval(0.8)
    np.testing.assert_array_equal(low, forecast.quantile(0.1))
    np.testing.assert_array_equal(high, forecast.quantile(0.9))


@pytest.mark.parametrize("level", [-0.1, 1.1, "p101", "high", None, float("nan")])
def test_a_level_outside_zero_to_one_is_refused(forecast: Forecast, level: Any) -> None:
    with pytest.raises(InputError, match="is not a number from 0 to 1"):
        forecast.quantile(level)


def test_a_coverage_outside_zero_to_one_is_refused(forecast: Forecast) -> None:
    with pytest.raises(InputError, match="coverage must be between 0 and 1"):
        forecast.interval(80)


def test_the_index_holds_the_time_of_each_step(forecast: Forecast) -> None:
    expected = pd.date_range("2024-01-31", periods=5, freq="ME")
    np.testing.assert_array_equal(forecast.index, expected.to_numpy())


def test_a_frame_has_a_row_a_step_and_a_column_a_quantile(forecast: Forecast) -> None:
    frame = forecast.to_frame(quantiles=(0.1, 0.5, 0.95))
    assert list(frame.columns) == ["mean", "0.1", "0.5", "0.95"]
    assert frame.index[0] == pd.Timestamp("2024-01-31")
    np.testing.assert_array_equal(frame["0.5"].to_numpy(), forecast.median)
    timeless = Forecast(SAMPLES, None, None).to_frame()
    assert list(timeless.index) == [1, 2, 3, 4, 5]


def test_a_frame_takes_levels_as_quantile_does(forecast: Forecast) -> None:
    frame = forecast.to_frame(quantiles=("p10", "0.5"))
    assert list(frame.columns) == ["mean", "0.1", "0.5"]
    np.testing.assert_array_equal(frame["0.1"].to_numpy(), forecast.quantile(0.1))


def test_forecasts_can_be_looked_for_and_counted(forecast: Forecast) -> None:
    other = Forecast(SAMPLES, None, None)
    assert forecast in [other, forecast]
    assert len({forecast, other, forecast}) == 2


@pytest.mark.parametrize(
    ("start", "months"),
    [
        ("2020-01-30", ["2021-01-30", "2021-02-28", "2021-03-30", "2021-04-30"]),
        ("2020-01-29", ["2021-01-29", "2021-02-28", "2021-03-29", "2021-04-29"]),
        ("2020-01-31", ["2021-01-31", "2021-02-28", "2021-03-31", "2021-04-30"]),
    ],
)
def test_months_keep_the_day_of_the_history_beyond_a_february(
    start: str, months: list[str]
) -> None:
    forecasts = [
        Forecaster.load("nano").predict(np.arange(length), horizon=4, start=start, freq="M", seed=0)
        for length in (12, 13)
    ]
    assert [str(day)[:10] for day in forecasts[0].index] == months
    assert [str(day)[:10] for day in forecasts[1].index[:3]] == months[1:]
    back = forecasts[1].times(-1, 2)
    assert [str(day)[:10] for day in back] == months[:2]


def test_levels_that_differ_have_columns_of_their_own(forecast: Forecast) -> None:
    frame = forecast.to_frame([0.5, 0.9999999, 0.99999999, 0.1 + 0.2])
    assert list(frame.columns) == ["mean", "0.5", "0.9999999", "0.99999999", "0.3"]
