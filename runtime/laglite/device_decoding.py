"""Decoding on a device: many series' sample paths drawn by one graph, launched once a step.

The host encodes, draws the first value of every path from the prefill's arguments, and has the
device draw the rest; it then reads all values and arguments at once, from which it makes the finer
draws. Randomness is that of `decoding.sample_paths`, so that values agree to rounding.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from laglite.backends.device import Capacity, Device
from laglite.batch import Paths
from laglite.decoding import PathRequest, fine_draws, in_data_units
from laglite.device_workspace import Workspace
from laglite.errors import BackendError
from laglite.heads import HEADS
from laglite.rope import adapted_length
from laglite.spec import ModelSpec

Array = NDArray[np.float32]

MOST_SERIES = 256  # in one launch
SHARE = 0.8  # of the memory found free, for buffers and what the engine needs beside them


class DeviceSampler:
    """Draws on `device`, and keeps its buffers and programs for batches of a size seen before.

    Threads may share it: the device serves one batch at a time.
    """

    def __init__(self, device: Device, spec: ModelSpec, threads: int) -> None:
        """`threads` make the finer draws on the host."""
        self._device, self._spec, self._threads = device, spec, threads
        self._lock = threading.Lock()
        self._kept: dict[Capacity, Workspace] = {}  # the last used last
        free = device.free_bytes()
        self._budget = None if free is None else int(SHARE * free)

    def chunks(self, count: int) -> Iterator[range]:
        """Rows 0 .. count - 1 in parts that are worth encoding on the host at once."""
        for begin in range(0, count, MOST_SERIES):
            yield range(begin, min(count, begin + MOST_SERIES))

    def sample(self, requests: Sequence[PathRequest]) -> list[Paths]:
        """Sample paths of every request, as `decoding.sample_paths` returns them.

        Requests of any lengths and horizons are decoded together, as many as the device holds.
        Raises BackendError for more than the engine's fixed sizes, and LagliteError for values
        that are not finite.
        """
        drawn: dict[int, _Drawn] = {}
        with self._lock:
            for size, rows in self._parts(requests):
                found = self._decode(size, [requests[row] for row in rows])
                drawn.update(zip(rows, found, strict=True))

        def finish(row: int) -> Paths:
            return _finish(self._spec, requests[row], drawn[row])

        if len(requests) == 1:
            return [finish(0)]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(finish, range(len(requests))))

    def _parts(self, requests: Sequence[PathRequest]) -> Iterator[tuple[Capacity, list[int]]]:
        """Rows to decode together, and the size of the workspace for them.

        What goes together has the same grouping of paths, and rotary rows that agree.
        """
        alike: dict[tuple[int | None, bytes], list[int]] = {}
        for row, request in enumerate(requests):
            length = len(request.prompt.tokens) + request.noise.horizon - 1
            key = adapted_length(self._spec, length), request.noise.groups.tobytes()
            alike.setdefault(key, []).append(row)
        for rows in alike.values():
            size = self._size([requests[row] for row in rows])
            parts = -(-len(rows) // size.series)
            each = -(-len(rows) // parts)
            if self._device.capacity is None:
                size = dataclasses.replace(size, series=each)
            for begin in range(0, len(rows), each):
                yield size, rows[begin : begin + each]

    def _size(self, requests: Sequence[PathRequest]) -> Capacity:
        """The most series that go together, and the largest of the requests' other sizes."""
        needed = Capacity(
            series=1,
            paths=max(request.noise.paths for request in requests),
            context=max(len(request.prompt.tokens) for request in requests),
            # The graph writes the value after the one it reads.
            steps=max(2, *(request.noise.horizon for request in requests)),
        )
        capacity = self._device.capacity
        if capacity is None:
            most = MOST_SERIES
            if self._budget is not None:
                most = min(most, self._budget // series_bytes(self._spec, self._device, needed))
            return dataclasses.replace(needed, series=max(1, most))
        excess = capacity.exceeded_by(needed)
        if excess is not None:
            raise BackendError(
                f"{excess} that the engine was compiled for; compile a larger one with laglite "
                "compile, or ask for less"
            )
        return capacity

    def _decode(self, size: Capacity, requests: Sequence[PathRequest]) -> list[_Drawn]:
        spec, head = self._spec, HEADS[self._spec.head]
        workspace = self._kept.pop(size, None) or self._workspace(size)
        start = workspace.prefill(requests)
        first: list[Array] = []
        with np.errstate(over="ignore", invalid="ignore"):  # refused later where not finite
            for row, request in enumerate(requests):
                noise, window = request.noise, request.prompt.window
                own = {name: np.full(noise.paths, values[row]) for name, values in start.items()}
                uniforms = noise.uniforms(0, slice(0, noise.paths), None)
                draws = np.maximum(head.sample(own, uniforms, window), request.floor)
                first.append(draws.astype(np.float32))
        if all(request.noise.horizon == 1 for request in requests):
            values = np.zeros((1, len(requests), size.paths), np.float32)
            arguments = np.zeros((1, len(spec.arguments), len(requests), size.paths), np.float32)
        else:
            values, arguments = workspace.decode(requests, first)
        found = []
        for row, request in enumerate(requests):
            noise = request.noise
            scaled = values[: noise.horizon, row, : noise.paths].copy()
            scaled[0] = first[row]
            own = arguments[: noise.horizon, :, row, : noise.paths].copy()
            own[0] = np.array([start[name][row] for name in spec.arguments])[:, None]
            found.append(_Drawn(scaled.T, own))
        # What is not finite would stay in the caches, and get into other series by a mask's zeros.
        if np.isfinite(values).all() and np.isfinite(arguments).all():
            self._kept[size] = workspace
        return found

    def _workspace(self, size: Capacity) -> Workspace:
        """A new one, after old ones have made room for it."""
        if self._budget is not None:
            needed = size.series * series_bytes(self._spec, self._device, size)
            while self._kept and needed + self._kept_bytes() > self._budget:
                del self._kept[next(iter(self._kept))]
        return Workspace(self._device, self._spec, size)

    def _kept_bytes(self) -> int:
        return sum(
            size.series * series_bytes(self._spec, self._device, size) for size in self._kept
        )


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """One request's scaled values [paths, horizon] and arguments [horizon, arguments, paths]."""

    scaled: Array
    arguments: Array


def _finish(spec: ModelSpec, request: PathRequest, drawn: _Drawn) -> Paths:
    """The finer draws, and all in data units."""
    whole = slice(0, request.noise.paths)
    fine: list[NDArray[np.float64]] = []
    with np.errstate(over="ignore", invalid="ignore"):
        for step, rows in enumerate(drawn.arguments):
            arguments = dict(zip(spec.arguments, rows, strict=True))
            fine += fine_draws(spec, request, step, whole, arguments)
    shown = np.array(fine, np.float32).reshape(request.noise.horizon, -1, request.noise.paths)
    return in_data_units(spec, request, drawn.scaled, shown)


def series_bytes(spec: ModelSpec, device: Device, size: Capacity) -> int:
    """About what one series of a batch takes: caches, what is written and read, intermediates."""
    number = np.dtype(device.cache_dtype).itemsize
    caches = 2 * spec.num_layers * spec.width * (size.context + 1 + size.paths * size.steps)
    drawn = size.steps * size.paths * (3 + len(spec.arguments))
    # Scores, their softmax and a copy; and the widest rows of a layer.
    row = 4 * spec.width + 3 * spec.mlp_width
    prompt = size.context * (3 * spec.num_heads * (size.context + 1) + row)
    step = size.paths * (3 * spec.num_heads * (size.context + size.steps) + row + 3 * size.paths)
    return number * caches + 4 * (drawn + max(prompt, step))
