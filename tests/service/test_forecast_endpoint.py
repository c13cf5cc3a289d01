"""`POST /forecast`, `POST /score` and `GET /models`: the numbers are those of the library."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from laglite import Forecaster
from laglite.service.schemas import ForecastRequest, ScoreRequest
from tests.service.conftest import Serve, as_array, problem

Values = list[float | None]
TIMES = {"start": "2024-01-01", "freq": "D"}


def test_a_forecast_is_that_of_the_library_with_the_same_seed(
    client: httpx.Client, nano: Forecaster, series: Values
) -> None:
    asked = {
        "series": [{"id": "shop", "values": series, **TIMES}],
        "horizon": 5,
        "quantiles": [0.05, 0.5, 0.95],
        "samples": 20,
        "seed": 7,
        "context": 32,
        "nonnegative": True,
        "include_samples": True,
    }
    answer = client.post("/forecast", json=asked).json()
    expected = nano.predict(
        as_array(series), horizon=5, num_samples=20, seed=7, context_length=32, nonnegative=True,
        **TIMES,
    )  # fmt: skip
    (found,) = answer["forecasts"]
    assert (answer["model"], answer["seed"], answer["horizon"]) == ("nano", 7, 5)
    assert found["id"] == "shop"
    assert found["timestamps"] == [f"2024-07-{day}" for day in (19, 20, 21, 22, 23)]
    np.testing.assert_array_equal(np.float32(found["samples"]), expected.samples)
    np.testing.assert_array_equal(np.float32(found["mean"]), expected.mean)
    assert list(found["quantiles"]) == ["0.05", "0.5", "0.95"]
    for level, values in found["quantiles"].items():
        np.testing.assert_array_equal(np.float32(values), expected.quantile(level))


def test_the_seed_of_an_answer_repeats_it(client: httpx.Client, series: Values) -> None:
    asked = {"series": [{"values": series}], "horizon": 2, "samples": 4}
    first, second = (client.post("/forecast", json=asked).json() for _ in range(2))
    assert first["seed"] != second["seed"]
    again = client.post("/forecast", json=asked | {"seed": first["seed"]}).json()
    assert again == first
    assert first["forecasts"][0]["timestamps"] is None


def test_many_series_come_back_in_their_order(
    client: httpx.Client, nano: Forecaster, series: Values
) -> None:
    lengths = {"a": 200, "b": 30, "c": 7}
    asked = {
        "series": [{"id": name, "values": series[:length]} for name, length in lengths.items()],
        "horizon": 3,
        "samples": 4,
        "seed": 1,
    }
    answer = client.post("/forecast", json=asked).json()
    assert [one["id"] for one in answer["forecasts"]] == list(lengths)
    for one, length in zip(answer["forecasts"], lengths.values(), strict=True):
        alone = nano.predict(as_array(series[:length]), horizon=3, num_samples=4, seed=1)
        np.testing.assert_array_equal(np.float32(one["mean"]), alone.mean)


def test_a_score_is_that_of_the_library(
    client: httpx.Client, nano: Forecaster, series: Values
) -> None:
    observed = [*series[150:153], None, *series[154:157]]
    asked = {"history": series[:150], "observed": observed, **TIMES}
    answer = client.post("/score", json=asked).json()
    expected = nano.score(as_array(series[:150]), as_array(observed), **TIMES)
    for name in ("cdf", "log_prob"):
        found = as_array(answer[name])
        np.testing.assert_array_equal(found, getattr(expected, name))
        assert answer[name][3] is None


def test_a_model_is_chosen_by_its_name(
    serve: Serve, nano: Forecaster, tiny: Forecaster, series: Values
) -> None:
    client = serve({"nano": nano, "tiny": tiny}).client
    asked = {"series": [{"values": series}], "horizon": 2, "samples": 4, "seed": 1}
    for name, forecaster in (("nano", nano), ("tiny", tiny)):
        answer = client.post("/forecast", json=asked | {"model": name}).json()
        expected = forecaster.predict(as_array(series), horizon=2, num_samples=4, seed=1)
        assert answer["model"] == name
        np.testing.assert_array_equal(np.float32(answer["forecasts"][0]["mean"]), expected.mean)
    assert client.post("/forecast", json=asked).json()["model"] == "nano"
    found = problem(client.post("/forecast", json=asked | {"model": "x"}), 422, "invalid-input")
    assert found["field"] == "model"
    assert found["detail"] == "no model 'x' is served here, but nano, tiny"
    listed = client.get("/models").json()
    assert [one["name"] for one in listed["models"]] == ["nano", "tiny"]
    assert listed["models"][0]["parameters"] == nano.spec.num_parameters
    assert listed["limits"]["horizon"] == 1000


def test_what_a_model_misses_is_said_in_the_answer(
    serve: Serve, tiny: Forecaster, series: Values
) -> None:
    client = serve({"tiny": tiny}).client
    asked = {"series": [{"values": series}], "horizon": 1, "samples": 2}
    (warning,) = client.post("/forecast", json=asked).json()["warnings"]
    assert "trained with calendar features" in warning
    asked["series"] = [{"values": series, **TIMES}]
    assert client.post("/forecast", json=asked).json()["warnings"] == []


@pytest.mark.parametrize(
    ("path", "model"), [("/forecast", ForecastRequest), ("/score", ScoreRequest)]
)
def test_the_documented_examples_work(
    client: httpx.Client, path: str, model: type[ForecastRequest] | type[ScoreRequest]
) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"][model.__name__]
    (example,) = schema["examples"]
    assert client.post(path, json=example).status_code == 200
