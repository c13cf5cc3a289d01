"""Fixtures of the service's tests: a client of an application, and a process with a socket."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from laglite import Forecaster
from laglite.service.app import Service, create_app
from laglite.service.server import address, listen, server
from laglite.service.settings import Limits

PATIENCE = 120.0  # seconds until a test gives up


Serve = Callable[..., "ServiceThread"]


@pytest.fixture(scope="session")
def nano() -> Forecaster:
    return Forecaster.load("nano", threads=1)


class ServiceThread:
    """An application served on loopback by a thread of this process."""

    def __init__(self, app: Service, token: str | None = None) -> None:
        self.app, self._bound = app, listen("127.0.0.1", 0)
        self.server = server(app)
        self._thread = threading.Thread(target=self.server.run, args=([self._bound],))
        self._thread.start()
        self.url = address(self._bound)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self._thread.join()
        self._bound.close()


@pytest.fixture
def serve(nano: Forecaster) -> Iterator[Serve]:
    """Serves applications with these limits and other settings."""
    running: list[ServiceThread] = []

    def start(
        forecasters: dict[str, Forecaster] | None = None, token: str | None = None, **limits: Any
    ) -> ServiceThread:
        app = create_app(forecasters or {"nano": nano}, limits=Limits(**limits), token=token)
        running.append(ServiceThread(app, token))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def client(serve: Serve) -> httpx.Client:
    return serve().client


@pytest.fixture
def series() -> list[float | None]:
    """Two hundred days with a week's season, one of them missing."""
    random = np.random.default_rng(0)
    days = np.arange(200)
    values: list[float | None] = (
        (20 + 5 * np.sin(days * 2 * np.pi / 7) + random.standard_normal(200)).round(3).tolist()
    )
    values[17] = None
    return values


def as_array(values: list[float | None]) -> NDArray[np.float64]:
    return np.array(values, np.float64)


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem that a response holds, which must be of this kind."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["type"] == f"urn:laglite:problem:{kind}"
    assert found["status"] == status
    assert found["title"]
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def metric(service: ServiceThread, name: str) -> float:
    """A figure of /metrics."""
    lines = service.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).split()[1])


class ServiceProcess:
    """`laglite serve` as a process of its own, on a free port of loopback."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "laglite", "serve", "--model", "nano", "--threads", "1",
             "--port", "0", *options],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.notes = [self.process.stderr.readline()]
        found = re.search(r"at (http://\S+)", self.notes[0])
        assert found is not None, self.notes[0] + self.process.stderr.read()
        self.url = found[1]

    def stop(self) -> int:
        """End it by SIGTERM; its status."""
        self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=PATIENCE)
        self.notes.append(rest)
        return self.process.returncode


@pytest.fixture
def start_service() -> Iterator[Callable[..., ServiceProcess]]:
    """Starts services that end with the test."""
    started: list[ServiceProcess] = []

    def start(*options: str) -> ServiceProcess:
        started.append(ServiceProcess(*options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()
