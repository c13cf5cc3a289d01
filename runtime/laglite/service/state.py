"""What the endpoints share: models, limits, queue, lanes, streams and counters."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from laglite.errors import InputError
from laglite.forecaster import Forecaster
from laglite.service.batching import Batcher
from laglite.service.gate import Admission
from laglite.service.lane import Lane
from laglite.service.metrics import Metrics
from laglite.service.problems import INVALID, RefusalError
from laglite.service.settings import Limits
from laglite.service.streams import StreamRegistry

LONGEST_PAUSE = 60.0  # seconds between looks for idle streams


@dataclass
class ServiceState:
    """The state of one service. Threads run only within `running`."""

    forecasters: Mapping[str, Forecaster]
    precision: str
    limits: Limits
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        """Raises InputError without a model."""
        if not self.forecasters:
            raise InputError("a service needs at least one model")
        limits = self.limits
        self.admission = Admission(limits.requests, limits.bodies)
        self.streams = StreamRegistry(limits.streams, limits.stream_idle_seconds)
        self.metrics.streams.set_function(lambda: len(self.streams))
        self.metrics.in_flight.set_function(lambda: self.admission.admitted)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Queue and lanes at work; at the end, what waits is still computed."""
        self.batcher = Batcher(self.forecasters, self.limits, self.metrics)
        self.models_lane = Lane("models", self.limits.wait_seconds)  # scores, streams
        self.tables_lane = Lane("tables", self.limits.wait_seconds)
        work, tidying = asyncio.create_task(self.batcher.run()), asyncio.create_task(self._tidy())
        try:
            yield
        finally:
            self.batcher.close()
            await work
            tidying.cancel()
            self.models_lane.close()
            self.tables_lane.close()

    async def _tidy(self) -> None:
        """Let idle streams go."""
        while True:
            await asyncio.sleep(min(self.limits.stream_idle_seconds / 4, LONGEST_PAUSE))
            self.streams.expire()

    def choose(self, name: str | None) -> tuple[str, Forecaster]:
        """A model by its name, None for the first. Raises RefusalError."""
        chosen = next(iter(self.forecasters)) if name is None else name
        if chosen not in self.forecasters:
            raise RefusalError(
                INVALID, f"no model {chosen!r} is served here, but {', '.join(self.forecasters)}",
                field="model",
            )  # fmt: skip
        return chosen, self.forecasters[chosen]


async def _state(request: Request) -> ServiceState:
    return cast("ServiceState", request.app.state.service)


State = Annotated[ServiceState, Depends(_state)]
