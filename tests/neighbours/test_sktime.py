"""The sktime forecaster: sktime's own conformance tests, and laglite's numbers behind its API."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sktime.forecasting.base import ForecastingHorizon
from sktime.forecasting.model_evaluation import evaluate
from sktime.performance_metrics.forecasting.probabilistic import PinballLoss
from sktime.split import ExpandingWindowSplitter
from sktime.utils.estimator_checks import check_estimator

from laglite import Forecaster
from laglite.adapters.sktime import LagLiteForecaster
from laglite.errors import BundleError

OPTIONS: dict[str, Any] = {"num_samples": 20, "seed": 1}
FH = [1, 3, 5]
INDICES = {
    "days": pd.date_range("2020-02-12", periods=100, freq="D"),
    "hours of a zone": pd.date_range("2020-02-12", periods=100, freq="h", tz="UTC"),
    "month starts": pd.date_range("2010-01-01", periods=100, freq="MS"),
    "weeks": pd.period_range("2020-02-12", periods=100, freq="W-WED"),
    "quarters": pd.period_range("2000-01-01", periods=100, freq="Q-NOV"),
    "two hours": pd.period_range("2020-02-12", periods=100, freq="2h"),
    "numbers": pd.RangeIndex(7, 107),
}


@pytest.fixture(scope="module")
def nano() -> Forecaster:
    return Forecaster.load("nano", threads=1)


def forecaster(**options: Any) -> LagLiteForecaster:
    return LagLiteForecaster(**{"model": "nano", "threads": 1, **OPTIONS, **options})


def series(index: Any) -> pd.Series:
    values = 100 + np.random.default_rng(0).standard_normal(len(index)).cumsum()
    return pd.Series(values, index, name="load")


@pytest.fixture
def daily(births: NDArray[np.float64]) -> pd.Series:
    return pd.Series(births[:300], pd.date_range("1985-01-01", periods=300, freq="D"))


@pytest.mark.filterwarnings("ignore")
def test_sktimes_conformance_tests_pass() -> None:
    results = check_estimator(LagLiteForecaster, verbose=False)
    assert len(results) > 700
    assert {name: found for name, found in results.items() if found != "PASSED"} == {}


@pytest.mark.filterwarnings("ignore")
def test_sktimes_conformance_tests_pass_for_a_model_with_covariates(with_covariates: Path) -> None:
    results = check_estimator(
        forecaster(model=with_covariates),
        tests_to_exclude="test_fit_predict",  # brings three covariates, the model has two
        verbose=False,
    )
    assert len(results) > 350
    assert {name: found for name, found in results.items() if found != "PASSED"} == {}


@pytest.mark.parametrize("kind", INDICES)
def test_forecasts_are_laglites_for_every_kind_of_index(nano: Forecaster, kind: str) -> None:
    index = INDICES[kind]
    y = series(index)
    fitted = forecaster().fit(y)
    axis = {} if kind == "numbers" else {"start": index[0], "freq": index.freqstr}
    own = nano.predict(y.to_numpy(), horizon=5, **axis, **OPTIONS)
    places = np.array(FH) - 1
    found = fitted.predict(fh=FH)
    np.testing.assert_array_equal(found, own.mean[places])
    expected = ForecastingHorizon(FH).to_absolute_index(fitted.cutoff)
    assert list(found.index) == list(expected)
    assert found.name == "load"
    quantiles = fitted.predict_quantiles(fh=FH, alpha=[0.1, 0.5])
    np.testing.assert_array_equal(quantiles["load", 0.1], own.quantile(0.1)[places])
    interval = fitted.predict_interval(fh=FH, coverage=0.8)["load", 0.8]
    low, high = own.interval(0.8)
    np.testing.assert_allclose(interval["lower"], low[places], rtol=1e-6)
    np.testing.assert_allclose(interval["upper"], high[places], rtol=1e-6)


@pytest.mark.parametrize("first", ["2020-03-20", "2020-10-20"])
@pytest.mark.parametrize("freq", ["h", "D"])
def test_hours_run_on_and_days_follow_the_clock_where_a_zone_changes_it(
    nano: Forecaster, first: str, freq: str
) -> None:
    y = series(pd.date_range(first, periods=250, freq=freq, tz="Europe/Berlin"))
    frame = y.rename_axis("ds").rename("y").reset_index()
    own = nano.predict_df(frame, horizon=5, freq=freq, quantiles=[0.1], **OPTIONS)
    fitted = forecaster().fit(y)
    np.testing.assert_array_equal(fitted.predict(fh=FH), own["mean"][[0, 2, 4]])
    low = fitted.predict_quantiles(fh=FH, alpha=[0.1])["load", 0.1]
    np.testing.assert_array_equal(low, own["0.1"][[0, 2, 4]])


def test_a_horizon_may_be_time_differences(daily: pd.Series) -> None:
    fitted = forecaster().fit(daily)
    found = fitted.predict(fh=pd.to_timedelta(FH, unit="D"))
    pd.testing.assert_series_equal(found, fitted.predict(fh=FH), check_freq=False)


@pytest.mark.parametrize("kind", ["days", "weeks", "numbers"])
def test_a_gap_in_the_index_is_missing_values(nano: Forecaster, kind: str) -> None:
    index = INDICES[kind]
    y = series(index)
    left = y.drop(index[40:43])
    if kind == "days":
        assert left.index.freq is None
    holed = y.copy()
    holed.iloc[[40, 41, 42, 90]] = np.nan
    left.loc[index[90]] = np.nan
    axis = {} if kind == "numbers" else {"start": index[0], "freq": index.freqstr}
    own = nano.predict(holed.to_numpy(), horizon=2, **axis, **OPTIONS)
    fh: Any = [1, 2]
    if kind == "days":  # sktime does not count steps where an index has no frequency
        ahead = pd.date_range("2020-05-22", periods=2, freq="D")
        fh = ForecastingHorizon(ahead, is_relative=False, freq="D")
    found = forecaster().fit(left).predict(fh=fh)
    np.testing.assert_array_equal(found, own.mean)


def test_a_time_off_the_grid_is_a_value_error(daily: pd.Series) -> None:
    index = daily.index.to_series()
    index.iloc[50] += pd.Timedelta("3h")
    crooked = pd.Series(daily.to_numpy(), pd.DatetimeIndex(index))
    ahead = pd.date_range("1985-10-29", periods=1, freq="D")
    fh = ForecastingHorizon(ahead, is_relative=False, freq="D")
    with pytest.raises(ValueError, match="not regular: 1985-02-20 03:00:00 is not on the grid"):
        forecaster().fit(crooked).predict(fh=fh)


@pytest.mark.parametrize("index", [pd.RangeIndex(0, 60, 2), pd.Index([0, 1, 2, 10**9])])
def test_whole_numbers_that_are_no_steps_are_a_value_error(index: pd.Index) -> None:
    with pytest.raises(ValueError, match="a step of a whole-number index is 1"):
        forecaster().fit(series(index)).predict(fh=[1])


@pytest.mark.parametrize("update_params", [True, False])
def test_update_is_fitting_on_all_values_so_far(daily: pd.Series, update_params: bool) -> None:
    updated = forecaster().fit(daily[:200])
    before = updated.predict(fh=FH)
    updated.update(daily[195:230], update_params=update_params)
    updated.update(daily[232:250], update_params=update_params)
    again = forecaster().fit(pd.concat([daily[:230], daily[232:250]]).asfreq("D"))
    assert updated.cutoff[0] == daily.index[249]
    assert not before.equals(updated.predict(fh=FH))
    pd.testing.assert_series_equal(updated.predict(fh=FH), again.predict(fh=FH), check_freq=False)


def test_the_frequency_is_kept_where_an_update_leaves_a_gap(nano: Forecaster) -> None:
    y = series(pd.date_range("2020-02-12", periods=12, freq="B"))
    updated = forecaster().fit(y[:2])
    updated.update(y[10:])
    holed = y.copy()
    holed.iloc[2:10] = np.nan  # of a few rows, days would be guessed
    own = nano.predict(holed.to_numpy(), horizon=3, start=y.index[0], freq="B", **OPTIONS)
    np.testing.assert_array_equal(updated.predict(fh=[1, 3]), own.mean[[0, 2]])


def test_values_after_the_cutoff_are_not_looked_at(daily: pd.Series) -> None:
    fitted = forecaster().fit(daily)
    cv = ExpandingWindowSplitter(fh=[1, 2], initial_window=100, step_length=100)
    found = fitted.update_predict(daily, cv)  # goes back to before its first value
    for cutoff in (99, 199):
        column = found[daily.index[cutoff]].dropna()
        expected = forecaster().fit(daily[: cutoff + 1]).predict(fh=[1, 2])
        np.testing.assert_array_equal(column.to_numpy().ravel(), expected)


def test_sktimes_backtest_scores_the_quantiles(daily: pd.Series, nano: Forecaster) -> None:
    cv = ExpandingWindowSplitter(fh=range(1, 8), initial_window=280, step_length=7)
    found = evaluate(forecaster(), cv, daily, scoring=PinballLoss(alpha=[0.1, 0.9]))
    losses = []
    for end in (280, 287):
        own = nano.predict(
            daily[:end].to_numpy(), horizon=7, start="1985-01-01", freq="D", **OPTIONS
        )
        actual = daily[end : end + 7].to_numpy()
        both = [
            np.maximum(q * (actual - own.quantile(q)), (q - 1) * (actual - own.quantile(q)))
            for q in (0.1, 0.9)
        ]
        losses.append(np.mean(both))
    np.testing.assert_allclose(found["test_PinballLoss"], losses, rtol=1e-6)


def test_covariates_of_history_and_horizon_reach_the_model(with_covariates: Path) -> None:
    index = pd.period_range("2024-01-01", periods=60, freq="D")
    columns = np.random.default_rng(0).standard_normal((60, 2))
    known = pd.DataFrame(columns, index, ["price", "promo"])
    y = series(index)
    fitted = forecaster(model=with_covariates).fit(y[:50], X=known[:50])
    fitted.update(y[50:55], X=known[50:55])
    own = Forecaster.load(with_covariates, threads=1).predict(
        y[:55].to_numpy(), horizon=5, start=index[0], freq="D", covariates=known, **OPTIONS
    )
    found = fitted.predict(fh=[2, 5], X=known[55:])
    np.testing.assert_array_equal(found, own.mean[[1, 4]])
    assert fitted.get_tag("capability:exogenous")
    with pytest.raises(ValueError, match="covariate 0 of row 55 is missing.*must be known"):
        fitted.predict(fh=[2, 5], X=known.iloc[[56, 59]])
    turned = fitted.predict(fh=[2, 5], X=known.iloc[55:, ::-1])
    pd.testing.assert_series_equal(turned, found)
    with pytest.raises(ValueError, match="covariate 1 of row 55 is missing"):
        fitted.predict(fh=[5], X=known.iloc[55:, :1])
    one = forecaster(model=with_covariates).fit(y[:50], X=known.iloc[:50, :1])
    with pytest.raises(ValueError, match=r"expected numbers of shape \[51, 2\].*got .*\[51, 1\]"):
        one.predict(fh=[1], X=known.iloc[50:, :1])


def test_models_without_covariates_leave_x_out(daily: pd.Series) -> None:
    X = pd.DataFrame({"x": 1.0}, daily.index)
    fitted = forecaster().fit(daily[:280], X=X[:280])
    assert not fitted.get_tag("capability:exogenous")
    plain = forecaster().fit(daily[:280]).predict(fh=FH)
    pd.testing.assert_series_equal(fitted.predict(fh=FH, X=X[280:]), plain)


def test_horizons_in_sample_and_beyond_the_model_are_not_implemented(
    daily: pd.Series, with_few_positions: Path
) -> None:
    with pytest.raises(NotImplementedError, match="can not perform in-sample prediction"):
        forecaster().fit(daily).predict(fh=[0, 1])
    with pytest.raises(NotImplementedError, match="can not perform in-sample prediction"):
        forecaster().fit(daily).predict_interval(fh=[-1])
    short = forecaster(model=with_few_positions).fit(daily)
    assert len(short.predict(fh=[9])) == 1
    with pytest.raises(NotImplementedError, match="cannot: context 16 and horizon 10 need 25 pos"):
        short.predict(fh=[10])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number"),
        ({"context_length": 0}, "context_length must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
    ],
)
def test_wrong_arguments_are_value_errors(
    daily: pd.Series, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        forecaster(**options).fit(daily).predict(fh=[1])


def test_no_such_model_is_laglites_own_error() -> None:
    with pytest.raises(BundleError, match="nowhere: neither a model directory nor"):
        forecaster(model="nowhere")


def test_a_history_without_values_is_a_value_error() -> None:
    y = pd.Series(np.nan, pd.RangeIndex(30))
    with pytest.raises(ValueError, match="all 30 values are missing"):
        forecaster().fit(y).predict(fh=[1])


def test_an_index_too_short_to_tell_its_frequency_is_told_how_to_have_one() -> None:
    y = pd.Series([1.0, 2.0], pd.DatetimeIndex(["2024-01-01", "2024-01-02"]))
    with pytest.raises(ValueError, match=r"y: .* 2 times, which tell no .*: y\.asfreq\(\"D\"\)"):
        forecaster().fit(y).predict(fh=[1])
    assert len(forecaster().fit(y.asfreq("D")).predict(fh=[1])) == 1


def test_without_a_seed_one_fit_gives_one_forecast(daily: pd.Series) -> None:
    fitted = forecaster(seed=None).fit(daily)
    pd.testing.assert_series_equal(fitted.predict(fh=FH), fitted.predict(fh=FH))
    pd.testing.assert_frame_equal(
        fitted.predict_quantiles(fh=FH), pickle.loads(pickle.dumps(fitted)).predict_quantiles(fh=FH)
    )
    assert not forecaster(seed=None).fit(daily).predict(fh=FH).equals(fitted.predict(fh=FH))


def test_panels_are_forecast_series_by_series(daily: pd.Series) -> None:
    parts = {"a": daily[:200], "b": daily[50:250]}
    panel = pd.concat(parts, names=["id", "day"]).to_frame("births")
    found = forecaster().fit(panel).predict(fh=FH)
    for name, part in parts.items():
        alone = forecaster().fit(part).predict(fh=FH)
        np.testing.assert_array_equal(found.loc[name, "births"], alone)
