"""Whatever a client sends is answered by a result, or by a problem that says what is wrong."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from laglite.service.schemas import ForecastRequest, ScoreRequest, StreamRequest, StreamValues
from tests.service.conftest import PATIENCE, Serve, ServiceThread, metric, problem, wait_until

SERIES = {"values": [1, 2, 3, None, 5], "start": "2024-01-01", "freq": "D"}
JSON = {"Content-Type": "application/json"}


def body(**changes: Any) -> dict[str, Any]:
    return {"series": [SERIES], "horizon": 2, "samples": 2} | changes


def series_of(**changes: Any) -> dict[str, Any]:
    return body(series=[SERIES, SERIES | changes])


def raw(text: str) -> bytes:
    """A body in which `text` stands in place of the values."""
    return json.dumps(body(series=[{"values": "HERE"}])).replace('"HERE"', text).encode()


def exchange(service: ServiceThread, request: bytes) -> bytes:
    """What comes back for these bytes once the client sends no more."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


@pytest.mark.parametrize(
    ("changes", "field", "detail"),
    [
        (body(horizon=0), "horizon", "greater than or equal to 1"),
        (body(horizon=10**400), "horizon", "steps; this service allows 1,000"),
        (body(horizon=1.5), "horizon", "valid integer"),
        (body(horizon="2"), "horizon", "valid integer"),
        (body(horizon=True), "horizon", "valid integer"),
        (body(horizon=None), "horizon", "valid integer"),
        (body(series=[]), "series", "at least 1 item"),
        (body(series={}), "series", "valid list"),
        (body(quantiles=[1.5]), "quantiles.0", "less than or equal to 1"),
        (body(quantiles=[]), "quantiles", "at least 1 item"),
        (body(seed=-1), "seed", "greater than or equal to 0"),
        (body(seed=2**53), "seed", "less than or equal to 9007199254740991"),
        (body(context=2000, horizon=2), "horizon", "this model has 1024"),
        (body(context=int("9" * 4300)), "context", "tokens; this service allows 4,096"),
        (body(horizont=2), "horizont", "not permitted"),
        (series_of(values=[]), "series.1.values", "at least 1 item"),
        (series_of(values=[None, None]), "series.1.values", "all 2 values are missing"),
        (series_of(values=[1, "2"]), "series.1.values.1", "valid number"),
        (series_of(values=[1, True]), "series.1.values.1", "valid number"),
        (series_of(values=[1, [2]]), "series.1.values.1", "valid number"),
        (series_of(values=[1, 1e39]), "series.1.values.1", "less than or equal to"),
        (series_of(freq="fortnight"), "series.1.freq", "'fortnight' is not known"),
        (series_of(freq=None), "series.1", "start and freq go together"),
        (series_of(start="soon"), "series.1.start", "'soon' is not a timestamp"),
        (series_of(start="99999-01-01"), "series.1.start", "is not a timestamp"),
        (series_of(start="9999-12-26"), "series.1.freq", "outside the years 1 to 9999"),
        (series_of(freq="1000000YS"), "series.1.freq", "outside the years 1 to 9999"),
        (series_of(covariates=[[1]] * 7), None, "trained without any"),
        ([], "body", "valid dictionary"),
        (None, "body", "body: "),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_forecast_is_refused_with_the_field_that_is_wrong(
    client: httpx.Client, changes: Any, field: str | None, detail: str
) -> None:
    response = client.post("/forecast", content=json.dumps(changes), headers=JSON)
    kind = "over-limit" if "this service allows" in detail else "invalid-input"
    found = problem(response, 422, kind)
    assert found["field"] == field
    assert detail in found["detail"]


def test_a_body_is_needed(client: httpx.Client) -> None:
    for path in ("/forecast", "/score", "/streams"):
        found = problem(client.post(path, headers=JSON), 422, "invalid-input")
        assert found["detail"] == "body: Field required"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 400])
def test_values_that_are_no_finite_numbers_are_refused(client: httpx.Client, text: str) -> None:
    response = client.post("/forecast", content=raw(f"[1, {text}]"), headers=JSON)
    assert problem(response, 422, "invalid-input")["field"] == "series.0.values.1"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (raw("[1, 2"), "Expecting"),
        (raw("[1,, 2]"), "Expecting value"),
        (raw("[" * 100_000), "nested too deeply"),
        (raw("[" * 100_000 + "]" * 100_000), "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (raw("9" * 10_000), "4300 digits"),
        (b'{"series": "\xff\xfe"}', "not UTF-8 text"),
        (b'{"series": [{"values": [1]}], "horizon": 1, "horizon": 2}', "the key 'horizon' stands"),
        (raw('[1], "values": [2]'), "the key 'values' stands there twice"),
        (b"horizon=2", "Expecting value"),
        (b"\0", "Expecting value"),
    ],
    ids=lambda given: repr(given[:20]),
)
def test_what_is_not_json_is_refused(client: httpx.Client, content: bytes, detail: str) -> None:
    response = client.post("/forecast", content=content, headers=JSON)
    assert detail in problem(response, 400, "invalid-json")["detail"]


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        (ForecastRequest, body(series=[{}] * 1000)),
        (ForecastRequest, body(series=[1] * 1000)),
        (ForecastRequest, body() | dict.fromkeys(map(str, range(1000)))),
        (ForecastRequest, series_of(**dict.fromkeys(map(str, range(1000))))),
        (ForecastRequest, series_of(covariates=[""] * 1000)),
        (ForecastRequest, series_of(covariates=[[""] * 1000])),
        (ForecastRequest, body(quantiles=[2] * 1000)),
        (ScoreRequest, {"history": [""] * 1000, "observed": [""] * 1000}),
        (StreamRequest, {"history": [""] * 1000}),
        (StreamValues, {"values": [""] * 1000, "quantiles": [0] * 1000}),
    ],
)
def test_a_body_of_faults_alone_costs_no_error_for_each(
    model: type[BaseModel], asked: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(asked)
    assert caught.value.error_count() <= 2


def test_a_field_that_is_not_known_is_named_by_its_beginning(client: httpx.Client) -> None:
    for name, named in (("x" * 200, "x" * 200), ("x" * 100_000, "x" * 200 + "...")):
        found = problem(client.post("/forecast", json=body() | {name: 1}), 422, "invalid-input")
        assert found["field"] == found["errors"][0]["field"] == named
        assert len(found["detail"]) < 300


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "", None])
def test_another_content_type_is_refused(client: httpx.Client, media: str | None) -> None:
    headers = {} if media is None else {"Content-Type": media}
    response = client.post("/forecast", content=json.dumps(body()), headers=headers)
    found = problem(response, 415, "unsupported-media-type")
    assert "send application/json" in found["detail"]


