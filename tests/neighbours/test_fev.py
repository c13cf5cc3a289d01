"""The fev model on small local tasks, scored by fev."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fev
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from laglite import Forecaster
from laglite.adapters.fev import LagLiteModel
from laglite.errors import BundleError
from laglite.evaluation import backtest
from laglite.evaluation.metrics import DECILES
from laglite.evaluation.seasonal_naive import seasonal_naive

WEEK = 7
OPTIONS: dict[str, Any] = {"num_samples": 25, "seed": 1}
Make = Callable[..., fev.Task]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A task on a long table that is written as Parquet; datasets' cache is the test's own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def task(frame: pd.DataFrame, **settings: Any) -> fev.Task:
        path = tmp_path / "data.parquet"
        frame.to_parquet(path)
        given = {"horizon": WEEK, "seasonality": WEEK, "quantile_levels": list(DECILES)}
        return fev.Task(dataset_path=str(path), **{**given, **settings})

    return task


@pytest.fixture
def long(births: NDArray[np.float64]) -> pd.DataFrame:
    """Births of two stretches, the second with missing values."""
    parts = []
    for name, (first, end) in {"a": (0, 300), "b": (500, 700)}.items():
        values = births[first:end].copy()
        if name == "b":
            values[[3, 150]] = np.nan
        times = pd.date_range("1985-01-01", periods=end, freq="D")[first:]
        parts.append(pd.DataFrame({"id": name, "timestamp": times, "target": values}))
    return pd.concat(parts)


def model(**options: Any) -> LagLiteModel:
    return LagLiteModel(**{"model": "nano", "threads": 1, **OPTIONS, **options})


def test_fevs_scores_are_laglites_own(long: pd.DataFrame, make: Make) -> None:
    task = make(long, eval_metric="WQL", extra_metrics=["MASE"])
    one = model()
    summary = task.evaluation_summary(one.fit_predict(task), model_name=one.model_name)
    groups = [group for _, group in long.groupby("id")]
    own = backtest(
        Forecaster.load("nano", threads=1),
        [group["target"] for group in groups],
        horizon=WEEK, season=WEEK, freq="D", **OPTIONS,
        start=[group["timestamp"].iloc[0].to_pydatetime() for group in groups],
    ).model  # fmt: skip
    assert summary["test_error"] == pytest.approx(own.wql, rel=1e-6)
    assert summary["MASE"] == pytest.approx(own.mase, rel=1e-6)
    assert summary["num_forecasts"] == 2
    assert one.inference_time > 0
    assert one.training_time == 0


def test_it_beats_seasonal_naive_over_rolling_windows(long: pd.DataFrame, make: Make) -> None:
    task = make(long, eval_metric="WQL", num_windows=4)
    naive = []
    for window in task.iter_windows():
        past, _ = window.get_input_data()
        rows = [seasonal_naive(history, WEEK, WEEK, DECILES) for history in past["target"]]
        columns = [dict(zip(map(str, DECILES), row.values, strict=True)) for row in rows]
        naive.append(
            [{"predictions": row.mean, **each} for row, each in zip(rows, columns, strict=True)]
        )
    below = task.evaluation_summary(naive, model_name="seasonal naive")["test_error"]
    found = task.evaluation_summary(model().fit_predict(task), model_name="laglite")["test_error"]
    assert found < below


@pytest.mark.parametrize(
    ("metric", "at_mean"), [("MASE", False), ("RMSE", True), ({"name": "RMSSE"}, True)]
)
def test_point_forecasts_suit_the_metric(
    long: pd.DataFrame, make: Make, metric: Any, at_mean: bool
) -> None:
    task = make(long, eval_metric=metric)
    (found,) = model().fit_predict(task)
    first = long[long["id"] == "a"]
    own = Forecaster.load("nano", threads=1).predict(
        first["target"][:-WEEK], horizon=WEEK, start="1985-01-01", freq="D", **OPTIONS
    )
    np.testing.assert_array_equal(
        found["target"][0]["predictions"], own.mean if at_mean else own.median
    )
    np.testing.assert_array_equal(found["target"][0]["0.9"], own.quantile(0.9))


def test_several_targets_are_series_of_their_own(long: pd.DataFrame, make: Make) -> None:
    twice = long.assign(double=2 * long["target"])
    one, both = make(twice), make(twice, target=["target", "double"])
    (alone,), (found,) = model().fit_predict(one), model().fit_predict(both)
    assert sorted(found) == ["double", "target"]
    np.testing.assert_array_equal(found["target"]["0.5"], alone["target"]["0.5"])
    assert both.evaluation_summary([found], model_name="laglite")["num_forecasts"] == 4


def test_known_columns_are_the_covariates_of_a_model_that_has_some(
    with_covariates: Path, make: Make
) -> None:
    columns = np.random.default_rng(0).standard_normal((60, 3))
    frame = pd.DataFrame(columns, columns=["target", "price", "promo"])
    frame = frame.assign(id="a", timestamp=pd.date_range("2024-01-01", periods=60, freq="h"))
    task = make(frame, known_dynamic_columns=["promo", "price"])
    (found,) = model(model=with_covariates).fit_predict(task)
    own = Forecaster.load(with_covariates, threads=1).predict(
        columns[:-WEEK, 0], horizon=WEEK, start="2024-01-01", freq="h", covariates=columns[:, 1:],
        **OPTIONS,
    )  # fmt: skip
    np.testing.assert_array_equal(found["target"][0]["0.1"], own.quantile(0.1))
    few = make(frame, known_dynamic_columns=["price"])
    with pytest.raises(ValueError, match="1 known_dynamic_columns, but the model.*2 covariates"):
        model(model=with_covariates).fit_predict(few)
    text = make(frame.assign(price="cheap"), known_dynamic_columns=["price", "promo"])
    with pytest.raises(ValueError, match="could not convert string to float: .*cheap"):
        model(model=with_covariates).fit_predict(text)


def test_models_without_covariates_do_not_look_at_them(long: pd.DataFrame, make: Make) -> None:
    (plain,) = model().fit_predict(make(long))
    more = long.assign(price=1.0, past=2.0, kind="x")
    task = make(
        more, known_dynamic_columns=["price"], past_dynamic_columns=["past"],
        static_columns=["kind"],
    )  # fmt: skip
    (found,) = model().fit_predict(task)
    np.testing.assert_array_equal(found["target"]["0.5"], plain["target"]["0.5"])


def test_what_the_model_cannot_do_is_a_value_error(
    long: pd.DataFrame, with_few_positions: Path, make: Make
) -> None:
    with pytest.raises(ValueError, match="context 16 and horizon 10 need 25 positions"):
        model(model=with_few_positions).fit_predict(make(long, horizon=10))
    gone = long.assign(target=long["target"].where(long["id"] == "a"))
    with pytest.raises(ValueError, match="series 'b, target': target: all 193 values are missing"):
        model().fit_predict(make(gone))
    third = pd.DataFrame({"id": "a", "target": 1.0}, index=range(30))
    fridays = third.assign(timestamp=pd.date_range("2020-01-01", periods=30, freq="WOM-3FRI"))
    with pytest.raises(ValueError, match="frequency 'WOM-3FRI' is not known"):
        model().fit_predict(make(fridays))
    with pytest.raises(ValueError, match="num_samples must be a whole number"):
        model(num_samples=0)
    with pytest.raises(BundleError, match="nowhere: neither a model directory nor"):
        model(model="nowhere")


def test_fev_finds_the_model_by_its_name() -> None:
    assert fev.ForecastingModel.get_model_cls("laglite") is LagLiteModel
