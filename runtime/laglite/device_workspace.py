"""Workspaces: the buffers and programs by which a device decodes batches of one size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.backends.device import DEVICE_STEP, PREFILL, Buffer, Capacity, Device, Program
from laglite.decoding import PathRequest
from laglite.kv_cache import empty_prompts
from laglite.spec import ModelSpec

Array = NDArray[np.float32]
LOWEST = float(np.finfo(np.float32).min)  # where there is no floor


class Workspace:
    """Memory and programs for batches of exactly `size`, used again by one batch after another."""

    def __init__(self, device: Device, spec: ModelSpec, size: Capacity) -> None:
        self._device, self._spec, self.size = device, spec, size
        dtype, heads, dim = device.cache_dtype, spec.num_heads, spec.head_dim
        length = size.context + 1
        keys, values = (size.series, heads, dim + 1, length), (size.series, heads, length, dim)
        self._prompts: dict[str, Buffer] = {}
        for layer in range(spec.num_layers):
            self._prompts[f"prompt_key_{layer}"] = device.allocate(keys, dtype)
            self._prompts[f"prompt_value_{layer}"] = device.allocate(values, dtype)
        self._tokens = self._buffers(
            {
                "tokens": (size.series, size.context, spec.num_features),
                "cos": (size.context, dim // 2),
                "sin": (size.context, dim // 2),
            }
        )
        self._first = self._buffers(
            {f"param_{name}": (size.series, size.context) for name in spec.arguments}
        )
        self._prefill = device.program(
            PREFILL, {**self._tokens, **self._border(), **self._prompts, **self._first}
        )

    def prefill(self, requests: Sequence[PathRequest]) -> dict[str, Array]:
        """Encode the prompts; returns the head's arguments after each, [requests] by name."""
        for name, array in prompt_inputs(self._spec, self.size, requests).items():
            self._tokens[name].write(array)
        self._prefill.launch()
        last = [len(request.prompt.tokens) - 1 for request in requests]
        rows = np.arange(len(requests))
        return {
            name: self._first[f"param_{name}"].read()[rows, last] for name in self._spec.arguments
        }

    def decode(
        self, requests: Sequence[PathRequest], first: Sequence[Array]
    ) -> tuple[Array, Array]:
        """Draw what follows the `first` values, [paths] of each request, after `prefill`.

        Returns scaled values [steps, series, paths] and the head's arguments [steps, arguments,
        series, paths]; row 0 of the latter is empty.
        """
        launches = max(request.noise.horizon for request in requests) - 1
        buffers, program = self._steps
        for name, array in step_inputs(self._spec, self.size, requests, first).items():
            buffers[name].write(array)
        for _ in range(launches):
            program.launch()
        return buffers["values"].read(), buffers["arguments"].read()

    def follow(self, request: PathRequest, values: Array) -> tuple[Array, Array]:
        """Feed scaled `values` [horizon, paths] as if drawn after `prefill` of one request.

        Returns the values that were drawn, and the arguments, as `decode` does; row 0 of both is
        empty.
        """
        buffers, program = self._steps
        inputs = step_inputs(self._spec, self.size, [request], [values[0]])
        for name, array in inputs.items():
            buffers[name].write(array)
        drawn, given = np.zeros_like(inputs["values"]), inputs["values"]
        for step, row in enumerate(values[:-1]):
            given[step, 0, : len(row)] = row
            buffers["values"].write(given)
            program.launch()
            drawn[step + 1] = buffers["values"].read()[step + 1]
        return drawn, buffers["arguments"].read()

    @cached_property
    def _steps(self) -> tuple[dict[str, Buffer], Program]:
        """Made when first needed: a horizon of one takes the prefill alone."""
        spec, size = self._spec, self.size
        drawn = (size.steps, size.series, size.paths)
        inputs = {
            name: self._device.allocate(array.shape, str(array.dtype))
            for name, array in empty_inputs(spec, size).items()
        }
        inputs["arguments"] = self._device.allocate(
            (size.steps, len(spec.arguments), *drawn[1:]), "float32"
        )
        shape = (size.series, size.paths, spec.num_heads, size.steps, spec.head_dim)
        caches = {
            f"suffix_{part}_{layer}": self._device.allocate(shape, self._device.cache_dtype)
            for layer in range(spec.num_layers)
            for part in ("key", "value")
        }
        program = self._device.program(DEVICE_STEP, {**inputs, **caches, **self._prompts})
        return inputs, program

    def _buffers(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Buffer]:
        return {name: self._device.allocate(shape, "float32") for name, shape in shapes.items()}

    def _border(self) -> dict[str, Buffer]:
        """What comes before the first token of every prompt; all layers read the same."""
        found: dict[str, Buffer] = {}
        ((keys, values), *_) = empty_prompts(self._spec, self.size.series, self._device.cache_dtype)
        for part, array in (("key", keys), ("value", values)):
            buffer = self._device.allocate(array.shape, str(array.dtype))
            buffer.write(array)
            found |= {f"past_{part}_{layer}": buffer for layer in range(self._spec.num_layers)}
        return found


