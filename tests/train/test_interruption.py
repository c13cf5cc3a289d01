"""Signals end a run between two batches, and leave the program as they found it."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from laglite_train.interruption import SIGNALS, Interruption, heed_parent_alone

ALONE: Any = SimpleNamespace(world_size=1)


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """Those of a program in the foreground, whatever the tests run under."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["on_train_batch_start", "on_validation_batch_start"])
def test_a_signal_ends_the_run_before_the_next_batch(number: signal.Signals, moment: str) -> None:
    interruption = Interruption()
    with interruption.heeding_signals():
        getattr(interruption, moment)(ALONE)
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            getattr(interruption, moment)(ALONE)


def test_an_interrupt_during_a_fork_is_not_lost() -> None:
    """Python drops what is raised in the hooks that run around a fork."""
    interruption = Interruption()
    armed = [True]

    def interrupted() -> None:
        if armed:
            armed.clear()
            os.kill(os.getpid(), signal.SIGINT)

    os.register_at_fork(after_in_parent=interrupted)
    with interruption.heeding_signals():
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(KeyboardInterrupt):
            interruption.on_train_batch_start(ALONE)


def test_a_signal_that_no_batch_comes_after_is_not_forgotten() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption().heeding_signals():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_interrupt_does_not_wait() -> None:
    with Interruption().heeding_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_signals_did_before_comes_back() -> None:
    with Interruption().heeding_signals():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_interrupts_that_are_ignored_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption = Interruption()
    with interruption.heeding_signals():
        os.kill(os.getpid(), signal.SIGINT)
        interruption.on_train_start()
        os.kill(os.getpid(), signal.SIGINT)
        interruption.on_train_batch_start(ALONE)


class Pids(Dataset[int]):
    """Who made each item."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, _: int) -> int:
        return os.getpid()


def pending(pid: int) -> bool:
    """Whether a SIGTERM waits to be taken."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (mask,) = re.findall(r"ShdPnd:\s*(\w+)", status)
    return bool(int(mask, 16) & 1 << signal.SIGTERM - 1)


def test_a_data_worker_heeds_sigterm_of_its_own_process_alone() -> None:
    loader = DataLoader(
        Pids(), None, num_workers=1, multiprocessing_context="fork",
        worker_init_fn=heed_parent_alone,
    )  # fmt: skip
    batches = iter(loader)
    pid = int(next(batches))
    subprocess.run(["kill", "-TERM", str(pid)], check=True)
    deadline = time.monotonic() + 30
    while pending(pid):  # a second signal would be one with a first that waits
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert {int(next(batches)) for _ in range(20)} == {pid}
    os.kill(pid, signal.SIGTERM)
    while any(child.pid == pid for child in multiprocessing.active_children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    """Python allows no other thread to set handlers."""
    seen: list[Any] = []

    def train() -> None:
        interruption = Interruption()
        with interruption.heeding_signals():
            interruption.on_train_start()
            interruption.on_train_batch_start(ALONE)
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
