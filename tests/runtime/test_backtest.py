"""Rolling origins: which windows there are, that nothing leaks, and what is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laglite import Forecaster
from laglite.errors import InputError
from laglite.evaluation import Backtest, backtest
from laglite.evaluation.backtest import (
    NAIVE,
    NAIVE_POINT,
    compare,
    from_samples,
    model_method,
    relative_wql,
)
from laglite.evaluation.metrics import DECILES, QuantileForecast, levels_needed
from laglite.evaluation.windows import Window, rolling_windows
from laglite.frequency import parse_frequency
from laglite.reading import InputSeries
from laglite.spec import ModelSpec
from laglite_train.model import LagLlama


def series(values: Sequence[float], name: str | None = "a", freq: str | None = None) -> InputSeries:
    step = None if freq is None else parse_frequency(freq)
    start = None if freq is None else np.datetime64("2024-01-01", "us")
    return InputSeries(name, np.asarray(values, np.float64), start, step)


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 5))
def test_windows_roll_back_by_the_horizon_and_the_last_ends_with_the_series(
    length: int, horizon: int, windows: int
) -> None:
    values = np.arange(length, dtype=np.float64)
    if length <= horizon:
        with pytest.raises(InputError, match="no series has observed values"):
            rolling_windows([series(values)], horizon, windows)
        return
    cut = rolling_windows([series(values)], horizon, windows)
    assert len(cut) == min(windows, (length - 1) // horizon)
    for back, window in enumerate(reversed(cut)):
        end = length - back * horizon
        np.testing.assert_array_equal(window.actual, values[end - horizon : end])
        np.testing.assert_array_equal(window.history, values[: end - horizon])


def test_each_series_has_the_season_of_its_frequency_unless_one_is_given() -> None:
    two = [series(range(9), "a", "h"), series(range(9), "b", "D")]
    assert [window.season for window in rolling_windows(two, 2)] == [24, 7]
    assert [window.season for window in rolling_windows(two, 2, season=3)] == [3, 3]


def test_series_with_too_few_windows_are_named() -> None:
    notes: list[str] = []
    many = [series(range(20), "long"), series(range(7), "short"), series([1, 2], "tiny")]
    many += [series([1] * 17 + [np.nan] * 3, "gone"), series([np.nan] * 18 + [1] * 2, "new")]
    cut = rolling_windows(many, 3, 3, note=notes.append)
    assert [window.item_id for window in cut] == ["long"] * 3 + ["short"] * 2 + ["gone"] * 2
    assert notes == [
        "left out, too few observed values for a window: tiny, new",
        "2 of 3 windows, too few observed values: short, gone",
    ]


def test_many_names_are_shortened() -> None:
    notes: list[str] = []
    tiny = [series([1], f"t{row}") for row in range(9)]
    rolling_windows([series(range(9), "long"), *tiny], 3, note=notes.append)
    assert notes == [
        "left out, too few observed values for a window: t0, t1, t2, t3, t4 and 4 more"
    ]


def test_series_without_a_name_are_called_by_their_place() -> None:
    cut = rolling_windows([series(range(9), None), series(range(9), None)], 2)
    assert [window.item_id for window in cut] == ["0", "1"]


def test_known_covariates_reach_to_the_end_of_each_window() -> None:
    known = np.arange(24.0)[:, None]
    one = InputSeries("a", np.arange(20.0), None, None, known)
    cut = rolling_windows([one], 3, 2)
    assert [len(window.covariates) for window in cut if window.covariates is not None] == [17, 20]


@pytest.mark.parametrize(
    ("many", "options", "message"),
    [
        ([], {}, "no series has observed values both in its last 2 steps and before them"),
        ([series([1, 2])], {}, "shorten the horizon, or give longer series"),
        ([series([np.nan] * 9)], {}, "no series has observed values"),
        ([series([1] * 9), series([1] * 9)], {}, "2 series are called 'a'; give each its own id"),
        ([series([1] * 8 + [1e39], "x")], {}, "'x': value 8 is 1e[+]39, beyond what float32"),
        ([series([1] * 9)], {"windows": 0}, "windows must be a whole number of at least 1"),
        ([series([1] * 9)], {"season": 0.5}, "season must be a whole number of at least 1"),
    ],
)
def test_bad_series_and_arguments_are_refused(
    many: list[InputSeries], options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        rolling_windows(many, 2, **options)


@pytest.mark.parametrize("levels", [(0.0, 0.5), (0.5, 1.0), ()])
def test_levels_without_a_finite_normal_quantile_are_refused(levels: tuple[float, ...]) -> None:
    cut = rolling_windows([series(range(9))], 2)
    with pytest.raises(InputError, match="quantiles must be between 0 and 1, not"):
        compare(cut, {}, levels)


def waves(count: int, length: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    steps = np.arange(length)
    return [
        np.sin(steps * 2 * np.pi / 7 + row) + 0.1 * rng.normal(size=length) + row
        for row in range(count)
    ]


def test_values_after_the_origin_do_not_change_a_forecast(tiny: Forecaster) -> None:
    levels, model = levels_needed(DECILES), model_method(tiny, None, 10, 0)

    def forecasts(values: np.ndarray) -> list[QuantileForecast]:
        return model(rolling_windows([series(values, freq="D")], 5, 2), levels)

    values = waves(1)[0]
    first, last = forecasts(values)
    after_last, after_first = values.copy(), values.copy()
    after_last[-5:] = 1e6
    after_first[-10:] = 0
    np.testing.assert_array_equal(forecasts(after_last)[0].values, first.values)
    np.testing.assert_array_equal(forecasts(after_last)[1].values, last.values)
    np.testing.assert_array_equal(forecasts(after_first)[0].values, first.values)
    assert not np.array_equal(forecasts(after_first)[1].values, last.values)  # they do reach it


@pytest.fixture(scope="module")
def measured(tiny: Forecaster) -> Backtest:
    return backtest(
        tiny, waves(3), horizon=4, windows=2, start="2024-01-01", freq="D", num_samples=20, seed=3
    )


def test_the_model_is_measured_beside_seasonal_naive(measured: Backtest, tiny: Forecaster) -> None:
    assert list(measured.overall) == [tiny.bundle.name, NAIVE, NAIVE_POINT]
    assert list(measured.per_series) == ["0", "1", "2"]
    assert (measured.model.windows, measured.model.values, measured.horizon) == (6, 24, 4)
    assert measured.relative_wql == measured.model.wql / measured.overall[NAIVE].wql
    assert relative_wql(measured.overall, NAIVE) == 1
    assert measured.overall[NAIVE_POINT].width == {50: 0, 80: 0, 95: 0}


def test_the_models_figures_are_those_of_its_own_forecasts(
    measured: Backtest, tiny: Forecaster
) -> None:
    values = waves(3)
    loss = total = squared = 0.0
    for one in values:
        for origin in (52, 56):
            forecast = tiny.predict(
                one[:origin], horizon=4, start="2024-01-01", freq="D", num_samples=20, seed=3
            )
            actual = one[origin : origin + 4]
            for level in DECILES:
                error = actual - forecast.quantile(level)
                loss += 2 * np.maximum(level * error, (level - 1) * error).sum() / 9
            total += np.abs(actual).sum()
            squared += ((forecast.mean - actual) ** 2).sum()
    np.testing.assert_allclose(measured.model.wql, loss / total, rtol=1e-6)
    np.testing.assert_allclose(measured.model.rmse, np.sqrt(squared / 24), rtol=1e-6)


def test_series_add_up_to_the_whole(measured: Backtest) -> None:
    for name, whole in measured.overall.items():
        parts = [metrics[name] for metrics in measured.per_series.values()]
        np.testing.assert_allclose(np.mean([p.mase for p in parts]), whole.mase)
        np.testing.assert_allclose(np.mean([p.rmse**2 for p in parts]), whole.rmse**2)
        np.testing.assert_allclose(np.mean([p.coverage[80] for p in parts]), whole.coverage[80])


def test_the_same_seed_repeats_the_figures(measured: Backtest, tiny: Forecaster) -> None:
    again = backtest(
        tiny, waves(3), horizon=4, windows=2, start="2024-01-01", freq="D", num_samples=20, seed=3
    )
    assert again == measured


def test_further_methods_are_measured_on_the_same_windows_with_progress() -> None:
    windows = rolling_windows([series(range(200), freq="D")], 2, 40)
    done: list[int] = []

    def truth(some: Sequence[Window], levels: Sequence[float]) -> list[QuantileForecast]:
        rows = [np.tile(window.actual, (len(levels), 1)) for window in some]
        return [QuantileForecast(tuple(levels), row, row[0]) for row in rows]

    result = compare(windows, {"truth": truth}, progress=done.append)
    assert (result.model.wql, result.relative_wql) == (0, 0)
    assert sum(done) == 3 * 40
    assert max(done) < 40


def test_a_context_length_is_passed_on(tiny: Forecaster) -> None:
    levels = levels_needed(DECILES)
    windows = rolling_windows([series(waves(1)[0], freq="D")], 3)
    short, usual = (model_method(tiny, context, 10, 0)(windows, levels) for context in (5, None))
    expected = tiny.predict(
        windows[0].history,
        horizon=3,
        start="2024-01-01",
        freq="D",
        context_length=5,
        num_samples=10,
        seed=0,
    )
    np.testing.assert_array_equal(short[0].values, from_samples(expected, levels).values)
    assert not np.array_equal(short[0].values, usual[0].values)


@pytest.fixture
def forecaster(small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path]) -> Forecaster:
    """A small model of one covariate."""
    torch.manual_seed(1)
    model = LagLlama(dataclasses.replace(small_spec, num_covariates=1))
    model.initialise()
    return Forecaster.load(export_to(model.eval(), "one_covariate"), threads=1)


def test_covariates_of_the_window_are_given_to_the_model(forecaster: Forecaster) -> None:
    values, known = waves(1)[0], np.random.default_rng(1).normal(size=(66, 1))
    window = rolling_windows([InputSeries("a", values, None, None, known)], 3)[0]
    levels = levels_needed(DECILES)
    ours = model_method(forecaster, None, 10, 0)([window], levels)[0]
    expected = forecaster.predict(
        values[:-3], horizon=3, covariates=known[:60], num_samples=10, seed=0
    )
    np.testing.assert_array_equal(ours.values, from_samples(expected, levels).values)
    result = backtest(forecaster, [values], horizon=3, covariates=[known], num_samples=10)
    assert result.model.values == 3
    with pytest.raises(InputError, match="covariate"):
        backtest(forecaster, [values], horizon=3, covariates=[known[:50]], num_samples=10)


def test_masked_covariates_count_as_missing(forecaster: Forecaster) -> None:
    values, known = waves(1)[0], np.random.default_rng(1).normal(size=(66, 1))
    hidden = np.zeros((66, 1), bool)
    hidden[50:57] = True  # in the history
    masked = np.ma.masked_array(np.where(hidden, 99.0, known), hidden)
    missing = np.where(hidden, np.nan, known)
    found, wanted = (
        backtest(forecaster, [values], horizon=3, covariates=[each], num_samples=10).model.wql
        for each in (masked, missing)
    )
    assert found == wanted


def test_a_series_that_is_no_series_is_named(tiny: Forecaster) -> None:
    with pytest.raises(InputError, match="'b': a series is 1-D"):
        backtest(tiny, [[1, 2, 3], [[1, 2]]], horizon=1, item_ids=["a", "b"])
    with pytest.raises(InputError, match="freq has 1 entries for 2 series"):
        backtest(tiny, [[1, 2, 3], [1, 2]], horizon=1, freq=["D"])


def test_relative_to_a_naive_without_loss_is_nan(tiny: Forecaster) -> None:
    flat = backtest(tiny, [np.ones(30)], horizon=3, start="2024", freq="D", num_samples=5)
    assert np.isnan(flat.relative_wql)
    assert np.isnan(flat.model.mase)
