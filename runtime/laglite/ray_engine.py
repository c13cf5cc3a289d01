"""Forecasts on several machines: the batches of a run as tasks of a Ray cluster.

This process reads the series and writes the forecasts; workers only compute. The model, the
batches and their forecasts travel through Ray's object store, so that no disk is shared.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from laglite.bundle import Bundle
from laglite.errors import InputError, LagliteError, missing
from laglite.forecast_run import Batch, BatchForecasts, ForecastRun
from laglite.forecaster import available_cores
from laglite.ray_worker import bundle_bytes
from laglite.version import __version__

BATCHES_A_WORKER = 3  # handed out at once: one is computed, the others bridge unequal durations
RETRIES = 3  # of a batch whose worker was lost
CONNECT_SECONDS = 5.0


class RayEngine:
    """Computes on every CPU of the Ray cluster this process is connected to."""

    def __init__(self, ray: Any, bundle: Bundle, precision: str, threads: int) -> None:
        """A worker is a process with the model loaded, on `threads` CPUs.

        Raises InputError if no machine has so many.
        """
        machines = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        workers = sum(int(cpus // threads) for cpus in machines)
        if not workers:
            raise InputError(
                f"threads {threads}: no machine of the Ray cluster has so many CPUs; the largest "
                f"has {max(machines, default=0):g}"
            )
        self.bundle, self._ray = bundle, ray
        self._most = BATCHES_A_WORKER * workers
        self._model = [ray.put(bundle_bytes(bundle))]  # in a list: fetched once a process only
        self._options = precision, threads
        task = ray.remote(num_cpus=threads, max_retries=RETRIES)
        self._task = task(_forecast_there(__version__))

    def forecasts(
        self, run: ForecastRun, batches: Iterable[Batch], seed: int
    ) -> Iterator[BatchForecasts]:
        """See `Engine.forecasts`; a bounded number of batches is under way at once."""
        waiting: deque[Any] = deque()
        for batch in batches:
            work = pickle.dumps((run, batch, seed))
            waiting.append(self._task.remote(self._model, *self._options, work))
            if len(waiting) == self._most:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def _result(self, reference: Any) -> BatchForecasts:
        """Wait for a batch. Errors of a worker come out as they would here, others as one line."""
        errors = self._ray.exceptions
        try:
            result: BatchForecasts | str = self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, LagliteError):
                raise error.cause from None
            kind, reason = type(error.cause).__name__, _first_line(error.cause)
            raise LagliteError(f"a Ray worker failed: {kind}: {reason}") from error
        except errors.RayError as error:
            raise LagliteError(
                f"the Ray cluster lost a batch (attempts: {RETRIES + 1}): {_first_line(error)}; "
                "run the command again: a long file's finished parts are kept"
            ) from error
        if isinstance(result, str):
            raise LagliteError(result)
        return result


@contextmanager
def ray_engine(
    address: str | None, bundle: Bundle, precision: str, threads: int
) -> Iterator[RayEngine]:
    """An engine on the cluster at `address`, or on a Ray started here for as long as it is used.

    `address` is HOST:PORT of the cluster's head, or "auto" for the cluster that this machine is
    part of. Raises BundleError for an unknown precision, MissingDependencyError without Ray,
    InputError for an address without a cluster.
    """
    bundle.precision(precision)
    if address is not None:
        _check_reachable(address)
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # fail in a minute, not in ten
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        import ray
    except ModuleNotFoundError as error:
        raise missing("ray", "ray", "forecasting on several machines") from error
    quiet: dict[str, Any] = {"logging_level": "critical", "log_to_driver": False}
    with redirect_stdout(sys.stderr):  # Ray prints there that a worker was lost
        try:
            if address is None:
                cores = available_cores()
                ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
            else:
                ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            where = "a local Ray" if address is None else f"the Ray cluster at {address}"
            token = "" if address is None else "; one with tokens needs RAY_AUTH_MODE=token here"
            raise InputError(f"{where} cannot be used: {_first_line(error)}{token}") from error
        try:
            yield RayEngine(ray, bundle, precision, threads)
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing answers: Ray would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise InputError(
            f"--address {address!r}: write HOST:PORT of the Ray cluster's head, or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers there ({error}); is its head running, "
            "and is the port (6379 unless chosen) open?"
        ) from error


def _forecast_there(version: str) -> Callable[[Sequence[Any], str, int, bytes], Any]:
    """What a task runs: forecasts, or text that says why its machine cannot take part.

    A nested function travels as code, and its work as bytes: both arrive, and can answer, where
    laglite is absent or another version.
    """

    def forecast_there(model: Sequence[Any], precision: str, threads: int, work: bytes) -> Any:
        import socket

        try:
            from laglite.version import __version__ as there
        except ModuleNotFoundError:
            there = ""
        if there != version:
            has = f"laglite {there}" if there else "no laglite"
            return (
                f"the machine {socket.gethostname()} of the Ray cluster has {has}, and this one "
                f"{version}: install the same version everywhere"
            )
        from laglite.ray_worker import forecast_pickled

        return forecast_pickled(model, precision, threads, work)

    return forecast_there


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .:") if lines else type(error).__name__