def test_json_may_name_its_charset(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    response = client.post("/forecast", content=json.dumps(body()), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("limit", "asked", "field"),
    [
        ({"horizon": 1}, body(), "horizon"),
        ({"samples": 1}, body(), "samples"),
        ({"context": 9}, body(context=10), "context"),
        ({"series": 1}, body(series=[SERIES] * 2), "series"),
        ({"values": 4}, body(), "series.0.values"),
        ({"draws": 3}, body(), "horizon"),
        ({"steps": 1}, body(), "horizon"),
        ({"quantiles": 1}, body(quantiles=[0.1, 0.2]), "quantiles"),
    ],
)
def test_an_error_says_the_limit_that_was_passed(
    serve: Serve, limit: dict[str, int], asked: dict[str, Any], field: str
) -> None:
    service = serve(**limit)
    found = problem(service.client.post("/forecast", json=asked), 422, "over-limit")
    ((_, most),) = limit.items()
    assert (found["field"], found["limit"]) == (field, most)
    assert f"this service allows {most}" in found["detail"]


def test_a_body_beyond_the_limit_is_refused_whether_its_length_is_announced_or_not(
    serve: Serve,
) -> None:
    service = serve(body=1000)
    content = raw("[" + "1," * 500 + "1]")

    def pieces() -> Iterator[bytes]:
        for begin in range(0, len(content), 100):
            yield content[begin : begin + 100]

    for sent in (content, pieces()):
        response = service.client.post("/forecast", content=sent, headers=JSON)
        found = problem(response, 413, "too-large")
        assert found["limit"] == 1000
        assert "longer than 1,000 bytes" in found["detail"]
    counted = service.client.get("/metrics").text
    assert 'requests_total{endpoint="/forecast",method="POST",status="413"} 2.0' in counted
    assert service.client.post("/forecast", json=body()).status_code == 200


def test_a_body_that_is_sent_too_slowly_is_refused(serve: Serve) -> None:
    service = serve(body_seconds=0.2)
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(
            b"POST /forecast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"series":'
        )
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:laglite:problem:body-too-slow" in answer


def test_a_body_that_is_cut_off_harms_nothing(serve: Serve) -> None:
    service = serve(requests=1)
    head = b"POST /forecast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for rest in (
        b'Content-Length: 100\r\n\r\n{"series":',
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    ):
        answer = exchange(service, head + rest)
        assert not answer or re.match(rb"HTTP/1.1 4\d\d ", answer)
        wait_until(lambda: metric(service, "laglite_requests_in_flight") == 0)
        assert service.client.post("/forecast", json=body()).status_code == 200


def test_unknown_paths_and_methods_are_refused_in_the_same_shape(client: httpx.Client) -> None:
    problem(client.get("/nothing"), 404, "not-found")
    for path in ("/forecast/", "/health/"):  # no redirect to where the Host header says
        problem(client.post(path), 404, "not-found")
    response = client.put("/forecast", json=body())
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "POST"
    response = client.put("/streams/x", json={})
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "DELETE, GET"
    response = client.post("/openapi.json")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD"
    counted = client.get("/metrics").text
    assert 'endpoint="/streams/{stream_id}",method="PUT",status="405"' in counted
    assert 'endpoint="other",method="GET",status="404"' in counted


def test_monitors_may_ask_for_the_head_alone(client: httpx.Client) -> None:
    for path in ("/", "/health", "/health/live"):
        response = client.head(path)
        assert response.status_code == 200
        assert response.content == b""
        assert response.headers["content-length"] == client.get(path).headers["content-length"]


def test_a_token_is_asked_for_everywhere_but_on_the_page_and_for_health(serve: Serve) -> None:
    service = serve(token="s3cret-token")
    assert service.client.post("/forecast", json=body()).status_code == 200
    with httpx.Client(base_url=service.url) as stranger:
        for path in ("/", "/health", "/health/live"):
            assert stranger.get(path).status_code == 200
        paths = stranger.get("/openapi.json").status_code, service.client.get("/openapi.json")
        assert paths[0] == 401
        for path in (*paths[1].json()["paths"], "/nothing"):
            if not path.startswith("/health"):
                problem(stranger.get(path), 401, "unauthorized")
        for header in (
            "Bearer wrong",
            "Basic s3cret-token",
            "s3cret-token",
            "Bearer",
            "Bearer \xe9",
        ):
            response = stranger.post(
                "/forecast", json=body(), headers={"Authorization": header.encode("latin-1")}
            )
            problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == 'Bearer realm="laglite"'
        good = {"Authorization": "bearer s3cret-token"}
        assert stranger.post("/forecast", json=body(), headers=good).status_code == 200
