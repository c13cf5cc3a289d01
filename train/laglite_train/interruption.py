"""Stopping a run: Ctrl-C and SIGTERM end it between two batches, in all its processes at once.

An exception raised by a signal wherever the program happens to be may be lost (in a fork, in a
finaliser), and one process that leaves while others wait for it hangs them. So a signal leaves a
mark, and before each batch the processes agree whether any of them has one.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import lightning
import torch
from lightning.pytorch.callbacks import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def heed_parent_alone(_: int) -> None:
    """In a data worker: ignore signals, but a SIGTERM of the training process, which ends it.

    What stops a run reaches all its processes, and a worker that ended by itself would be an error.
    Ignoring every SIGTERM would be one too: at its exit, the training process waits for workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not tell who sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


class Interruption(Callback):
    """Raises KeyboardInterrupt before the next batch once a signal has come.

    A second Ctrl-C raises it at once. Signals that are ignored, as Ctrl-C is in background jobs of
    a shell, stay ignored; so do all where training does not run in the main thread.
    """

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Heed signals within; what they did before comes back after.

        Raises KeyboardInterrupt at the end for a signal that no batch came after.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._install()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._asked:
            self._stop()

    def on_train_start(self, *_: Any) -> None:
        """Replace Lightning's handler of SIGTERM, which would wait for the other processes."""
        if threading.current_thread() is threading.main_thread():
            self._install()

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._stop_if_asked(trainer)

    def on_validation_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._stop_if_asked(trainer)

    def _install(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, _: Any) -> None:
        if self._asked and number == signal.SIGINT:
            self._stop()
        self._asked = True

    def _stop_if_asked(self, trainer: lightning.Trainer) -> None:
        asked = self._asked
        if trainer.world_size > 1:
            mark = torch.tensor(float(asked), device=trainer.strategy.root_device)
            asked = bool(trainer.strategy.reduce(mark, reduce_op="max"))
        if asked:
            self._stop()

    def _stop(self) -> NoReturn:
        self._asked = False
        raise KeyboardInterrupt
