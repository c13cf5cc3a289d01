"""Interruption: SIGINT and SIGTERM end a stream where nothing is half done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(Exception):  # noqa: N818 - not an error
    """The process was asked to end while it waited."""


class Interruption:
    """Whether the process was asked to end; while `allowed`, being asked raises Interrupted.

    Being asked a second time ends the process at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._allowed = False

    @contextmanager
    def handling(self) -> Iterator[Interruption]:
        """Take the signals over for as long as the block lasts."""
        before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A block that waits, and may be left at any time."""
        self._allowed = True
        try:
            if self.asked:
                raise Interrupted
            yield
        finally:
            self._allowed = False

    def _handle(self, number: int, _: Any) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)  # whoever asks twice means it
        if self._allowed:
            raise Interrupted
