"""The MQTT bridge: values from one topic, results to another, nothing acknowledged lost.

Both directions have QoS 1 and a session that the broker keeps. A message is acknowledged once
its result has been acknowledged by the broker and the state, if there is one, is on the disk. What
the broker delivers again after a lost connection is recognised as long as the process lives: it
comes marked as a repetition, with the id it had.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from laglite.errors import BrokerError, InputError, missing
from laglite.streaming.interruption import Interrupted, Interruption
from laglite.streaming.session import Session

AT_ONCE = 64  # messages the broker may send before the first of them is acknowledged
REMEMBERED = 2 * AT_ONCE  # those, and as many whose acknowledgement may not have arrived
LOOP_SECONDS = 0.1
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds between attempts to reach the broker
LAST_SECONDS = 5.0  # for results under way when the process is asked to end
FOREVER = 0xFFFFFFFF  # seconds that the broker keeps the session
# Answers that will be the same the next time: protocol, client id, credentials, authorisation.
FINAL_ANSWERS = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})


@dataclass(frozen=True)
class Broker:
    """Where the broker is, and who the bridge is to it."""

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = None
    tls: bool = False
    client_id: str | None = None


class MqttBridge:
    """Runs a session on the messages of `topic`; results go to `output_topic`."""

    def __init__(
        self,
        session: Session,
        broker: Broker,
        topic: str,
        output_topic: str,
        note: Callable[[str], None],
        save: Callable[[], None] | None = None,
    ) -> None:
        """`save` puts the session's state on the disk. Raises InputError."""
        for name in (topic, output_topic):
            if not name or "#" in name or "+" in name:
                raise InputError(f"topic {name!r}: one series needs one topic, without # and +")
        if topic == output_topic:
            raise InputError(f"topic {topic!r}: results need a topic of their own")
        self._session, self._broker, self._note = session, broker, note
        self._topic, self._output_topic = topic, output_topic
        self._save = save
        self._waiting: deque[Any] = deque()
        self._taken: list[int] = []  # ids of messages to acknowledge
        self._known: dict[int, bytes] = {}  # the last messages whose values the stream has
        self._under_way: set[int] = set()  # results the broker has not acknowledged
        self._pause = FIRST_PAUSE
        self._failure: str | None = None
        self._client = self._make_client()

    def run(self, interruption: Interruption) -> None:
        """Serve until interrupted. Raises BrokerError where trying again is of no use."""
        try:
            self._serve_until(interruption)
            self._finish()
        finally:
            self._client.disconnect()
            self._client.loop(LOOP_SECONDS)

    def _serve_until(self, interruption: Interruption) -> None:
        while not interruption.asked:
            try:
                self._client.reconnect()
                while not interruption.asked and self._serve(LOOP_SECONDS):
                    pass
                wrong = "connection lost"
            except OSError as error:
                wrong = str(error)
            if not interruption.asked:
                self._lose(wrong)
                self._wait(interruption)

    def _wait(self, interruption: Interruption) -> None:
        """Pause before the next attempt, longer each time until one succeeds."""
        try:
            with interruption.allowed():
                time.sleep(self._pause)
        except Interrupted:
            return
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    @property
    def _where(self) -> str:
        return f"MQTT broker {self._broker.host}:{self._broker.port}"

    def _serve(self, seconds: float) -> bool:
        """One round; False if the connection is lost. Raises BrokerError."""
        alive = bool(self._client.loop(seconds) == 0)
        if self._failure is not None:
            raise BrokerError(f"{self._where}: {self._failure}")
        if alive:
            self._take_waiting()
            self._acknowledge()
        return alive

    def _receive(self, message: Any) -> None:
        """Queue a message. An id that is used anew shows that its last use is settled."""
        if not (message.dup and self._known.get(message.mid) == message.payload):
            self._known.pop(message.mid, None)
        self._waiting.append(message)

    def _take_waiting(self) -> None:
        """Take messages, up to as many as are saved and acknowledged together."""
        while self._waiting and len(self._taken) < AT_ONCE:
            message = self._waiting.popleft()
            if message.mid not in self._known:
                result = json.dumps(self._session.take(message.payload))
                sent = self._client.publish(self._output_topic, result, qos=1)
                self._under_way.add(sent.mid)
                self._known[message.mid] = message.payload
                if len(self._known) > REMEMBERED:
                    del self._known[next(iter(self._known))]
            self._taken.append(message.mid)

    def _acknowledge(self) -> None:
        """Once all results have arrived: save the state, then acknowledge the messages."""
        full = len(self._taken) >= AT_ONCE
        if not self._taken or self._under_way or (self._waiting and not full):
            return
        if self._save is not None:
            self._save()
        for message in self._taken:
            self._client.ack(message, 1)
        self._taken.clear()

    def _lose(self, wrong: str) -> None:
        """Without a connection no message can be acknowledged: the broker will send all again."""
        self._note(f"{self._where}: {wrong}; trying again in {self._pause:g} s")
        self._waiting.clear()
        self._taken.clear()

    def _finish(self) -> None:
        """Wait a little for the results under way."""
        end = time.monotonic() + LAST_SECONDS
        self._waiting.clear()
        while self._taken and time.monotonic() < end:
            if not self._serve(LOOP_SECONDS):
                break

    def _make_client(self) -> Any:
        try:
            from paho.mqtt import client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion
            from paho.mqtt.packettypes import PacketTypes
            from paho.mqtt.properties import Properties
            from paho.mqtt.subscribeoptions import SubscribeOptions
        except ModuleNotFoundError as error:
            raise missing("paho-mqtt", "mqtt", "the MQTT bridge") from error
        broker = self._broker
        digest = hashlib.sha256(self._topic.encode()).hexdigest()
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            broker.client_id or f"laglite-{digest[:12]}",
            protocol=mqtt.MQTTv5,
            manual_ack=True,
        )
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            client.tls_set()
        # Retained messages are old values.
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)

        def on_connect(_: Any, __: Any, flags: Any, reason: Any, ___: Any) -> None:
            if reason.is_failure:
                if reason.value in FINAL_ANSWERS:
                    self._failure = f"refuses the connection ({reason})"
                return
            self._pause = FIRST_PAUSE
            if not flags.session_present:
                self._known.clear()  # the broker will not repeat them
            client.subscribe(self._topic, options=options)

        def on_subscribe(_: Any, __: Any, ___: Any, reasons: Any, ____: Any) -> None:
            if reasons[0].is_failure:
                self._failure = f"refuses the subscription of {self._topic} ({reasons[0]})"
            else:  # from now on no message is missed
                self._note(f"{self._where}: connected, {self._topic} -> {self._output_topic}")

        def on_publish(_: Any, __: Any, mid: int, reason: Any, ___: Any) -> None:
            self._under_way.discard(mid)
            if reason.is_failure:
                self._failure = f"refuses a result for {self._output_topic} ({reason})"

        client.on_connect, client.on_subscribe = on_connect, on_subscribe
        client.on_publish = on_publish
        client.on_message = lambda _, __, message: self._receive(message)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = FOREVER
        properties.ReceiveMaximum = AT_ONCE
        client.connect_async(
            broker.host, broker.port, keepalive=30, clean_start=False, properties=properties
        )
        return client
