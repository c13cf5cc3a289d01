"""Sessions: late, doubled and absent messages, and states on the disk."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laglite import Forecaster
from laglite.errors import InputError, StateError
from laglite.spec import ModelSpec
from laglite.streaming import state_file
from laglite.streaming.messages import LONGEST_MESSAGE, parse_message
from laglite.streaming.session import OpeningHistory, OutputSettings, Session, StreamSettings
from laglite.streaming.state_file import read_state, write_state
from laglite_train.model import LagLlama

Result = dict[str, Any]
Open = Callable[..., Session]


@pytest.fixture(scope="module")
def nano() -> Forecaster:
    return Forecaster.load("nano", threads=1)


@pytest.fixture
def opened(nano: Forecaster) -> Open:
    def call(freq: str | None = None, **options: Any) -> Session:
        output = OutputSettings(**options.pop("output", {}))
        history = options.pop("history", None)
        settings = StreamSettings(freq=freq, **options)
        return Session(nano, settings, output, history=history, seed=1)

    return call


def at(hour: int, value: Any) -> bytes:
    """A message of an hour of 2024."""
    time = np.datetime64("2024-01-01T00") + np.timedelta64(hour, "h")
    return json.dumps({"ds": str(time), "y": value}).encode()


def through(session: Session, *messages: bytes) -> list[Result]:
    return [session.take(message) for message in messages]


def test_a_gap_in_the_times_becomes_missing_values(opened: Open) -> None:
    values, start = 5 + np.sin(np.arange(100.0)), np.datetime64("2023-12-27T20")
    timed, plain = (opened("h", history=OpeningHistory(values, one)) for one in (None, start))
    through(timed, at(0, 1.0), at(1, 2.0))
    through(plain, b"1", b"2", b"", b"nan", b"null")
    found, expected = timed.take(at(5, 3.0)), plain.take(b"3")
    assert found.pop("skipped") == 3
    assert found.pop("n") == 3
    assert expected.pop("n") == 6
    assert found == expected
    assert timed.counts.gaps == 3
    assert timed.stream is not None
    assert timed.stream.counts.missing == 3


def test_late_and_doubled_messages_are_counted_and_left_out(opened: Open) -> None:
    session, undisturbed = opened("h"), opened("h")
    messages = [at(0, 1.0), at(1, 2.0), at(3, 4.0)]
    through(session, *messages)
    through(undisturbed, *messages)
    notes = [one["note"] for one in through(session, at(3, 9), at(2, 9), at(0, 9), at(-1, 9))]
    assert notes == ["duplicate", "late", "duplicate", "late"]
    assert session.counts.refused == {"duplicate": 2, "late": 2}
    following = session.take(at(4, 5.0)), undisturbed.take(at(4, 5.0))
    assert following[0] | {"n": 4} == following[1]


def test_times_off_the_grid_and_messages_without_times_are_left_out(opened: Open) -> None:
    session = opened("h")
    through(session, at(0, 1.0))
    off = session.take(b'{"ds": "2024-01-01 00:30", "y": 1}')
    assert off == {"n": 2, "ds": "2024-01-01 00:30:00", "note": "off the grid"}
    assert session.take(b"5") == {"n": 3, "note": "without a time"}
    assert session.counts.refused == {"off the grid": 1, "without a time": 1}
    untimed = opened("h")
    through(untimed, b"1")
    assert untimed.take(at(3, 1))["note"] == "time after messages without"


def test_a_time_far_ahead_is_believed_when_the_next_lies_ahead_too(opened: Open) -> None:
    session = opened("h")
    through(session, at(0, 1.0))
    assert session.take(at(500_000, 2.0))["note"] == "too far ahead"
    assert session.take(at(1, 2.0))["y"] == 2.0
    assert session.take(at(500_000, 2.0))["note"] == "too far ahead"
    assert session.take(at(500_001, 3.0))["skipped"] == 500_001 - 2
    assert session.take(at(500_002, 4.0))["cdf"] is not None


def test_an_unreadable_message_is_a_missing_value_or_left_out(opened: Open) -> None:
    plain, timed = opened(), opened("h")
    through(plain, b"1", b"2")
    (result,) = through(plain, b"1,5")
    assert result["note"] == "'1,5' is not a number"
    assert result["y"] is result["cdf"] is None
    assert plain.counts.unreadable == 1
    first, _, second, third = through(timed, b"?", at(0, 1), b"?", at(1, True))
    assert first == {"n": 1, "note": "'?' is not a number"}
    assert set(second) == {"n", "note"}
    assert third["y"] is None
    assert timed.counts.refused == {"unreadable": 2}
    assert timed.counts.unreadable == 1


def test_times_need_a_frequency(opened: Open) -> None:
    with pytest.raises(InputError, match="no frequency to tell which steps they are; give it"):
        opened().take(at(0, 1))


def test_a_history_without_times_lies_before_the_first_message(opened: Open) -> None:
    values = 5 + np.sin(np.arange(100.0))
    session = opened("h", history=OpeningHistory(values))
    session.take(at(0, 5.0))
    assert session.stream is not None
    assert session.stream.axis.start == np.datetime64("2024-01-01") - np.timedelta64(100, "h")
    assert session.stream.next_time == np.datetime64("2024-01-01T01")


def test_forecasts_come_every_so_many_values(opened: Open) -> None:
    session = opened("h", output={"every": 2, "horizon": 3, "quantiles": (0.2, 0.8)})
    results = through(session, *(at(hour, hour % 5) for hour in range(6)))
    assert ["forecast" in one for one in results] == [False, True] * 3
    forecast = results[-1]["forecast"]
    assert forecast["ds"] == [f"2024-01-01 0{hour}:00:00" for hour in (6, 7, 8)]
    assert set(forecast) == {"ds", "mean", "0.2", "0.8"}
    assert session.stream is not None
    expected = session.stream.forecast(3, seed=1)
    np.testing.assert_allclose(forecast["0.8"], expected.quantile(0.8), rtol=1e-6)


def test_a_gap_does_not_swallow_the_forecast_that_was_due_in_it(opened: Open) -> None:
    session = opened("h", output={"every": 4, "horizon": 1})
    results = through(session, at(0, 1), at(1, 2), at(5, 3), at(6, 4), at(7, 5))
    assert ["forecast" in one for one in results] == [False, False, True, False, True]


def test_a_forecast_of_nothing_is_null_and_the_stream_goes_on(opened: Open) -> None:
    session = opened(output={"every": 1, "horizon": 2})
    first, second = through(session, b"nan", b"1")
    assert first["forecast"] is None
    assert "missing" in first["note"]
    assert len(second["forecast"]["mean"]) == 2


def test_counts_that_the_head_cannot_tell_apart_do_not_end_the_stream(
    small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path]
) -> None:
    spec = dataclasses.replace(small_spec, head="neg_bin", scaling="mean")
    torch.manual_seed(0)
    path = export_to(LagLlama(spec), "counts_of_a_stream")
    forecaster = Forecaster.load(path, threads=1)
    session = Session(forecaster, StreamSettings(), OutputSettings())
    *_, last, following = through(session, *[b"5"] * 20, *[b"3e38"] * 40)
    assert last["next"] is None
    assert "more than its negative binomial head can tell apart" in last["note"]
    assert following["cdf"] is None
    assert following["alarm"] is False


@pytest.mark.parametrize("cut", [0, 1, 5, 40])
def test_a_session_goes_on_from_its_state(opened: Open, tmp_path: Path, cut: int) -> None:
    options = {"warm_up": 3, "adaptive": True, "output": {"every": 10, "horizon": 2}}
    messages = [at(hour + 400_000 * (hour == 4), hour % 7) for hour in range(60)]
    whole, before, after = (opened("h", **json.loads(json.dumps(options))) for _ in range(3))
    expected = through(whole, *messages)
    through(before, *messages[:cut])
    path = tmp_path / "state.json"
    write_state(path, before.state())
    after.restore(read_state(path))
    assert through(after, *messages[cut:]) == expected[cut:]
    assert after.summary() == whole.summary()


def test_a_state_of_another_model_or_other_settings_is_refused(opened: Open) -> None:
    session = opened("h")
    session.take(at(0, 1))
    state = session.state()
    with pytest.raises(StateError, match="written with freq h, not D"):
        opened("D").restore(state)
    state["stream"]["model"] = "0" * 64
    with pytest.raises(StateError, match="of a stream of another model"):
        opened("h").restore(state)


@pytest.fixture
def saved(opened: Open, tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    write_state(path, opened().state())
    return path


def test_a_state_cut_anywhere_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in range(0, len(whole), 101):
        saved.write_bytes(whole[:length])
        with pytest.raises(StateError, match="damaged or cut short"):
            read_state(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"content": {"a": 1}}, "altered"),
        ({"schema_version": 2}, "newer than this laglite reads"),
        ({"format": "x"}, "not the state of a stream"),
    ],
)
def test_a_foreign_state_is_refused(saved: Path, change: Result, message: str) -> None:
    saved.write_text(json.dumps(json.loads(saved.read_text()) | change))
    with pytest.raises(StateError, match=message):
        read_state(saved)


def test_a_state_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        read_state(tmp_path)


def test_a_full_disk_keeps_the_state_before(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(state_file.os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written .No space left"):
        write_state(saved, {"other": 1})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize(
    ("text", "value"),
    [("12.5", 12.5), (" -1e3\r\n", -1000.0), ('{"y": "7"}', 7.0), ('{"y": 3, "id": "x"}', 3.0)],
)
def test_messages_are_numbers_or_json(text: str, value: float) -> None:
    message = parse_message(text.encode())
    assert (message.value, message.time, message.fault) == (value, None, None)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\xff", "not UTF-8"),
        (b'{"y": 1', "not valid JSON"),
        (b'{"y":' * 20_000, "longer than 65,536 bytes"),
        (b'{"x": 1}', 'no value "y"'),
        (b'{"y": [1]}', r"\[1\] is not a number"),
        (b'{"y": true}', "True is no number that"),
        (b'{"y": 1e999}', "inf is no number that"),
        (b'{"y": 1' + b"0" * 400 + b"}", "is no number that"),
        (b'{"ds": "noon", "y": 1}', "'noon' is not a timestamp"),
        (b'{"ds": [], "y": 1}', "not a point in time"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(data: bytes, fault: str) -> None:
    message = parse_message(data)
    assert np.isnan(message.value)
    assert message.fault is not None

    assert re.search(fault, message.fault)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_number_missing_or_a_fault(data: bytes) -> None:
    message = parse_message(data)
    assert np.isnan(message.value) or abs(message.value) < 3.5e38
    assert len(data) <= LONGEST_MESSAGE
