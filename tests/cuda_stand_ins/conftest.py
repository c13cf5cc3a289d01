"""The stand-ins, compiled once, and laglite run over them in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cuda_stand_ins.building import HEADERS, CannotBuildError, build_stand_ins

# onnxruntime-gpu excludes onnxruntime: `make stand-ins` has an environment for these tests alone.
if not HEADERS.exists():
    collect_ignore_glob = ["test_*.py"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Event:
    """A line of the stand-ins' account: who asked for what, while how many captures were open."""

    thread: str
    captures: int
    text: str


@dataclass(frozen=True)
class Played:
    """What a scene found, and the account of it."""

    found: dict[str, Any]
    events: list[Event]

    def of(self, start: str) -> list[Event]:
        """The events whose text begins so."""
        return [event for event in self.events if event.text.startswith(start)]

    def after(self, mark: str) -> Played:
        """The part between a mark and the next one."""
        marks = [i for i, event in enumerate(self.events) if event.text.startswith("mark ")]
        (first,) = [i for i in marks if self.events[i].text == f"mark {mark}"]
        last = min((i for i in marks if i > first), default=len(self.events))
        return Played(self.found, self.events[first + 1 : last])


Play = Callable[..., Played]


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stand_ins")
    try:
        build_stand_ins(folder)
    except CannotBuildError as error:
        pytest.exit(str(error), returncode=1)
    return folder


@pytest.fixture(scope="session")
def play(stand_ins: Path, tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Run a function of `scenes` over the stand-ins; `refuse` is a call that fails in captures."""

    def run(scene: str, *, refuse: str = "", **options: Any) -> Played:
        log = tmp_path_factory.mktemp(scene) / "account"
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(stand_ins),
            "STAND_INS_LOG": str(log),
            "STAND_INS_REFUSE": refuse,
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.cuda_stand_ins.scenes", scene, json.dumps(options)],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{scene}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        rows = (line.split(" ", 2) for line in log.read_text().splitlines())
        events = [Event(thread, int(captures), text) for thread, captures, text in rows]
        return Played(json.loads(done.stdout.splitlines()[-1]), events)

    return run
