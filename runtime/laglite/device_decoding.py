"""Decoding on a device: many series' sample paths drawn by one graph, launched once a step.

The host encodes, draws the first value of every path from the prefill's arguments, and has the
device draw the rest; it then reads all values and arguments at once, from which it makes the finer
draws. Randomness is that of `decoding.sample_paths`, so that values agree to rounding.
"""

from __future__ import annotations

import bisect
import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from laglite.backends.device import Capacity, Device, gigabytes
from laglite.batch import Paths
from laglite.decoding import PathRequest, fine_draws, in_data_units
from laglite.device_workspace import Workspace
from laglite.errors import BackendError, CapacityError, DeviceMemoryError, naming
from laglite.heads import HEADS
from laglite.rope import adapted_length
from laglite.spec import ModelSpec

Array = NDArray[np.float32]

MOST_SERIES = 256  # in one launch
SHARE = 0.8  # of the memory found free, for buffers and what the engine needs beside them
MOST_NUMBERS = 2**31 - 1  # in one tensor: kernels of CUDA count them in 32 bits
MOST_KEPT = 8  # workspaces; engines hold more for each than what is counted here
# Sizes are rounded up to these multiples, and series to powers of two: programs are costly to make.
CONTEXT_ROUND, STEPS_ROUND = 32, 8


