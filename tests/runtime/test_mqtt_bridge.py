"""The MQTT bridge with a real mosquitto broker on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt import publish
from paho.mqtt.client import Client

from laglite import Forecaster, LagliteError
from laglite.errors import BrokerError, InputError, MissingDependencyError
from laglite.streaming.interruption import Interruption
from laglite.streaming.mqtt_bridge import Broker, MqttBridge
from laglite.streaming.session import OutputSettings, Session, StreamSettings
from tests.mqtt_broker import PATIENCE, Mosquitto, Peer, wait_for, with_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    one = Mosquitto(tmp_path)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def peer(broker: Mosquitto) -> Iterator[Peer]:
    one = Peer(broker.port, "load")
    yield one
    one.close()


@pytest.fixture(scope="module")
def nano() -> Forecaster:
    return Forecaster.load("nano", threads=1)


@pytest.fixture
def session(nano: Forecaster) -> Session:
    return Session(nano, StreamSettings(warm_up=5), OutputSettings())


@contextmanager
def bridging(
    session: Session, port: int, save: Callable[[], None] | None = None
) -> Iterator[list[str]]:
    """A bridge in a thread; gives what it notes. What it raises is raised here."""
    notes: list[str] = []
    bridge = MqttBridge(
        session, Broker("127.0.0.1", port), "load", "load/forecast", notes.append, save
    )
    interruption, raised = Interruption(), []

    def run() -> None:
        try:
            bridge.run(interruption)
        except LagliteError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(lambda: bool(notes) or not thread.is_alive(), "bridge")
        yield notes
    finally:
        interruption.asked = True
        thread.join()
    for error in raised:
        raise error


@with_broker
def test_results_are_those_of_the_messages_in_order(
    broker: Mosquitto, peer: Peer, session: Session, nano: Forecaster
) -> None:
    values = np.random.default_rng(0).standard_normal(30).round(3).tolist()
    with bridging(session, broker.port):
        peer.send(values)
        wait_for(lambda: len(peer.results) >= 30, "results")
    other = Session(nano, StreamSettings(warm_up=5), OutputSettings())
    assert peer.results == [other.take(str(value).encode()) for value in values]


@with_broker
def test_a_broker_that_restarts_loses_nothing_and_no_value_is_taken_twice(
    broker: Mosquitto, peer: Peer, session: Session
) -> None:
    values = [number + 0.5 for number in range(400)]
    with bridging(session, broker.port) as notes:
        peer.send(values[:150])
        wait_for(lambda: len(peer.results) > 50, "results")
        broker.stop()
        peer.send(values[150:])  # kept by the client until the broker is back
        wait_for(lambda: any("trying again" in note for note in notes), "note")
        broker.start()
        wait_for(lambda: peer.values() >= set(values), "results of all values")
    assert session.counts.lines == 400
    numbers = {one["n"]: one for one in peer.results}
    assert all(one == numbers[one["n"]] for one in peer.results)
    assert sum("connected" in note for note in notes) == 2


@with_broker
def test_a_broker_that_is_not_there_yet_is_waited_for(tmp_path: Path, session: Session) -> None:
    broker = Mosquitto(tmp_path)
    with bridging(session, broker.port) as notes:
        wait_for(lambda: len(notes) >= 2, "second attempt")
        assert "Connection refused; trying again in 0.5 s" in notes[0]
        assert "trying again in 1 s" in notes[1]
        broker.start()
        wait_for(lambda: "connected" in notes[-1], "connection")
        broker.stop()


@with_broker
def test_nothing_is_acknowledged_before_the_state_is_saved(
    broker: Mosquitto, peer: Peer, session: Session, nano: Forecaster
) -> None:
    def full() -> None:
        raise InputError("state.json: cannot be written (No space left on device)")

    def serve_until_full() -> None:
        with bridging(session, broker.port, full):
            peer.send([1.0, 2.0, 3.0])
            wait_for(lambda: peer.values() == {1.0, 2.0, 3.0}, "results")
            time.sleep(0.3)

    with pytest.raises(InputError, match="No space left"):
        serve_until_full()
    saved: list[int] = []
    again = Session(nano, StreamSettings(warm_up=5), OutputSettings())
    with bridging(again, broker.port, lambda: saved.append(again.counts.lines)):
        wait_for(lambda: saved[-1:] == [3], "state")  # perhaps in several steps
    third = Session(nano, StreamSettings(warm_up=5), OutputSettings())
    with bridging(third, broker.port):
        peer.send([4.0])
        wait_for(lambda: 4.0 in peer.values(), "result")
    assert third.counts.lines == 1  # the others were acknowledged


@with_broker
def test_a_killed_bridge_goes_on_from_its_state(
    broker: Mosquitto, peer: Peer, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "laglite", "stream", "--model", "nano", "--threads", "1"]
    command += ["--warm-up", "5", "--mqtt", f"127.0.0.1:{broker.port}", "--topic", "load"]
    command += ["--state", str(tmp_path / "state.json")]
    values = [number + 0.5 for number in range(300)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    peer_ready = [value - 1000 for value in values[:1]]
    while not peer.results:  # until the bridge has subscribed
        peer.send(peer_ready)
        time.sleep(0.2)
    peer.send(values)
    wait_for(lambda: len(peer.results) > 100, "results")
    first.kill()
    first.wait()
    second = subprocess.Popen(command, stderr=subprocess.PIPE)
    wait_for(lambda: peer.values() >= set(values), "results of all values")
    second.terminate()
    _, notes = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    assert b"going on after line" in notes
    content = json.loads((tmp_path / "state.json").read_text())["content"]
    assert content["counts"]["lines"] == max(one["n"] for one in peer.results)


@with_broker
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("allow_anonymous false",), "refuses the connection .Not authorized"),
        (
            ("allow_anonymous true", "acl_file {folder}/acl"),
            "refuses a result for load/forecast .Not authorized",
        ),
    ],
)
def test_a_broker_that_refuses_ends_the_bridge(
    tmp_path: Path, session: Session, settings: tuple[str, ...], message: str
) -> None:
    (tmp_path / "acl").write_text("topic readwrite load\n")
    broker = Mosquitto(tmp_path, *(line.format(folder=tmp_path) for line in settings))
    broker.start()

    def send_a_value(_: str) -> None:
        publish.single("load", "1.5", qos=1, hostname="127.0.0.1", port=broker.port)

    bridge = MqttBridge(
        session, Broker("127.0.0.1", broker.port), "load", "load/forecast", send_a_value
    )
    interruption = Interruption()
    patience = threading.Timer(PATIENCE, setattr, (interruption, "asked", True))
    patience.start()
    try:
        with pytest.raises(BrokerError, match=message):
            bridge.run(interruption)
    finally:
        patience.cancel()
        broker.stop()


@with_broker
def test_a_bridge_is_connected_once_no_message_is_missed(
    broker: Mosquitto, peer: Peer, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe = Client.subscribe

    def subscribe_late(*arguments: Any, **more: Any) -> Any:
        time.sleep(0.3)
        return subscribe(*arguments, **more)

    monkeypatch.setattr(Client, "subscribe", subscribe_late)
    with bridging(session, broker.port):
        peer.send([1.5])
        wait_for(lambda: peer.values() == {1.5}, "result")


def test_without_paho_the_extra_is_named(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(MissingDependencyError, match="laglite.mqtt"):
        MqttBridge(session, Broker("localhost"), "a", "b", print)
