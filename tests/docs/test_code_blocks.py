"""Every code block of the README and the documentation, run."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml

from tests.docs.code_blocks import Block, blocks_of
from tests.docs.workspace import ROOT, make_workspace
from tests.mqtt_broker import MOSQUITTO, Mosquitto, Peer, wait_for

PAGES = [
    page
    for pattern in ("*.md", "docs/*.md", "examples/*.md", "deploy/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if page.name != "neighbours.md"  # run by tests/neighbours, where its libraries are
]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
LONGEST = 300  # seconds that a block may take, on a busy machine
READERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "yaml": yaml.safe_load,
    "ini": lambda text: RawConfigParser(strict=False).read_string(text),
}
PROSE = ("text", "diff", "promql")  # languages of blocks that nothing can be done with


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [one for one in blocks_of(page) if not one.not_run and one.language not in PROSE]
    if not blocks:
        return
    environment = make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    printed, skipped = "", False
    with contextlib.ExitStack() as services:
        for block in blocks:
            place = f"{page.relative_to(ROOT)}:{block.line}"
            if block.language == "python":
                exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
            elif block.port is not None:
                services.enter_context(_service(block, environment, place))
            elif block.topic is not None:
                skipped |= MOSQUITTO is None
                if MOSQUITTO is not None:
                    _bridge(block.text, block.topic, environment, tmp_path)
            elif block.language == "sh":
                printed = _run(block, environment, place)
            elif block.language == "":
                _check_printed(block.text, printed, place)
            else:
                assert block.language in READERS, f"{place}: {block.language!r} is not run"
                READERS[block.language](block.text)
    if skipped:
        pytest.skip("mosquitto is not installed; all but the blocks of a bridge were run")


def _run(block: Block, environment: dict[str, str], place: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        env=environment, capture_output=True, text=True, timeout=LONGEST, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{place}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@contextlib.contextmanager
def _service(block: Block, environment: dict[str, str], place: str) -> Iterator[None]:
    """Start the block's command and wait until it listens on its port."""
    with subprocess.Popen(["bash", "-c", f"exec {block.text}"], env=environment) as process:
        try:
            for _ in range(600):
                assert process.poll() is None, f"{place}: ended with {process.returncode}"
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", block.port or 0), 1).close()
                    break
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def _bridge(text: str, topic: str, environment: dict[str, str], folder: Path) -> None:
    """Run the bridge until it has answered three values, then end it as a terminal does."""
    broker = Mosquitto(folder)
    broker.start()
    peer = Peer(broker.port, topic)
    environment = {**environment, "BROKER": f"localhost:{broker.port}"}
    minutes = itertools.count(0, 5)

    def answered() -> bool:
        time.sleep(0.2)
        hours, minute = divmod(next(minutes), 60)
        ds = f"2024-01-01 {hours:02d}:{minute:02d}"
        peer.send([json.dumps({"ds": ds, "y": float(minute)})])
        return len(peer.results) >= 3

    try:
        with subprocess.Popen(["bash", "-c", f"exec {text}"], env=environment) as process:
            try:
                wait_for(lambda: process.poll() is not None or answered(), "result")
            finally:
                process.send_signal(signal.SIGINT)
        assert process.returncode == 0
        first = peer.results[0]["y"]
        found = [(result["n"], result["y"]) for result in peer.results[:3]]
        assert found == [(1, first), (2, first + 5), (3, first + 10)]
        assert not any("note" in result for result in peer.results)
    finally:
        peer.close()
        broker.stop()


def _check_printed(shown: str, printed: str, place: str) -> None:
    """What a page shows is printed: numbers within 0.2 %, pictures but for a few characters."""
    lines = [line.rstrip() for line in printed.splitlines()]
    for line in shown.splitlines():
        assert any(_alike(line.rstrip(), other) for other in lines), (
            f"{place}: not printed: {line!r}\n{printed}"
        )


def _alike(shown: str, printed: str) -> bool:
    text, other = NUMBER.sub("#", shown), NUMBER.sub("#", printed)
    numbers = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=False)
    close = all(abs(float(a) - float(b)) <= 0.002 * max(1.0, abs(float(a))) for a, b in numbers)
    likeness = difflib.SequenceMatcher(None, " ".join(text.split()), " ".join(other.split()))
    return close and likeness.ratio() > 0.95


def test_every_block_that_is_not_run_says_why() -> None:
    reasons = [block.not_run for page in PAGES for block in blocks_of(page) if block.not_run]
    assert all(len(reason.split()) >= 2 for reason in reasons), reasons


def test_a_block_whose_output_is_not_what_the_page_shows_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not printed"):
        _check_printed("mean 5.0", "mean 5.5\n", "page.md:1")
