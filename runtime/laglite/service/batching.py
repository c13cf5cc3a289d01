"""Micro-batching: requests that wait at the same time and ask for the same are forecast together.

The head of the queue always goes next; what else waits for the same model, horizon, samples and
context goes with it by one `predict_batch`, up to limits of steps and draws. Each request has its
own seed, so that its samples do not depend on its company.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.forecast import Forecast
from laglite.forecaster import Forecaster
from laglite.service.metrics import Metrics
from laglite.service.problems import overloaded
from laglite.service.settings import Limits


@dataclass(frozen=True)
class BatchKey:
    """What requests must have in common to be forecast together."""

    model: str
    horizon: int
    samples: int
    context: int | None
    nonnegative: bool


@dataclass(frozen=True)
class SeriesInput:
    """A checked series: values float64 [length], NaN where missing."""

    values: NDArray[np.float64]
    start: str | None
    freq: str | None
    covariates: Any
    item_id: str | None


@dataclass
class Job:
    """A request in the queue."""

    key: BatchKey
    series: Sequence[SeriesInput]
    seed: int
    latest: float
    answer: asyncio.Future[list[Forecast]] = field(default_factory=asyncio.Future)

    @property
    def steps(self) -> int:
        return len(self.series) * self.key.horizon


Outcome = list[Forecast] | Exception  # of a job


class Batcher:
    """The queue of forecasts, and the thread that computes them.

    The queue is bounded by the requests that the service admits.
    """

    def __init__(
        self, forecasters: Mapping[str, Forecaster], limits: Limits, metrics: Metrics
    ) -> None:
        self._forecasters, self._limits, self._metrics = forecasters, limits, metrics
        self._waiting: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, "forecast")
        metrics.waiting.set_function(lambda: len(self._waiting))

    async def forecast(
        self, key: BatchKey, series: Sequence[SeriesInput], seed: int
    ) -> list[Forecast]:
        """A request's forecasts. Raises LagliteError; RefusalError after too long a wait."""
        job = Job(key, series, seed, time.monotonic() + self._limits.wait_seconds)
        self._waiting.append(job)
        self._arrived.set()
        return await job.answer

    async def run(self) -> None:
        """Compute batches until `close`, and then until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(self._limits.gather_seconds)
                continue
            jobs = self._take()
            if jobs:
                outcomes = await loop.run_in_executor(self._thread, self._compute, jobs)
                for job, outcome in zip(jobs, outcomes, strict=True):
                    _answer(job, outcome)
        self._thread.shutdown()

    def close(self) -> None:
        """Let `run` end once nothing waits."""
        self._closing = True
        self._arrived.set()

    def _take(self) -> list[Job]:
        """The first job that has not waited too long, and those that go with it."""
        taken: list[Job] = []
        left: deque[Job] = deque()
        now, steps = time.monotonic(), 0
        for job in self._waiting:
            if job.answer.done():  # whoever asked has gone
                continue
            if now > job.latest:
                seconds = self._limits.wait_seconds
                _answer(job, overloaded(f"waited {seconds:g} s without being computed"))
            elif not taken or (job.key == taken[0].key and self._fits(job, steps)):
                taken.append(job)
                steps += job.steps
            else:
                left.append(job)
        self._waiting = left
        return taken

    def _fits(self, job: Job, steps: int) -> bool:
        """Whether a batch that has `steps` may take a job of the same key."""
        steps += job.steps
        return steps <= self._limits.steps and steps * job.key.samples <= self._limits.draws

    def _compute(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Together; or each alone where one of them cannot be forecast."""
        began = time.perf_counter()
        try:
            outcomes: list[Outcome] = [*self._together(jobs)]
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            return [outcome for job in jobs for outcome in self._compute([job])]
        model = jobs[0].key.model
        self._metrics.batch_requests.observe(len(jobs))
        self._metrics.batch_seconds.labels(model).observe(time.perf_counter() - began)
        self._metrics.series.labels(model).inc(sum(len(job.series) for job in jobs))
        return outcomes

    def _together(self, jobs: Sequence[Job]) -> list[list[Forecast]]:
        key = jobs[0].key
        series = [one for job in jobs for one in job.series]
        forecasts = iter(
            self._forecasters[key.model].predict_batch(
                [one.values for one in series],
                horizon=key.horizon,
                start=[one.start for one in series],
                freq=[one.freq for one in series],
                covariates=[one.covariates for one in series],
                num_samples=key.samples,
                context_length=key.context,
                seed=[job.seed for job in jobs for _ in job.series],
                nonnegative=key.nonnegative,
                item_ids=[one.item_id for one in series],
            )
        )
        return [[next(forecasts) for _ in job.series] for job in jobs]


def _answer(job: Job, outcome: Outcome) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # whoever asked has gone
        if isinstance(outcome, list):
            job.answer.set_result(outcome)
        else:
            job.answer.set_exception(outcome)
