"""A real mosquitto broker on loopback, and a peer that talks through it."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
with_broker = pytest.mark.skipif(
    MOSQUITTO is None, reason="mosquitto is not installed (apt-get install mosquitto)"
)
PATIENCE = 60.0  # seconds until a test gives up


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"no {what} in {PATIENCE:g} s"
        time.sleep(0.02)


def _free_port() -> int:
    """Below 32768, where Linux takes the ports of clients: one might get it amid a restart."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


class Mosquitto:
    """A broker that keeps its sessions on the disk."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = _free_port()
        self.file = folder / "mosquitto.conf"
        lines = (
            f"listener {self.port} 127.0.0.1",
            "user root",
            "persistence true",
            f"persistence_location {folder}/",
            "max_queued_messages 0",
            *(settings or ("allow_anonymous true",)),
        )
        self.file.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            [str(MOSQUITTO), "-c", str(self.file)], stdout=quiet, stderr=quiet
        )
        wait_for(self._reachable, "broker")

    def _reachable(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


class Peer:
    """Whoever sends the values and reads the results, with a session of its own."""

    def __init__(self, port: int, topic: str) -> None:
        self.topic = topic
        self.results: list[dict[str, Any]] = []
        self.acknowledged = 0
        self.subscribed = False
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, "peer", protocol=mqtt.MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_message = lambda _, __, message: self.results.append(
            json.loads(message.payload)
        )
        self.client.on_publish = lambda *_: self._count()
        self.client.on_connect = lambda client, *_: client.subscribe(f"{topic}/forecast", 1)
        self.client.on_subscribe = lambda *_: setattr(self, "subscribed", True)
        self.client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self.client.loop_start()
        wait_for(lambda: self.subscribed, "subscription")

    def _count(self) -> None:
        self.acknowledged += 1

    def send(self, values: Iterable[float | str]) -> None:
        for value in values:
            self.client.publish(self.topic, str(value), qos=1)

    def values(self) -> set[float]:
        return {one["y"] for one in self.results}

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
