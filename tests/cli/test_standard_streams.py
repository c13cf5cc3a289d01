"""Standard input and output that cannot be used, and names that the system refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from laglite.cli import main

FULL_DISK = Path("/dev/full")


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [("--help",), ("forecast",), ("stream", "--warm-up", "1")])
def test_a_full_disk_behind_standard_output_is_one_message(
    tiny_bundle: Path, command: tuple[str, ...]
) -> None:
    options: tuple[str, ...] = ()
    if command[0] == "forecast":
        options = ("-", "--horizon", "2")
    if command[0] != "--help":
        options = (*options, "--model", str(tiny_bundle))
    with FULL_DISK.open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "laglite", *command, *options],
            input="1\n2\n3\n", stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    lines = result.stderr.splitlines()
    assert (result.returncode, lines[-1:]) == (
        1, ["Error: standard output: No space left on device"],
    )  # fmt: skip
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", f"{300 * 'y'}.csv"),
        ("evaluate", "-", "--output", f"{300 * 'y'}.csv"),
        ("forecast", "-", "--output", f"{300 * 'y'}.csv"),
        ("forecast", "-", "--plot", f"{300 * 'y'}.png"),
    ],
)
def test_a_name_that_is_too_long_is_one_message(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--horizon", "2"], input="1\n2\n3\n")
    assert result.exit_code == 1
    assert "too long" in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_other_faults_of_the_system_are_not_taken_for_those_of_the_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        raise OSError(12, "no memory for a thread")

    monkeypatch.setattr("laglite.cli.info.info.callback", fail)
    result = CliRunner().invoke(main, ["info"])
    assert not isinstance(result.exception, SystemExit)


def test_too_much_for_the_memory_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("laglite.cli.forecast.forecast.callback", fail)
    result = CliRunner().invoke(main, ["forecast", "-", "--horizon", "2"])
    assert (result.exit_code, result.stderr[:21]) == (1, "Error: out of memory;")


@pytest.mark.parametrize(
    ("command", "closed", "stream"),
    [("forecast", "<&-", "input"), ("stream", "<&-", "input"), ("forecast", ">&-", "output"),
     ("stream", ">&-", "output")],
)  # fmt: skip
def test_a_closed_standard_stream_is_one_message(
    tiny_bundle: Path, command: str, closed: str, stream: str
) -> None:
    options = "- --horizon 2" if command == "forecast" else ""
    run = f"{sys.executable} -m laglite {command} {options} --model {tiny_bundle} {closed}"
    result = subprocess.run(
        ["/bin/sh", "-c", run], input="1\n2\n", capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert f"Error: standard {stream}: is closed" in result.stderr
    assert "Traceback" not in result.stderr
