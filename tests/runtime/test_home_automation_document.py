"""docs/home-automation.md: its snippets against the bridge's own messages."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jinja2 import Environment

from laglite import Forecaster
from laglite.cli.stream import stream
from laglite.streaming.messages import parse_message
from laglite.streaming.session import OutputSettings, Session, StreamSettings

DOCUMENT = (Path(__file__).parents[2] / "docs/home-automation.md").read_text(encoding="utf-8")
TOPIC, RESULTS = "home/power", "home/power/forecast"
NODE = shutil.which("node")
with_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def options(line: str) -> dict[str, Any]:
    """What the command would be called with."""
    words = shlex.split(line)[2:]
    return stream.make_context("stream", words).params


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    """Of a daily rhythm with a spike at its end: without a prediction, with one, refused, alarm."""
    nano = Forecaster.load("nano", threads=1)
    settings = StreamSettings(freq="5min", warm_up=20)
    session = Session(nano, settings, OutputSettings(every=1, horizon=3, samples=10), seed=1)
    found = []
    for step in range(80):
        value = 100 + 10 * np.sin(step / 5) if step < 79 else 5000.0
        ds = f"2024-01-01 {step // 12:02d}:{step % 12 * 5:02d}"
        found.append(session.take(json.dumps({"ds": ds, "y": value}).encode()))
        if step == 40:
            found.append(session.take(json.dumps({"ds": ds, "y": value}).encode()))
    assert found[0]["next"] is None
    assert found[41]["note"] == "duplicate"
    assert found[-1]["alarm"]
    return json.loads(json.dumps(found))


def test_the_commands_are_laglites() -> None:
    (shell,) = [line for line in blocks("sh") if line.startswith("laglite")]
    (unit,) = re.findall(r"ExecStart=(.*)", blocks("ini")[0])
    for line in (shell, unit):
        given = options(line)
        assert (given["topic"], given["output_topic"]) == (TOPIC, None)
        assert (given["freq"], given["every"], given["horizon"]) == ("5min", 1, 12)
        assert given["mqtt"] == ("localhost", None)
        assert given["state_file"].name == "power.json"


def environment(power: str) -> Environment:
    """Home Assistant's names that the templates use, over plain Jinja."""

    def as_float(text: str, otherwise: float | None) -> float | None:
        try:
            return float(text)
        except ValueError:
            return otherwise

    jinja = Environment()
    jinja.globals["states"] = {"sensor.power": power}.get
    jinja.globals["utcnow"] = lambda: datetime(2024, 5, 6, 7, 10, 3, tzinfo=timezone.utc)
    jinja.filters["float"] = as_float
    jinja.filters["to_json"] = json.dumps
    return jinja


@pytest.mark.parametrize(("power", "value"), [("412.5", 412.5), ("unavailable", np.nan)])
def test_home_assistants_messages_are_read(power: str, value: float) -> None:
    (automation,) = yaml.safe_load(blocks("yaml")[0])
    (action,) = automation["actions"]
    assert action["data"]["topic"] == TOPIC
    payload = environment(power).from_string(action["data"]["payload"]).render()
    message = parse_message(payload.encode())
    assert message.fault is None
    assert message.time == np.datetime64("2024-05-06T07:10")
    np.testing.assert_equal(message.value, value)


def test_home_assistants_sensors_show_the_results(results: list[dict[str, Any]]) -> None:
    mqtt = yaml.safe_load(blocks("yaml")[1])["mqtt"]
    sensors = [*mqtt["sensor"], *mqtt["binary_sensor"]]
    assert {sensor["state_topic"] for sensor in sensors} == {RESULTS}
    jinja = environment("0")

    def states(result: dict[str, Any]) -> list[str]:
        return [
            jinja.from_string(sensor["value_template"]).render(value_json=result)
            for sensor in sensors
        ]

    assert states(results[0]) == ["None", "None", "OFF"]
    assert states(results[41]) == ["None", "None", "OFF"]  # refused
    last = results[-1]
    assert states(last) == [str(last["next"]["0.5"]), str(last["cdf"]), "ON"]
    attributes = jinja.from_string(sensors[0]["json_attributes_template"])
    shown = json.loads(attributes.render(value_json=last))
    assert shown == {"next": last["next"], "forecast": last["forecast"]}
    assert len(shown["forecast"]["ds"]) == len(shown["forecast"]["0.9"]) == 3
    empty = json.loads(attributes.render(value_json=results[41]))
    assert empty == {"next": None, "forecast": None}


@pytest.fixture(scope="module")
def flow() -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in json.loads(blocks("json")[0])}


def test_the_flow_of_node_red_holds_together(flow: dict[str, dict[str, Any]]) -> None:
    for node in flow.values():
        for outputs in node.get("wires", []):
            assert set(outputs) <= set(flow)
        assert node.get("broker", "localhost") in {"localhost", "laglite-broker"}
        assert node.get("z", "laglite-tab") == "laglite-tab"
        if node["type"] == "function":
            assert len(node["wires"]) == node["outputs"]
    assert flow["laglite-values"]["topic"] == TOPIC
    assert flow["laglite-results"]["topic"] == RESULTS


def run_function(code: str, calls: list[tuple[int, Any]]) -> list[Any]:
    """What a function node returns for each (time in ms, payload), in one context."""
    script = f"""
const kept = {{}};
const context = {{get: (key) => kept[key], set: (key, value) => {{ kept[key] = value; }}}};
const run = new Function('msg', 'context', 'Date', {json.dumps(code)});
const found = [];
for (const [time, payload] of {json.dumps(calls)}) {{
    const Clock = function (at) {{ return new Date(at); }};
    Clock.now = () => time;
    const back = run({{payload}}, context, Clock);
    found.push(back === undefined ? null : back);
}}
console.log(JSON.stringify(found));
"""
    done = subprocess.run(
        [str(NODE), "-e", script], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


@with_node
def test_node_red_sends_the_average_of_each_step(flow: dict[str, dict[str, Any]]) -> None:
    begin = 1_704_086_400_000  # 2024-01-01 05:20
    minute = 60_000
    calls = [
        (begin + minute, "10"), (begin + 4 * minute, "20.5"), (begin + 4 * minute, "offline"),
        (begin + 5 * minute, "7"), (begin + 17 * minute, "8"),
    ]  # fmt: skip
    found = run_function(flow["laglite-average"]["func"], calls)
    assert found[:3] == [None, None, None]
    for sent, (time, value) in zip(
        found[3:], (("2024-01-01T05:20", 15.25), ("2024-01-01T05:25", 7.0)), strict=True
    ):
        message = parse_message(json.dumps(sent["payload"]).encode())
        assert (message.value, message.time) == (value, np.datetime64(time))


@with_node
def test_node_red_splits_alarms_from_forecasts(
    flow: dict[str, dict[str, Any]], results: list[dict[str, Any]]
) -> None:
    chosen = [results[0], results[41], results[60], results[-1]]
    found = run_function(flow["laglite-split"]["func"], [(0, result) for result in chosen])
    assert found[0] == [None, None]
    assert found[1] == [None, None]
    assert found[2] == [None, {"payload": results[60]["next"]}]
    assert found[3][0] == {"payload": "5000 at 2024-01-01 06:35:00 is unusual"}