class DeviceSampler:
    """Draws on `device`, and keeps its buffers and programs for batches of a size seen before.

    Threads may share it: the device serves one batch at a time, on a thread of its own, since
    onnxruntime captures a CUDA graph anew in each thread and keeps it until the session ends.
    """

    def __init__(self, device: Device, spec: ModelSpec, threads: int) -> None:
        """`threads` make the finer draws on the host."""
        self._device, self._spec, self._threads = device, spec, threads
        self._worker, self._process = ThreadPoolExecutor(1, "laglite-device"), os.getpid()
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
        Raises CapacityError for more than the engine's fixed sizes, DeviceMemoryError, which says
        what would fit, and LagliteError for values that are not finite.
        """
        if os.getpid() != self._process:
            raise BackendError(
                "this process was forked from one that had the model on a device, which CUDA does "
                "not support: load the model after the fork, or start processes by 'spawn'"
            )
        drawn = self._worker.submit(self._draw, requests).result()

        def finish(row: int) -> Paths:
            return _finish(self._spec, requests[row], drawn[row])

        if len(requests) == 1:
            return [finish(0)]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(finish, range(len(requests))))

    def _draw(self, requests: Sequence[PathRequest]) -> dict[int, _Drawn]:
        """What the device drew for each row."""
        drawn: dict[int, _Drawn] = {}
        while len(drawn) < len(requests):
            left = [row for row in range(len(requests)) if row not in drawn]
            for size, rows in self._parts(requests, left):
                found = self._decode_alone(size, [requests[row] for row in rows])
                if found is None:
                    break  # and go on with fewer at a time
                drawn.update(zip(rows, found, strict=True))
        return drawn

    def _decode_alone(self, size: Capacity, requests: Sequence[PathRequest]) -> list[_Drawn] | None:
        """`_decode`, and where there is no room, again without what is kept for other sizes.

        None where there is none even so, and fewer series may fit, as the budget then says.
        """
        while True:
            try:
                return self._decode(size, requests)
            except DeviceMemoryError as error:
                if not self._kept:
                    if size.series == 1 or self._device.capacity is not None:
                        raise self._too_large(size, error) from error
                    self._budget = size.series // 2 * self._series_bytes(size, size.paths)
                    return None
            self._kept.clear()  # here, where the error no longer holds what it could not fill

    def _parts(
        self, requests: Sequence[PathRequest], left: Sequence[int]
    ) -> Iterator[tuple[Capacity, list[int]]]:
        """Which of the rows `left` to decode together, and the size of the workspace for them.

        What goes together has the same grouping of paths, and rotary rows that agree.
        """
        alike: dict[tuple[int | None, bytes], list[int]] = {}
        for row in left:
            request = requests[row]
            length = len(request.prompt.tokens) + request.noise.horizon - 1
            key = adapted_length(self._spec, length), request.noise.groups.tobytes()
            alike.setdefault(key, []).append(row)
        for rows in alike.values():
            size = self._size([requests[row] for row in rows])
            each = -(-len(rows) // -(-len(rows) // size.series))
            if self._device.capacity is None:
                series = min(size.series, 1 << (each - 1).bit_length())
                size = dataclasses.replace(size, series=series)
            for begin in range(0, len(rows), each):
                yield size, rows[begin : begin + each]

    def _size(self, requests: Sequence[PathRequest]) -> Capacity:
        """The most series that go together, and what holds the requests' other sizes."""
        needed = Capacity(
            series=1,
            paths=max(request.noise.paths for request in requests),
            context=max(len(request.prompt.tokens) for request in requests),
            # The graph writes the value after the one it reads.
            steps=max(2, *(request.noise.horizon for request in requests)),
        )
        capacity = self._device.capacity
        if capacity is None:
            rounded = dataclasses.replace(
                needed,
                context=-(-needed.context // CONTEXT_ROUND) * CONTEXT_ROUND,
                steps=-(-needed.steps // STEPS_ROUND) * STEPS_ROUND,
            )
            most = min(MOST_SERIES, MOST_NUMBERS // largest_tensor(self._spec, rounded))
            if most == 0:
                raise CapacityError(
                    f"{needed.paths:,} paths of {needed.context:,} prompt tokens and "
                    f"{needed.steps:,} steps need a tensor of more than {MOST_NUMBERS:,} numbers, "
                    "which CUDA's kernels cannot count; ask for fewer, or use backend 'cpu'"
                )
            if self._budget is not None:
                most = min(most, self._budget // series_bytes(self._spec, self._device, rounded))
            return dataclasses.replace(rounded, series=max(1, most))
        excess = capacity.exceeded_by(needed)
        if excess is not None:
            raise CapacityError(
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
            # The largest of a floor and what is not a number may be the floor on a device.
            scaled[~np.isfinite(own).all(axis=1)] = np.nan
            found.append(_Drawn(scaled.T, own))
        # What is not finite would stay in the caches, and get into other series by a mask's zeros.
        if np.isfinite(values).all() and np.isfinite(arguments).all():
            self._kept[size] = workspace
        return found

    def _too_large(self, size: Capacity, error: DeviceMemoryError) -> DeviceMemoryError:
        """The error of a batch of `size`, with what would fit."""
        needed = size.series * self._series_bytes(size, size.paths)
        text = (
            f"{size.series:,} series x {size.paths:,} paths of {size.context:,} prompt tokens and "
            f"{size.steps:,} steps need about {gigabytes(needed)}: {error}"
        )
        if self._budget is not None:
            budget = min(self._budget, needed - 1)  # what was tried does not fit
            fewer = range(1, size.paths + 1)
            takes = partial(self._series_bytes, size)
            paths = max(1, bisect.bisect_right(fewer, budget, key=takes))
            series = budget // takes(paths)
            text += f"; about {series:,} series x {paths:,} paths fit"
        return DeviceMemoryError(text)

    def _series_bytes(self, size: Capacity, paths: int) -> int:
        return series_bytes(self._spec, self._device, dataclasses.replace(size, paths=paths))

    def _workspace(self, size: Capacity) -> Workspace:
        """A new one, after old ones have made room for it."""
        while self._kept and (len(self._kept) == MOST_KEPT or self._crowded(size)):
            del self._kept[next(iter(self._kept))]
        return Workspace(self._device, self._spec, size)

    def _crowded(self, size: Capacity) -> bool:
        """Whether a workspace of `size` does not fit beside those that are kept."""
        if self._budget is None:
            return False
        sizes = (size, *self._kept)
        total = sum(each.series * series_bytes(self._spec, self._device, each) for each in sizes)
        return total > self._budget


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
    with naming(request.series):
        return in_data_units(spec, request, drawn.scaled, shown)


def series_bytes(spec: ModelSpec, device: Device, size: Capacity) -> int:
    """About what one series of a batch takes: caches, what is written and read, intermediates."""
    number = np.dtype(device.cache_dtype).itemsize
    caches = 2 * spec.num_layers * spec.width * (size.context + 1 + size.paths * size.steps)
    drawn = size.steps * size.paths * (3 + len(spec.arguments))
    # Of each graph, which keep theirs: scores, their softmax and a copy; a layer's widest rows.
    row = 4 * spec.width + 3 * spec.mlp_width
    prompt = size.context * (3 * spec.num_heads * (size.context + 1) + row)
    step = size.paths * (3 * spec.num_heads * (size.context + size.steps) + row + 3 * size.paths)
    wide = 4 if number == 4 else 5  # bytes, with the halves that products take
    return number * caches + 4 * drawn + wide * (prompt + step)


def largest_tensor(spec: ModelSpec, size: Capacity) -> int:
    """Numbers in the largest tensor that holds one series of a batch."""
    scores = spec.num_heads * size.context * (size.context + 1)
    caches = spec.width * size.paths * size.steps
    rows = max(spec.mlp_width, spec.num_heads * (size.context + size.steps), size.paths)
    return max(scores, caches, size.paths * rows)
