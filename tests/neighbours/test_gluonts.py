"""The GluonTS predictor in GluonTS' own backtests and evaluators."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gluonts.dataset.common import ListDataset
from gluonts.dataset.pandas import PandasDataset
from gluonts.dataset.split import split
from gluonts.ev.metrics import MASE, RMSE, Coverage, MeanWeightedSumQuantileLoss
from gluonts.evaluation import Evaluator, backtest_metrics, make_evaluation_predictions
from gluonts.exceptions import GluonTSDataError, GluonTSUserError
from gluonts.model import evaluate_model
from gluonts.model.predictor import ParallelizedPredictor, Predictor
from numpy.typing import NDArray

from laglite import Forecaster
from laglite.adapters.gluonts import LagLitePredictor
from laglite.errors import BundleError, LagliteWarning
from laglite.evaluation import backtest
from laglite.evaluation.metrics import DECILES

DAYS = 7
START = pd.Period("1985-01-01", "D")


@pytest.fixture
def daily(births: NDArray[np.float64]) -> ListDataset:
    parts = births[:400], births[:150]
    entries = [{"start": START, "target": part, "item_id": f"p{n}"} for n, part in enumerate(parts)]
    return ListDataset(entries, freq="D")


@pytest.fixture
def predictor() -> LagLitePredictor:
    return LagLitePredictor(DAYS, "nano", num_samples=25, seed=1, threads=1)


def own_figures(dataset: ListDataset, windows: int) -> Any:
    """The same backtest by laglite."""
    return backtest(
        Forecaster.load("nano", threads=1),
        [entry["target"] for entry in dataset],
        horizon=DAYS, windows=windows, start="1985-01-01", freq="D", season=7,
        num_samples=25, seed=1,
    )  # fmt: skip


def test_gluonts_backtest_gives_the_figures_of_laglites_own(
    daily: ListDataset, predictor: LagLitePredictor
) -> None:
    evaluator = Evaluator(quantiles=[*DECILES, 0.025, 0.975], seasonality=7, num_workers=0)
    found, per_series = backtest_metrics(daily, predictor, evaluator, num_samples=25)
    own = own_figures(daily, 1)
    losses = [found[f"wQuantileLoss[{level}]"] for level in DECILES]
    assert np.mean(losses) == pytest.approx(own.model.wql, rel=1e-5)
    assert found["RMSE"] == pytest.approx(own.model.rmse, rel=1e-5)
    assert found["MASE"] == pytest.approx(own.model.mase, rel=1e-5)
    inside = found["Coverage[0.9]"] - found["Coverage[0.1]"]
    assert inside == pytest.approx(own.model.coverage[80], abs=1e-6)
    assert list(per_series["item_id"]) == ["p0", "p1"]
    for item, figures in zip(("p0", "p1"), per_series["MASE"], strict=True):
        (metrics, *_) = own.per_series[item[1:]].values()
        assert figures == pytest.approx(metrics.mase, rel=1e-5)


def test_evaluate_model_over_rolling_windows_agrees_too(
    daily: ListDataset, predictor: LagLitePredictor
) -> None:
    _, template = split(daily, offset=-3 * DAYS)
    metrics = [RMSE(), MASE(), MeanWeightedSumQuantileLoss(list(DECILES)), Coverage(0.9)]
    test_data = template.generate_instances(DAYS, windows=3)
    (row,) = evaluate_model(predictor, test_data=test_data, metrics=metrics, seasonality=7).to_dict(
        "records"
    )
    own = own_figures(daily, 3).model
    assert row["RMSE[mean]"] == pytest.approx(own.rmse, rel=1e-5)
    assert row["MASE[0.5]"] == pytest.approx(own.mase, rel=1e-5)
    assert row["mean_weighted_sum_quantile_loss"] == pytest.approx(own.wql, rel=1e-5)


def test_forecasts_are_laglites_with_periods_ids_and_missing_values(
    births: NDArray[np.float64],
) -> None:
    values = births[:200].copy()
    values[[20, 150, 199]] = np.nan
    dataset = ListDataset([{"start": START, "target": values, "info": {"a": 1}}], freq="D")
    predictor = LagLitePredictor(
        DAYS, "nano", seed=3, num_samples=20, context_length=32, nonnegative=True, threads=1
    )
    (found,) = predictor.predict(dataset)
    own = Forecaster.load("nano", threads=1).predict(
        values, horizon=DAYS, start="1985-01-01", freq="D", seed=3, num_samples=20,
        context_length=32, nonnegative=True,
    )  # fmt: skip
    np.testing.assert_array_equal(found.samples, own.samples)
    np.testing.assert_array_equal(found.mean, own.mean)
    np.testing.assert_array_equal(found.quantile("p90"), own.quantile(0.9))
    np.testing.assert_array_equal(found["0.25"], own.quantile(0.25))
    assert found.start_date == START + 200
    assert list(found.index.to_timestamp().to_numpy()) == list(own.index)
    assert (found.item_id, found.info, found.num_samples) == (None, {"a": 1}, 20)
    again = pickle.loads(pickle.dumps(found))  # as the evaluator's processes do
    np.testing.assert_array_equal(again.quantile(0.1), own.quantile(0.1))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of pandas, for periods of business days
@pytest.mark.parametrize("freq", ["h", "15min", "D", "B", "W-WED", "M", "Q-NOV", "Y-DEC"])
def test_periods_of_each_frequency_are_forecast_as_laglite_does(freq: str) -> None:
    start = pd.Period("2020-02-12", freq)
    values = np.random.default_rng(0).standard_normal(90).cumsum()
    predictor = LagLitePredictor(3, "nano", seed=1, num_samples=4, threads=1)
    (found,) = predictor.predict(ListDataset([{"start": start, "target": values}], freq=freq))
    own = Forecaster.load("nano", threads=1).predict(
        values.astype(np.float32), horizon=3, start=start, freq=freq, seed=1, num_samples=4
    )
    np.testing.assert_array_equal(found.samples, own.samples)
    assert found.start_date == start + 90
    assert found.start_date.freq == start.freq


def test_batches_and_their_size_change_nothing(daily: ListDataset) -> None:
    read: list[int] = []

    def entries() -> Iterator[Any]:
        for number, entry in enumerate(list(daily) * 2):
            read.append(number)
            yield entry

    one_by_one = LagLitePredictor(
        DAYS, "nano", num_samples=10, seed=1, batch_size=1, threads=1
    ).predict(entries())
    first = next(one_by_one)
    assert read == [0]
    together = LagLitePredictor(DAYS, "nano", num_samples=10, seed=1, threads=1)
    found = [first, *one_by_one]
    for one, other in zip(found, together.predict(entries()), strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_dynamic_features_are_the_covariates_of_a_model_that_has_some(
    with_covariates: Path,
) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        random.standard_normal((80, 3)), pd.period_range("2024-01-01", periods=80, freq="D"),
        ["target", "price", "promo"],
    )  # fmt: skip
    dataset = PandasDataset(frame, target="target", feat_dynamic_real=["price", "promo"])
    predictor = LagLitePredictor(5, with_covariates, num_samples=10, seed=2, threads=1)
    forecasts, actual = make_evaluation_predictions(dataset, predictor, num_samples=12)
    own = Forecaster.load(with_covariates, threads=1).predict(
        frame["target"][:75], horizon=5, start="2024-01-01", freq="D", seed=2,
        num_samples=12, covariates=frame[["price", "promo"]],
    )  # fmt: skip
    (found,) = forecasts
    np.testing.assert_array_equal(found.samples, own.samples)
    assert len(next(actual)) == 80


def test_features_that_a_model_has_no_use_for_are_left_out_with_a_warning(
    births: NDArray[np.float64], predictor: LagLitePredictor
) -> None:
    entry = {"start": START, "target": births[:100]}
    with_feature = {**entry, "feat_dynamic_real": np.zeros((1, 107))}
    with pytest.warns(LagliteWarning, match="feat_dynamic_real is left out.*'nano'"):
        (found,) = predictor.predict([with_feature])
    (plain,) = predictor.predict([entry])
    np.testing.assert_array_equal(found.samples, plain.samples)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"target": np.full(9, np.nan), "item_id": "a"}, "series 'a': target: all 9 values are"),
        (
            {"target": np.zeros((2, 9)), "item_id": None},
            "series '1': target: a series is 1-D, not of shape",
        ),
        ({"target": np.array(["x"])}, "series '1': target: values must be numbers"),
        ({"target": [np.inf, 1.0]}, "series '1': target: value 0 is inf"),
        ({"start": pd.Timestamp("2024-01-01"), "target": [1.0]}, "series '1': an entry needs"),
        ({}, "series '1': an entry needs a target, and a start that is a pandas Period"),
        ({"start": pd.Period("2024-01-01", "ns"), "target": [1.0]}, "frequency 'ns' is not known"),
    ],
)
def test_data_that_cannot_be_forecast_is_gluonts_data_error(
    predictor: LagLitePredictor, entry: dict[str, Any], message: str
) -> None:
    good = {"start": START, "target": np.arange(9.0)}
    with pytest.raises(GluonTSDataError, match=message):
        list(predictor.predict([good, {"start": START, **entry}]))


def test_covariates_of_another_shape_are_gluonts_data_error(with_covariates: Path) -> None:
    predictor = LagLitePredictor(5, with_covariates, threads=1)
    entry = {"start": START, "target": np.arange(9.0), "feat_dynamic_real": np.zeros((2, 9))}
    with pytest.raises(GluonTSDataError, match=r"shape \[14, 2\].*got shape \[9, 2\]"):
        list(predictor.predict([entry]))


def test_arguments_that_cannot_be_followed_are_gluonts_user_errors(
    with_few_positions: Path, predictor: LagLitePredictor
) -> None:
    with pytest.raises(GluonTSUserError, match="prediction_length must be a whole number"):
        LagLitePredictor(0)
    with pytest.raises(GluonTSUserError, match="context 16 and horizon 10 need 25 positions"):
        LagLitePredictor(10, with_few_positions)
    with pytest.raises(GluonTSUserError, match="backend 'gpu' is not known"):
        LagLitePredictor(10, backend="gpu")
    with pytest.raises(GluonTSUserError, match="predict takes num_samples alone, not lead_time"):
        list(predictor.predict([], lead_time=2))
    with pytest.raises(GluonTSUserError, match="seed must be a whole number, not 1.5"):
        LagLitePredictor(10, seed=1.5)
    with pytest.raises(GluonTSUserError, match="num_samples must be a whole number.*not 0"):
        list(predictor.predict([], num_samples=0))
    with pytest.raises(BundleError, match="nowhere: neither a model directory nor"):
        LagLitePredictor(10, "nowhere")
    with pytest.raises(BundleError, match="manifest.json: cannot be read; is .* a laglite bundle"):
        LagLitePredictor(10, Path(__file__).parent)


def test_a_shipped_model_is_serialised_by_its_name(
    daily: ListDataset, predictor: LagLitePredictor, tmp_path: Path
) -> None:
    predictor.serialize(tmp_path)
    assert json.loads((tmp_path / "laglite.json").read_text())["model"] == "nano"
    assert not (tmp_path / "bundle").exists()
    again = Predictor.deserialize(tmp_path)
    assert isinstance(again, LagLitePredictor)
    for one, other in zip(predictor.predict(daily), again.predict(daily), strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_a_bundle_is_serialised_with_the_predictor(
    with_few_positions: Path, tmp_path: Path
) -> None:
    predictor = LagLitePredictor(4, with_few_positions, seed=1, num_samples=6, threads=1)
    predictor.serialize(tmp_path)
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    again = Predictor.deserialize(moved, threads=2)
    entry = {"start": START, "target": np.arange(50.0)}
    (found,), (other,) = again.predict([entry]), predictor.predict([entry])
    np.testing.assert_array_equal(found.samples, other.samples)
    assert again.forecaster.bundle.path == moved / "bundle"
    (moved / "laglite.json").unlink()
    with pytest.raises(GluonTSUserError, match=r"laglite.json: cannot be read"):
        Predictor.deserialize(moved)


def test_a_predictor_is_serialised_again_to_the_same_folder(
    with_few_positions: Path, tmp_path: Path
) -> None:
    predictor = LagLitePredictor(np.int64(4), with_few_positions, seed=np.int64(1), threads=1)
    predictor.serialize(tmp_path)
    predictor.serialize(tmp_path)
    Predictor.deserialize(tmp_path).serialize(tmp_path)
    entry = {"start": START, "target": np.arange(50.0)}
    (found,) = Predictor.deserialize(tmp_path).predict([entry])
    (expected,) = predictor.predict([entry])
    np.testing.assert_array_equal(found.samples, expected.samples)


@pytest.mark.parametrize("content", ["[]", "{}", "{"])
def test_a_damaged_file_of_arguments_is_a_gluonts_user_error(
    predictor: LagLitePredictor, tmp_path: Path, content: str
) -> None:
    predictor.serialize(tmp_path)
    (tmp_path / "laglite.json").write_text(content)
    with pytest.raises(GluonTSUserError, match=r"laglite.json: cannot be read"):
        Predictor.deserialize(tmp_path)


def test_a_pickled_predictor_forecasts_alike_wherever_it_is_opened(
    with_few_positions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(with_few_positions.parent)
    predictor = LagLitePredictor(4, with_few_positions.name, num_samples=6, seed=1, threads=1)
    pickled = pickle.dumps(predictor)
    monkeypatch.chdir("/")
    entry = {"start": START, "target": np.arange(50.0)}
    (found,), (expected,) = pickle.loads(pickled).predict([entry]), predictor.predict([entry])
    np.testing.assert_array_equal(found.samples, expected.samples)


def test_worker_processes_of_gluonts_forecast_alike(
    daily: ListDataset, predictor: LagLitePredictor
) -> None:
    parallel = ParallelizedPredictor(predictor, num_workers=2)
    for one, other in zip(parallel.predict(daily), predictor.predict(daily), strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
