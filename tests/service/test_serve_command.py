"""`laglite serve`: a process that starts, is said where to listen, and ends without loss."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from laglite import Forecaster
from laglite.cli import main
from laglite.errors import InputError
from laglite.service import server as server_module
from laglite.service.server import address, is_loopback, listen
from laglite.service.settings import Limits, read_token
from tests.service.conftest import PATIENCE, Serve, ServiceProcess, as_array, metric, wait_until

Values = list[float | None]
Start = Callable[..., ServiceProcess]


def test_the_command_serves_and_ends_by_sigterm_with_status_0(
    start_service: Start, nano: Forecaster, series: Values
) -> None:
    service = start_service("--max-horizon", "4", "--max-wait-seconds", "9.5")
    assert service.notes[0].startswith("laglite 0.1.0 serves nano at http://127.0.0.1:")
    with httpx.Client(base_url=service.url) as client:
        limits = client.get("/models").json()["limits"]
        assert (limits["horizon"], limits["wait_seconds"]) == (4, 9.5)
        asked = {"series": [{"values": series}], "horizon": 4, "seed": 5}
        (found,) = client.post("/forecast", json=asked).json()["forecasts"]
    expected = nano.predict(as_array(series), horizon=4, seed=5)
    assert found["mean"] == expected.mean.tolist()
    assert service.stop() == 0
    assert service.notes[1] == "every accepted request has been answered\n"


def test_sigterm_under_load_loses_no_accepted_request(start_service: Start, series: Values) -> None:
    """A request is accepted once its head has been read: `100 Continue` says so to its client."""
    count = 24
    patient = ("--max-wait-seconds", "600", "--max-body-seconds", "600")
    service = start_service("--max-requests", str(count), *patient)
    host, _, port = service.url.removeprefix("http://").partition(":")
    asked = {"series": [{"values": series}], "horizon": 24, "samples": 32}
    accepted = threading.Barrier(count + 1)

    def send(seed: int) -> tuple[int, int]:
        body = json.dumps(asked | {"seed": seed}).encode()
        head = (
            f"POST /forecast HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), PATIENCE) as connection:
            connection.sendall(head.encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
            accepted.wait()
            connection.sendall(body)
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        headers, _, content = answer.partition(b"\r\n\r\n")
        found = json.loads(content)
        assert len(found["forecasts"][0]["mean"]) == 24
        return int(headers.split()[1]), found["seed"]

    with ThreadPoolExecutor(count) as pool:
        answers = [pool.submit(send, seed) for seed in range(count)]
        accepted.wait()
        assert service.stop() == 0
        assert [one.result() for one in answers] == [(200, seed) for seed in range(count)]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), 5)


def test_sigint_twice_ends_it_early_and_refuses_what_waits(
    start_service: Start, series: Values
) -> None:
    service = start_service()
    asked = {"series": [{"values": series}] * 8, "horizon": 24, "samples": 500}
    host, _, port = service.url.removeprefix("http://").partition(":")

    def heard() -> bool:
        with socket.socket() as another:
            return another.connect_ex((host, int(port))) != 0

    client = httpx.Client(base_url=service.url, timeout=PATIENCE)
    with ThreadPoolExecutor(4) as pool, client:
        answers = [pool.submit(client.post, "/forecast", json=asked) for _ in range(4)]
        wait_until(lambda: "laglite_requests_in_flight 4.0" in client.get("/metrics").text)
        service.process.send_signal(signal.SIGINT)
        wait_until(heard)
        service.process.send_signal(signal.SIGINT)
        _, said = service.process.communicate(timeout=PATIENCE)
        statuses = {one.result().status_code for one in answers}
    assert service.process.returncode == 1
    assert "ended early" in said
    assert "has been answered" not in said
    assert "Traceback" not in said
    assert 503 in statuses <= {200, 503}


def test_a_client_that_reads_nothing_is_cut_off(
    serve: Serve, series: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "UNREAD_SECONDS", 0.2)
    service = serve()
    host, _, port = service.url.removeprefix("http://").partition(":")
    asked = {"series": [{"values": series}], "horizon": 250, "samples": 1000}
    content = json.dumps(asked | {"include_samples": True}).encode()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        deaf.sendall(
            b"POST /forecast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
        )
        wait_until(lambda: metric(service, "laglite_batch_requests_count") == 1)
        service.client.close()
        wait_until(lambda: not service.server.server_state.connections)


def test_a_port_in_use_is_said_and_so_are_wrong_hosts(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(main, ["serve", "--model", "nano", "--port", port])
    assert done.exit_code == 1
    assert f"cannot listen at 127.0.0.1, port {port} (Address already in use" in done.stderr
    with pytest.raises(InputError, match="cannot listen at 192.0.2.1"):
        listen("192.0.2.1", 0)
    with pytest.raises(InputError, match="cannot listen at ääää"):
        listen("ä" * 70, 0)


@pytest.mark.parametrize(("host", "alone"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_it_is_known_whether_others_can_reach_the_socket(host: str, alone: bool) -> None:
    with listen(host, 0) as bound:
        assert is_loopback(bound) == alone
        assert address(bound) == f"http://{host}:{bound.getsockname()[1]}"


def test_a_warning_is_given_where_others_can_reach_it_without_a_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from laglite.service import server

    monkeypatch.setattr(server, "run", lambda *_: True)
    command = ["serve", "--model", "nano", "--host", "0.0.0.0", "--port", "0"]
    assert "asks for no token" in CliRunner().invoke(main, command).stderr
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    done = CliRunner().invoke(main, [*command, "--token-file", str(token)])
    assert done.exit_code == 0
    assert "Warning" not in done.stderr
    assert "s3cret" not in done.output


def test_models_of_one_name_are_refused() -> None:
    done = CliRunner().invoke(main, ["serve", "--model", "nano", "--model", "nano"])
    assert done.exit_code == 1
    assert "two models are called 'nano'" in done.stderr


def test_a_token_comes_from_its_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAGLITE_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("LAGLITE_TOKEN", "of-the-environment")
    assert read_token(None) == "of-the-environment"
    file = tmp_path / "token"
    file.write_text("of-the-file\n")
    assert read_token(file) == "of-the-file"
    for wrong, message in (
        ("", "empty"), ("two words", "without spaces"), ("pässword", "ASCII"),
    ):  # fmt: skip
        file.write_text(wrong, encoding="latin-1")
        with pytest.raises(InputError, match=message):
            read_token(file)
    with pytest.raises(InputError, match=r"absent: the token cannot be read \(No such file"):
        read_token(tmp_path / "absent")


def test_a_limit_that_admits_nothing_is_refused() -> None:
    for name, value in (("horizon", 0), ("wait_seconds", -1.0), ("body_seconds", float("nan"))):
        with pytest.raises(InputError, match=f"--max-{name.replace('_', '-')} must be more than 0"):
            Limits(**{name: value})
    with pytest.raises(InputError, match="--max-bodies must be at least --max-body, 9, not 8"):
        Limits(body=9, bodies=8)
    done = CliRunner().invoke(main, ["serve", "--max-series", "0"])
    assert (done.exit_code, "--max-series" in done.stderr) == (1, True)


def test_without_the_extra_the_command_names_what_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("laglite.service.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    done = CliRunner().invoke(main, ["serve"])
    assert done.exit_code == 1
    assert "pip install 'laglite[serve]'" in done.stderr
    assert CliRunner().invoke(main, ["serve", "--help"]).exit_code == 0
