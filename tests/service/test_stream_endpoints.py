"""Streams over HTTP: the numbers are those of `laglite.Stream`; how many, how long, and no more."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from laglite import Forecaster, Stream
from laglite.errors import LagliteError
from laglite.service.problems import RefusalError
from laglite.service.streams import StreamRegistry
from tests.service.conftest import Serve, as_array, metric, problem

Values = list[float | None]
TIMES = {"start": "2024-01-01", "freq": "D"}


def opened(client: httpx.Client, history: Values, **options: Any) -> str:
    response = client.post("/streams", json={"history": history, **options})
    assert response.status_code == 201, response.text
    found = response.json()
    assert response.headers["location"] == f"streams/{found['id']}"
    return str(found["id"])


def push(client: httpx.Client, stream: str, values: Values, **more: Any) -> httpx.Response:
    return client.post(f"/streams/{stream}/values", json={"values": values, **more})


def test_values_are_judged_as_by_a_stream_of_the_library(
    client: httpx.Client, nano: Forecaster, series: Values
) -> None:
    stream = opened(client, series[:100], **TIMES, refresh=20, alarm_rate=0.2, adaptive=True)
    own = nano.stream(as_array(series[:100]), **TIMES, refresh=20, alarm_rate=0.2, adaptive=True)
    for part in (series[100:101], series[101:130], [None], series[131:150]):
        answer = push(client, stream, part, quantiles=[0.05, 0.95]).json()
        for found, value in zip(answer["updates"], as_array(part), strict=True):
            update = own.update(float(value))
            expected = [update.value, update.cdf, update.log_prob]
            given = as_array([found["value"], found["cdf"], found["log_prob"]])
            np.testing.assert_array_equal(given, expected)
            assert found["outside"] == update.outside
        assert list(answer["next"]["quantiles"].values()) == own.quantiles([0.05, 0.95]).tolist()
        assert answer["stream"]["alarm_level"] == own.alarm_level
    assert answer["next"]["timestamp"] == "2024-05-30"
    assert answer["stream"]["next_timestamp"] == "2024-05-30"
    assert answer["stream"]["values"], answer["stream"]["missing"] == (50, 1)
    asked = {"horizon": 4, "seed": 3, "samples": 8, "include_samples": True}
    (found,) = client.post(f"/streams/{stream}/forecast", json=asked).json()["forecasts"]
    forecast = own.forecast(4, seed=3, num_samples=8)
    np.testing.assert_array_equal(np.float32(found["samples"]), forecast.samples)
    assert found["timestamps"][0] == "2024-05-30"


def test_a_stream_may_begin_with_nothing_be_reset_and_deleted(
    client: httpx.Client, nano: Forecaster
) -> None:
    stream = opened(client, [], warm_up=3)
    first = push(client, stream, [1.0, 2.0]).json()
    assert first["next"] is None
    assert first["updates"][0] == {"value": 1, "cdf": None, "log_prob": None, "outside": False}
    assert push(client, stream, [3.0]).json()["next"]["timestamp"] is None
    state = client.get(f"/streams/{stream}").json()
    assert (state["values"], state["ready"], state["model"]) == (3, True, "nano")
    assert client.post(f"/streams/{stream}/reset").json()["values"] == 0
    assert push(client, stream, [1.0, 2.0]).json() == first
    assert client.delete(f"/streams/{stream}").status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/reset")):
        found = problem(client.request(method, f"/streams/{stream}{path}"), 404, "not-found")
        assert "no stream" in found["detail"]
    problem(push(client, stream, [1.0]), 404, "not-found")


def test_a_value_that_is_refused_leaves_the_stream_where_it_was(
    client: httpx.Client, series: Values
) -> None:
    stream = opened(client, series[:50])
    found = problem(push(client, stream, [1.0, 1e39]), 422, "invalid-input")
    assert found["field"] == "values.1"
    assert client.get(f"/streams/{stream}").json()["values"] == 0
    found = problem(push(client, stream, [1.0], quantiles=[0]), 422, "invalid-input")
    assert found["field"] == "quantiles.0"


def test_values_after_the_last_year_are_refused_before_any_is_taken(client: httpx.Client) -> None:
    stream = opened(client, [1, 2, 3], start="9999-12-25", freq="D")
    found = problem(push(client, stream, [4, 5, 6, 7]), 422, "invalid-input")
    assert "outside the years 1 to 9999" in found["detail"]
    assert client.get(f"/streams/{stream}").json()["values"] == 0
    assert push(client, stream, [4, 5, 6]).json()["next"]["timestamp"] == "9999-12-31"


def test_values_are_answered_though_the_model_has_no_number_for_the_next(
    client: httpx.Client, series: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise LagliteError("counts that cannot be told apart")

    stream = opened(client, series[:50])
    monkeypatch.setattr(Stream, "quantiles", fail)
    answer = push(client, stream, [20.0], quantiles=[0.1, 0.9]).json()
    assert answer["next"]["quantiles"] == {"0.1": None, "0.9": None}
    assert answer["stream"]["values"] == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"alarm_rate": 0.6}, "alarm_rate"),
        ({"refresh": 0}, "refresh"),
        ({"horizon": 1001}, "horizon"),
        ({"context": 4097}, "context"),
        ({"refresh": 4097}, "refresh"),
        ({"model": "x"}, "model"),
        ({"start": "2024-01-01"}, "body"),
        ({"refresh": 2000}, None),
    ],
)
def test_a_stream_that_cannot_be_is_refused(
    client: httpx.Client, options: dict[str, Any], field: str | None
) -> None:
    response = client.post("/streams", json={"history": [1, 2, 3], **options})
    assert response.status_code == 422
    assert response.json()["field"] == field


def test_the_number_of_streams_and_of_values_at_once_is_limited(
    serve: Serve, series: Values
) -> None:
    service = serve(streams=2, stream_values=3)
    first, _ = opened(service.client, series[:20]), opened(service.client, [])
    response = service.client.post("/streams", json={})
    found = problem(response, 429, "too-many-streams")
    assert found["limit"] == 2
    assert 0 < int(response.headers["retry-after"]) <= 3600
    found = problem(push(service.client, first, [1.0] * 4), 422, "over-limit")
    assert (found["field"], found["limit"]) == ("values", 3)
    assert metric(service, "laglite_streams") == 2
    service.client.delete(f"/streams/{first}")
    opened(service.client, [])


def test_an_idle_stream_ends_and_a_used_one_does_not(nano: Forecaster) -> None:
    now = [0.0]
    registry = StreamRegistry(2, 10.0, lambda: now[0])
    idle, used = (registry.hold("nano", Stream.restore(nano, nano.stream().state())) for _ in "ab")
    now[0] = 8.0
    with pytest.raises(RefusalError, match="ends in 2 s"):
        registry.check_room()
    assert registry.get(used.id) is used
    now[0] = 11.0
    assert len(registry) == 1
    with pytest.raises(RefusalError, match="was not used for 10 s"):
        registry.get(idle.id)
    assert registry.get(used.id) is used
    now[0] = 22.0
    assert len(registry) == 0