def prompt_inputs(
    spec: ModelSpec, size: Capacity, requests: Sequence[PathRequest]
) -> dict[str, Array]:
    """The prefill's inputs, with shorter prompts padded on the right."""
    tokens = np.zeros((size.series, size.context, spec.num_features), np.float32)
    for row, request in enumerate(requests):
        tokens[row, : len(request.prompt.tokens)] = request.prompt.tokens
    longest = max(requests, key=lambda request: len(request.prompt.tokens))
    count = len(longest.prompt.tokens)
    cos, sin = np.zeros((2, size.context, spec.head_dim // 2), np.float32)
    cos[:count], sin[:count] = (table[:count] for table in longest.rotary(spec))
    return {"tokens": tokens, "cos": cos, "sin": sin}


def empty_inputs(spec: ModelSpec, size: Capacity) -> dict[str, NDArray[Any]]:
    """The step's inputs that the host writes, of a batch without series or paths."""
    series, drawn = size.series, (size.steps, size.series, size.paths)
    rotary = (size.steps, series, spec.head_dim // 2)
    shapes: dict[str, tuple[int, ...]] = {
        "values": drawn,
        "log_uniform": drawn,
        "cosine": drawn,
        "static": (series, spec.num_static),
        "cos": rotary,
        "sin": rotary,
        "prompt_mask": (series, size.context + 1),
    }
    if spec.max_lag:
        shapes["window"] = (series, spec.max_lag)
    if spec.num_known:
        shapes["known"] = (size.steps, series, spec.num_known)
    if spec.regression:
        shapes["regression_weights"] = (series, spec.num_lags)
        shapes["regression_bounds"] = (series, 2)
    inputs: dict[str, NDArray[Any]] = {
        name: np.zeros(shape, np.float32) for name, shape in shapes.items()
    }
    inputs["floor"] = np.full(series, LOWEST, np.float32)
    inputs["step"] = np.zeros(1, np.int64)
    inputs["lags"] = np.full((series, spec.num_lags), -1, np.int64)
    inputs["groups"] = np.arange(size.paths)
    return inputs


def step_inputs(
    spec: ModelSpec, size: Capacity, requests: Sequence[PathRequest], first: Sequence[Array]
) -> dict[str, NDArray[Any]]:
    """The step's inputs for requests of one grouping, with `first` values [paths] each drawn."""
    inputs = empty_inputs(spec, size)
    groups = requests[0].noise.groups
    inputs["groups"][: len(groups)] = groups
    inputs["groups"][len(groups) :] = groups[-1] + 1  # paths beyond them, which nobody reads
    for row, (request, drawn) in enumerate(zip(requests, first, strict=True)):
        prompt, noise = request.prompt, request.noise
        count, paths, following = len(prompt.tokens), noise.paths, noise.horizon - 1
        inputs["values"][0, row, :paths] = drawn
        points = noise.points()
        inputs["log_uniform"][: noise.horizon, row, :paths] = np.log(points[:, 0])
        inputs["cosine"][: noise.horizon, row, :paths] = np.cos(2 * math.pi * points[:, 1])
        inputs["static"][row] = prompt.tokens[0, spec.num_past : spec.num_past + spec.num_static]
        for name, table in zip(("cos", "sin"), request.rotary(spec), strict=True):
            inputs[name][:following, row] = table[count:]
        inputs["prompt_mask"][row, count + 1 :] = -np.inf
        if spec.max_lag:
            inputs["window"][row] = prompt.window.scaled[-spec.max_lag :]
        if spec.num_known:
            inputs["known"][:following, row] = request.known
        if prompt.regression is not None:
            fitted = prompt.regression
            inputs["regression_weights"][row] = fitted.weights
            inputs["regression_bounds"][row] = fitted.low, fitted.high
        if request.nonnegative:
            inputs["floor"][row] = request.floor
        inputs["lags"][row] = prompt.lags
    return inputs
