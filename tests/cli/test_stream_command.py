"""`laglite stream`: lines in and out, restarts after any end, and wrong usage."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from laglite import Forecaster
from laglite.cli import main

Run = Callable[..., Result]
LINES = 200
SHORT = ("--model", "nano", "--warm-up", "5", "--threads", "1")


def lines_of(count: int) -> list[bytes]:
    random = np.random.default_rng(0)
    values = 20 + np.sin(np.arange(count)) + random.standard_normal(count)
    return [b"%.4f\n" % value for value in values]


@pytest.fixture
def run() -> Run:
    def call(*options: str, data: bytes = b"") -> Result:
        return CliRunner().invoke(main, ["stream", *SHORT, *options], input=data)

    return call


def results(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class Process:
    """`laglite stream` as a process of its own."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "laglite", "stream", *SHORT, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ask(self, line: bytes) -> bytes:
        """The result of one line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Its status and what it said on stderr, after a signal or the end of its input."""
        if number is not None:
            self.process.send_signal(number)
        _, notes = self.process.communicate(timeout=60)
        return self.process.returncode, notes.decode()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def call(*options: str) -> Process:
        started.append(Process(*options))
        return started[-1]

    yield call
    for one in started:
        one.process.kill()
        one.process.wait()
        for pipe in (one.process.stdin, one.process.stdout, one.process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def test_each_line_gives_a_line_with_what_was_predicted_of_it(run: Run) -> None:
    lines = lines_of(20)
    result = run("--quantiles", "0.1,0.9", data=b"".join(lines))
    assert result.exit_code == 0
    found = results(result.stdout)
    assert [one["n"] for one in found] == list(range(1, 21))
    assert [one["cdf"] is None for one in found] == [True] * 5 + [False] * 15
    stream = Forecaster.load("nano", threads=1).stream(warm_up=5)
    for line, one in zip(lines, found, strict=True):
        update = stream.update(float(line))
        assert one["y"] == update.value
        assert one["alarm"] == update.outside
        if one["cdf"] is not None:
            assert one["cdf"] == pytest.approx(update.cdf, rel=1e-6)
            assert one["log_prob"] == pytest.approx(update.log_prob, rel=1e-6)
    expected = stream.quantiles([0.1, 0.9])
    assert list(found[-1]["next"].values()) == pytest.approx(expected, rel=1e-6)
    assert "20 lines; 20 values (0 missing)" in result.stderr


def test_a_history_file_comes_first_with_its_times(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    rows = "\n".join(f"2024-01-{day:02},{day % 7}" for day in range(1, 31))
    path.write_text(f"ds,y\n{rows}\n")
    result = run("--history", str(path), data=b"3\n4\n")
    first, second = results(result.stdout)
    assert (first["ds"], second["ds"]) == ("2024-01-31", "2024-02-01")
    assert first["cdf"] is not None
    assert "frequency 'D'" in result.stderr


def test_a_killed_stream_goes_on_with_the_same_lines(
    start: Callable[..., Process], state: Path
) -> None:
    lines = lines_of(LINES)
    options = ("--state-every", "30", "--every", "50", "--horizon", "2", "--seed", "4")
    whole = start(*options)
    expected = [whole.ask(line) for line in lines]
    killed = start(*options, "--state", str(state))
    found = {number: killed.ask(line) for number, line in enumerate(lines[:100])}
    assert killed.end(signal.SIGKILL)[0] == -signal.SIGKILL
    again = start(*options, "--state", str(state), "--replay")
    assert again.process.stdin is not None
    again.process.stdin.write(b"".join(lines[:90]))  # left out: the state has seen them
    for number, line in enumerate(lines[90:], 90):
        result = again.ask(line)
        assert found.get(number, result) == result
        found[number] = result
    code, notes = again.end()
    assert code == 0
    assert "going on after line 90" in notes
    assert list(found.values()) == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_state_and_ends_well(
    start: Callable[..., Process], state: Path, number: signal.Signals
) -> None:
    lines = lines_of(20)
    process = start("--state", str(state))
    for line in lines[:13]:
        process.ask(line)
    code, notes = process.end(number)
    assert code == 0
    assert "13 lines; 13 values" in notes
    going_on = start("--state", str(state))
    found = [going_on.ask(line) for line in lines[13:]]
    assert going_on.end()[0] == 0
    whole = start()
    assert [whole.ask(line) for line in lines][13:] == found


def test_a_reader_that_has_gone_ends_the_stream_quietly(start: Callable[..., Process]) -> None:
    process = start()
    process.ask(b"1\n")
    assert process.process.stdout is not None
    process.process.stdout.close()
    assert process.process.stdin is not None
    process.process.stdin.write(b"2\n")
    process.process.stdin.close()
    assert process.process.stderr is not None
    notes = process.process.stderr.read().decode()
    assert process.process.wait(timeout=60) == 0
    assert "Error" not in notes
    assert "Traceback" not in notes


def test_the_state_is_not_ahead_of_what_was_put_out(
    start: Callable[..., Process], state: Path
) -> None:
    process = start("--state", str(state), "--state-every", "2")
    for line in (b"1\n", b"2\n", b"3\n"):
        process.ask(line)
    assert process.process.stdout is not None
    process.process.stdout.close()
    assert process.process.stdin is not None
    process.process.stdin.write(b"4\n")
    process.process.stdin.close()
    process.process.wait(timeout=60)
    assert json.loads(state.read_text())["content"]["counts"]["lines"] == 2


def test_a_long_line_is_left_out_in_pieces(run: Run) -> None:
    result = run(data=b"1\n" + b"9" * 200_000 + b"\n2\n")
    first, second, third = results(result.stdout)
    assert "longer than 65,536 bytes" in second["note"]
    assert (first["y"], third["y"], third["n"]) == (1, 2, 3)


def test_a_damaged_state_is_refused_and_kept(run: Run, state: Path) -> None:
    assert run("--state", str(state), data=b"1\n").exit_code == 0
    cut = state.read_bytes()[:100]
    state.write_bytes(cut)
    result = run("--state", str(state), data=b"1\n")
    assert result.exit_code == 1
    assert f"{state}: damaged or cut short" in result.stderr
    assert result.stdout == ""
    assert state.read_bytes() == cut


def test_a_state_of_other_settings_is_refused(run: Run, state: Path) -> None:
    assert run("--state", str(state), data=b"1\n").exit_code == 0
    for options, message in (
        (("--refresh", "7"), "written with refresh None, not 7"),
        (("--model", "base"), "of another model"),
        (("--precision", "int8"), "written with precision fp32, not int8"),
    ):
        result = run("--state", str(state), *options, data=b"1\n")
        assert result.exit_code == 1
        assert f"{state}: the state" in result.stderr
        assert message in result.stderr


def test_replaying_less_than_the_state_has_seen_is_an_error(run: Run, state: Path) -> None:
    assert run("--state", str(state), data=b"1\n2\n3\n").exit_code == 0
    result = run("--state", str(state), "--replay", data=b"1\n2\n")
    assert result.exit_code == 1
    assert "standard input ends after 2 lines, but the state has seen 3" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--every", "5"), 2, "--every and --horizon go together"),
        (("--replay",), 2, "--replay needs --state"),
        (("--history", "-"), 2, "--history -: the values come from there"),
        (("--mqtt", "localhost"), 2, "--mqtt and --topic go together"),
        (("--mqtt", "localhost:x", "--topic", "t"), 2, "is not HOST or HOST:PORT"),
        (("--quantiles", "0,0.5"), 2, "levels must lie between 0 and 1"),
        (("--start", "2024-01-01"), 2, "--start needs --freq"),
        (("--freq", "x"), 1, "frequency 'x' is not known"),
        (("--start", "x", "--freq", "h"), 1, "'x' is not a timestamp"),
        (("--alarm-rate", "0.9"), 1, "alarm_rate must lie between"),
        (("--every", "5", "--horizon", "5000"), 1, "positions, but this model has"),
        (("--state", "/nowhere/state.json"), 1, "the folder /nowhere does not exist"),
        (("--history", "/nowhere.csv"), 1, "cannot be read"),
        (("--mqtt", "localhost", "--topic", "a/#"), 1, "one series needs one topic"),
        (
            ("--mqtt", "localhost", "--topic", "a", "--output-topic", "a"),
            1,
            "results need a topic of their own",
        ),
    ],
)
def test_wrong_usage_is_one_message(
    run: Run, options: tuple[str, ...], code: int, message: str
) -> None:
    result = run(*options, data=b"1\n")
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_a_history_of_several_series_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("unique_id,ds,y\na,2024-01-01,1\nb,2024-01-01,2\n")
    result = run("--history", str(path), "--freq", "D")
    assert result.exit_code == 1
    assert "2 series; a stream continues one" in result.stderr
    result = run("--history", str(path), "--freq", "D", "--start", "2024-01-01")
    assert result.exit_code == 2


def test_the_result_is_there_before_the_next_line_comes(start: Callable[..., Process]) -> None:
    process = start()
    assert json.loads(process.ask(b"1\n"))["n"] == 1
    assert json.loads(process.ask(b"2\n"))["n"] == 2
