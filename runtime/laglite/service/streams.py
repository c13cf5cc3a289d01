"""The streams that clients have opened: in memory, as many as allowed, gone when idle."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from laglite.service.problems import NOT_FOUND, STREAMS_FULL, RefusalError
from laglite.streaming import Stream


@dataclass
class HeldStream:
    """A stream, the model it belongs to, and when it was last used."""

    id: str
    model: str
    stream: Stream
    used: float


class StreamRegistry:
    """Streams by an id that cannot be guessed."""

    def __init__(
        self, most: int, idle_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.idle_seconds = idle_seconds
        self._most, self._clock = most, clock
        self._held: dict[str, HeldStream] = {}

    def __len__(self) -> int:
        self.expire()
        return len(self._held)

    def check_room(self) -> None:
        """Raises RefusalError where no further stream can be opened."""
        self.expire()
        if len(self._held) >= self._most:
            oldest = min(held.used for held in self._held.values())
            seconds = max(1, round(oldest + self.idle_seconds - self._clock()))
            raise RefusalError(
                STREAMS_FULL,
                f"{self._most:,} streams are open, as many as this service allows; delete one, or "
                f"wait: the first unused one ends in {seconds:,} s",
                limit=self._most,
                headers={"Retry-After": str(seconds)},
            )

    def hold(self, model: str, stream: Stream) -> HeldStream:
        """Keep a stream. Raises RefusalError where there is no room."""
        self.check_room()
        held = HeldStream(secrets.token_urlsafe(18), model, stream, self._clock())
        self._held[held.id] = held
        return held

    def get(self, stream_id: str) -> HeldStream:
        """A stream, which is in use from now on. Raises RefusalError if it is not there."""
        self.expire()
        held = self._held.get(stream_id)
        if held is None:
            raise RefusalError(
                NOT_FOUND,
                f"no stream {stream_id[:60]!r}: it was never opened, was deleted, was not used for "
                f"{self.idle_seconds:g} s, or the service has been started anew",
                field="stream_id",
            )
        held.used = self._clock()
        return held

    def drop(self, stream_id: str) -> None:
        """Forget a stream. Raises RefusalError if it is not there."""
        del self._held[self.get(stream_id).id]

    def expire(self) -> None:
        """Forget the streams that were not used for long."""
        oldest = self._clock() - self.idle_seconds
        for stream_id in [one.id for one in self._held.values() if one.used < oldest]:
            del self._held[stream_id]
