"""Requests that wait together are forecast together, and none of them can tell."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from laglite import Forecast, Forecaster
from laglite.service import batching
from tests.service.conftest import (
    PATIENCE,
    Serve,
    ServiceThread,
    as_array,
    metric,
    problem,
    wait_until,
)

Values = list[float | None]
Post = Callable[[dict[str, Any]], "Future[httpx.Response]"]


class HeldForecaster(Forecaster):
    """A forecaster that waits until it is let go, and notes how many series came at once."""

    def __init__(self, forecaster: Forecaster) -> None:
        super().__init__(forecaster.bundle, forecaster.backend, 1)
        self.go, self.calls = threading.Event(), list[int]()

    def predict_batch(self, targets: Sequence[Any], **options: Any) -> list[Forecast]:
        self.calls.append(len(targets))
        assert self.go.wait(PATIENCE)
        return super().predict_batch(targets, **options)


@pytest.fixture
def held(nano: Forecaster) -> HeldForecaster:
    return HeldForecaster(nano)


@pytest.fixture
def senders() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def sender(service: ServiceThread, senders: ThreadPoolExecutor) -> Post:
    return lambda asked: senders.submit(service.client.post, "/forecast", json=asked)


def asking(values: Values, seed: int, **more: Any) -> dict[str, Any]:
    return {
        "series": [{"values": values, "start": "2024-01-01", "freq": "D"}],
        "horizon": 3,
        "samples": 8,
        "seed": seed,
        "include_samples": True,
    } | more


def kept_busy(
    serve: Serve,
    held: HeldForecaster,
    senders: ThreadPoolExecutor,
    series: Values,
    **limits: int,
) -> tuple[ServiceThread, Post, Future[httpx.Response]]:
    """A service that computes a first request until `held` lets it go, so that others wait."""
    service = serve({"nano": held}, **limits)
    post = sender(service, senders)
    first = post(asking(series, 0))
    wait_until(lambda: held.calls == [1])
    return service, post, first


def test_what_waits_together_is_forecast_by_one_call_with_the_numbers_it_has_alone(
    serve: Serve,
    held: HeldForecaster,
    senders: ThreadPoolExecutor,
    nano: Forecaster,
    series: Values,
) -> None:
    service = serve({"nano": held})
    post = sender(service, senders)
    histories = {seed: series[: 60 + 7 * seed] for seed in range(9)}
    answers = {0: post(asking(histories[0], 0))}
    wait_until(lambda: held.calls == [1])
    answers |= {seed: post(asking(histories[seed], seed)) for seed in range(1, 9)}
    wait_until(lambda: metric(service, "laglite_queue_requests") == 8)
    held.go.set()
    for seed, answer in answers.items():
        alone = nano.predict(
            as_array(histories[seed]), horizon=3, num_samples=8, seed=seed, start="2024-01-01",
            freq="D",
        )  # fmt: skip
        (found,) = answer.result().json()["forecasts"]
        np.testing.assert_array_equal(np.float32(found["samples"]), alone.samples)
        np.testing.assert_array_equal(np.float32(found["mean"]), alone.mean)
    assert held.calls == [1, 8]
    assert metric(service, "laglite_batch_requests_sum") == 9
    assert metric(service, "laglite_batch_requests_count") == 2


@pytest.mark.parametrize("limit", [{"draws": 72}, {"steps": 9}])  # three of 8 x 3, of 3
def test_other_horizons_wait_for_the_next_call_and_large_batches_are_divided(
    serve: Serve,
    held: HeldForecaster,
    senders: ThreadPoolExecutor,
    series: Values,
    limit: dict[str, int],
) -> None:
    service, post, first = kept_busy(serve, held, senders, series, **limit)
    answers = [first]
    for place, horizon in enumerate((3, 2, 3, 3, 3), 1):
        answers.append(post(asking(series, place, horizon=horizon)))
        wait_until(lambda: metric(service, "laglite_queue_requests") == place)  # noqa: B023
    held.go.set()
    assert [one.result().status_code for one in answers] == [200] * 6
    assert held.calls == [1, 3, 1, 1]


def test_a_request_that_cannot_be_forecast_spoils_no_other(
    serve: Serve, held: HeldForecaster, senders: ThreadPoolExecutor, series: Values
) -> None:
    service, post, first = kept_busy(serve, held, senders, series)
    good = [post(asking(series, seed)) for seed in (1, 2)]
    bad = asking(series, 3)
    bad["series"][0]["covariates"] = [[1.0]] * (len(series) + 3)
    refused = post(bad)
    wait_until(lambda: metric(service, "laglite_queue_requests") == 3)
    held.go.set()
    assert [one.result().status_code for one in (first, *good)] == [200] * 3
    found = problem(refused.result(), 422, "invalid-input")
    assert "trained without any" in found["detail"]


def test_what_clients_asked_that_have_gone_is_given_up(
    serve: Serve, held: HeldForecaster, senders: ThreadPoolExecutor, series: Values
) -> None:
    service, post, first = kept_busy(serve, held, senders, series)
    content = json.dumps(asking(series, 1)).encode()
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(
            b"POST /forecast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
        )
        wait_until(lambda: metric(service, "laglite_queue_requests") == 1)
    wait_until(lambda: metric(service, "laglite_requests_in_flight") == 1)
    second = post(asking(series, 2))
    wait_until(lambda: metric(service, "laglite_queue_requests") == 2)
    held.go.set()
    assert [one.result().status_code for one in (first, second)] == [200, 200]
    assert held.calls == [1, 1]
    assert 'endpoint="/forecast",method="POST",status="499"' in service.client.get("/metrics").text


def test_a_failing_model_is_an_error_of_the_service_and_the_next_request_works(
    serve: Serve, held: HeldForecaster, series: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> list[Forecast]:
        raise RuntimeError("as if something were wrong")

    service = serve({"nano": held})
    held.go.set()
    with monkeypatch.context() as patch:
        patch.setattr(held, "predict_batch", fail)
        found = problem(service.client.post("/forecast", json=asking(series, 0)), 500, "internal")
        assert "as if" not in str(found)
    assert service.client.post("/forecast", json=asking(series, 0)).status_code == 200


def test_more_requests_than_admitted_are_told_to_come_again(
    serve: Serve, held: HeldForecaster, senders: ThreadPoolExecutor, series: Values
) -> None:
    service = serve({"nano": held}, requests=3)
    post = sender(service, senders)
    admitted = [post(asking(series, seed)) for seed in range(3)]
    wait_until(lambda: metric(service, "laglite_requests_in_flight") == 3)
    refused = post(asking(series, 3)).result()
    found = problem(refused, 503, "overloaded")
    assert refused.headers["retry-after"] == "2"
    assert "3 requests are waiting" in found["detail"]
    health = service.client.get("/health")
    assert health.status_code == 503
    assert health.json() == {"live": True, "ready": False, "detail": "3 requests wait"}
    assert service.client.get("/health/live").status_code == 200
    held.go.set()
    assert [one.result().status_code for one in admitted] == [200] * 3
    wait_until(lambda: service.client.get("/health").status_code == 200)
    assert post(asking(series, 3)).result().status_code == 200


def test_bodies_of_more_bytes_than_are_held_together_are_told_to_come_again(
    serve: Serve, held: HeldForecaster, senders: ThreadPoolExecutor, series: Values
) -> None:
    size = len(json.dumps(asking(series, 0), separators=(",", ":")))
    service = serve({"nano": held}, body=2 * size, bodies=2 * size + size // 2)
    post = sender(service, senders)
    admitted = [post(asking(series, seed)) for seed in range(2)]
    wait_until(lambda: service.app.state.service.admission.held_bytes == 2 * size)
    content = json.dumps(asking(series, 3)).encode()
    for sent in (content, iter([content[:size], content[size:]])):  # announced, or not
        refused = service.client.post(
            "/forecast", content=sent, headers={"Content-Type": "application/json"}
        )
        found = problem(refused, 503, "overloaded")
        assert f"more than {2 * size + size // 2:,} bytes" in found["detail"]
        assert refused.headers["retry-after"] == "2"
    held.go.set()
    assert [one.result().status_code for one in admitted] == [200] * 2
    wait_until(lambda: service.app.state.service.admission.held_bytes == 0)
    assert post(asking(series, 3)).result().status_code == 200


def test_a_request_that_has_waited_too_long_is_refused_instead_of_computed(
    serve: Serve,
    held: HeldForecaster,
    senders: ThreadPoolExecutor,
    series: Values,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, post, first = kept_busy(serve, held, senders, series)
    second = post(asking(series, 1))
    wait_until(lambda: metric(service, "laglite_queue_requests") == 1)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 31, perf_counter=time.perf_counter)
    monkeypatch.setattr(batching, "time", later)
    held.go.set()
    assert first.result().status_code == 200
    found = problem(second.result(), 503, "overloaded")
    assert "waited 30 s" in found["detail"]
    assert second.result().headers["retry-after"] == "2"
    assert held.calls == [1]
