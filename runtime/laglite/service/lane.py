"""A lane: one thread for work that must not run beside itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from laglite.service.problems import overloaded

Result = TypeVar("Result")


class Lane:
    """Calls one after the other, in the order in which they came, beside the event loop."""

    def __init__(self, name: str, wait_seconds: float) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._wait_seconds = wait_seconds

    async def run(self, call: Callable[[], Result]) -> Result:
        """The result of a call. Raises RefusalError, without calling, after too long a wait."""
        latest = time.monotonic() + self._wait_seconds

        def begin() -> Result:
            if time.monotonic() > latest:
                raise overloaded(f"waited {self._wait_seconds:g} s without being computed")
            return call()

        return await asyncio.get_running_loop().run_in_executor(self._thread, begin)

    def close(self) -> None:
        """Wait for what has begun."""
        self._thread.shutdown()
