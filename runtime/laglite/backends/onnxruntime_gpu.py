"""onnxruntime on a GPU: prompts and suffixes stay in its memory, draws are the host's.

Each step takes the tokens up and the head's arguments down. The same code runs on any provider
and memory of onnxruntime, the CPU's too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.backends.append_graph import append_graph
from laglite.backends.cuda_driver import free_memory
from laglite.backends.device import DEVICE_STEP, PREFILL, Device, gigabytes
from laglite.backends.onnxruntime_device import (
    DTYPES,
    OrtBuffer,
    OrtProgram,
    OrtTensor,
    allocate,
    as_buffer,
    open_device,
    run_error,
)
from laglite.backends.onnxruntime_session import (
    GPU_LOCK,
    HIDDEN,
    TENSORRT_PROVIDER,
    Engine,
    open_session,
    require_states,
)
from laglite.backends.probe import LOOSE
from laglite.bundle import Bundle
from laglite.errors import BackendError, DeviceMemoryError
from laglite.kv_cache import empty_prompts
from laglite.spec import ModelSpec

Array = NDArray[np.float32]
CACHES = ("prompt_key", "prompt_value")


@dataclass(frozen=True)
class ResidentPrompt:
    """Keys and values of one series' prompt in the engine's memory, by the step's input names."""

    tensors: dict[str, OrtTensor]


class OnnxRuntimeGpu:
    """Prefill and steps on `engine`, one series' paths together."""

    parallel = False

    def __init__(
        self, bundle: Bundle, precision: str, engine: Engine, *, capture: bool = True
    ) -> None:
        """`capture` lets decoding on the device use CUDA graphs. Raises BackendError."""
        files = bundle.precision(precision)
        self.name, self._engine, self._spec = engine.backend, engine, bundle.spec
        self._prefill = open_session(files.prefill, engine)
        self._prefill_path = files.prefill
        self._step = open_session(files.step, engine)
        self._dtype = files.cache_dtype
        self._append = open_session(append_graph(self._spec, self._dtype), engine.plain())
        # TensorRT takes multiples of 256 bytes as addresses, where a series' part need not begin.
        self._apart = engine.provider == TENSORRT_PROVIDER
        self.device: Device | None = None
        # Nor does it promise that an output may lie where an input does.
        if files.device_step is not None and not self._apart:
            graphs = {PREFILL: files.prefill, DEVICE_STEP: files.device_step}
            allowed = LOOSE * files.tolerance
            self.device = open_device(engine, graphs, self._dtype, capture, allowed)

    def prefill(
        self, tokens: Array, cos: Array, sin: Array
    ) -> tuple[dict[str, Array], list[ResidentPrompt]]:
        """See `protocol.Backend.prefill`; in one launch, if caches may be parts of larger ones."""
        if not self._apart:
            return self._encode_prompts(tokens, cos, sin)
        found = [self._encode_prompts(each[None], cos, sin) for each in tokens]
        names = self._spec.arguments
        arguments = {name: np.concatenate([given[name] for given, _ in found]) for name in names}
        return arguments, [prompt for _, (prompt,) in found]

    def _encode_prompts(
        self, tokens: Array, cos: Array, sin: Array
    ) -> tuple[dict[str, Array], list[ResidentPrompt]]:
        """Prompts of one launch."""
        given = [output.name for output in self._prefill.get_outputs()]
        found = self._encode([name for name in given if name != HIDDEN], tokens, cos, sin)
        arguments = {name: found[f"param_{name}"].numpy() for name in self._spec.arguments}
        caches = {
            name: as_buffer(value, self._dtype, self._engine.memory, self._engine.backend)
            for name, value in found.items()
            if name.startswith(CACHES)
        }
        prompts = [
            ResidentPrompt({name: buffer.row(row) for name, buffer in caches.items()})
            for row in range(len(tokens))
        ]
        return arguments, prompts

    def embed(self, tokens: Array, cos: Array, sin: Array) -> Array:
        """See `protocol.Backend.embed`."""
        require_states(self._prefill, self._prefill_path)
        states: Array = self._encode([HIDDEN], tokens, cos, sin)[HIDDEN].numpy()
        return states

    def _encode(self, wanted: list[str], tokens: Array, cos: Array, sin: Array) -> dict[str, Any]:
        """The outputs `wanted` of a launch; caches stay in the engine's memory."""
        inputs: dict[str, NDArray[Any]] = {"tokens": tokens, "cos": cos, "sin": sin}
        for layer, (keys, values) in enumerate(empty_prompts(self._spec, len(tokens), self._dtype)):
            inputs |= {f"past_key_{layer}": keys, f"past_value_{layer}": values}
        try:
            with GPU_LOCK:
                binding = self._prefill.io_binding()
                for name, array in inputs.items():
                    binding.bind_cpu_input(name, np.ascontiguousarray(array))  # which copies it
                for name in wanted:
                    memory = self._engine.memory if name.startswith(CACHES) else "cpu"
                    binding.bind_output(name, memory)
                self._prefill.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            raise self._prefill_error(error, len(tokens)) from error
        return dict(zip(wanted, binding.get_outputs(), strict=True))

    def decoder(self, prompt: ResidentPrompt, paths: int, steps: int) -> ResidentDecoder:
        """See `protocol.Backend.decoder`. Raises DeviceMemoryError, which says what would fit."""
        sessions = self._step, self._append
        try:
            return ResidentDecoder(sessions, self._engine, self._spec, prompt, paths, steps)
        except DeviceMemoryError as error:
            free = free_memory() if self._engine.memory == "cuda" else None
            size = np.dtype(self._dtype).itemsize
            one = 2 * self._spec.num_layers * self._spec.width * size * max(1, steps)
            fitting = "" if free is None else f"; {free // one:,} paths fit at this horizon"
            raise DeviceMemoryError(
                f"{paths:,} paths of {steps + 1:,} steps need {gigabytes(paths * one)}: "
                f"{error}{fitting}"
            ) from error

    def _prefill_error(self, error: Exception, series: int) -> BackendError:
        found = run_error(self._engine.backend, error)
        if not isinstance(found, DeviceMemoryError):
            return found
        return DeviceMemoryError(f"encoding the prompts of {series:,} series at once: {found}")


class ResidentDecoder:
    """One series' decoding (see `protocol.Decoder`), with its caches in the engine's memory."""

    def __init__(
        self,
        sessions: tuple[Any, Any],
        engine: Engine,
        spec: ModelSpec,
        prompt: ResidentPrompt,
        paths: int,
        steps: int,
    ) -> None:
        step, append = sessions
        self._spec, self._length = spec, 0
        sizes: dict[str | int, int] = {"paths": paths, "capacity": max(1, steps)}

        def memory(tensor: Any, where: str) -> OrtBuffer:
            shape = tuple(sizes.get(size, size) for size in tensor.shape)
            return allocate(where, shape, DTYPES[tensor.type], engine.backend)

        own = [given for given in step.get_inputs() if given.name not in prompt.tensors]
        self._inputs = {given.name: memory(given, engine.memory) for given in own}
        results = step.get_outputs()
        new = {
            output.name: memory(output, engine.memory)
            for output in results
            if output.name.startswith("new_")
        }
        self._arguments = {
            output.name: memory(output, "cpu")
            for output in results
            if output.name.startswith("param_")
        }
        place = next(given for given in append.get_inputs() if given.name == "place")
        self._place = memory(place, engine.memory)
        rows = {
            name: buffer.reshape(paths, spec.num_heads, 1, spec.head_dim)
            for name, buffer in new.items()
        }
        suffixes = {
            name: buffer
            for name, buffer in self._inputs.items()
            if name.startswith(("suffix_key", "suffix_value"))
        }
        tensors = prompt.tensors | self._inputs | new | self._arguments
        self._step = OrtProgram(step, engine, tensors)
        self._append = OrtProgram(append, engine, suffixes | rows | {"place": self._place})
        self._mask = np.full(self._inputs["suffix_mask"].shape, -np.inf, np.float32)
        self.tokens: Array = np.zeros((paths, spec.num_features), np.float32)

    def step(self, cos: Array, sin: Array) -> dict[str, Array]:
        """See `protocol.Decoder.step`."""
        self._inputs["tokens"].write(self.tokens)
        self._inputs["cos"].write(cos[None])
        self._inputs["sin"].write(sin[None])
        self._inputs["suffix_mask"].write(self._mask)
        self._step.launch()
        place = np.zeros(self._place.shape, np.bool_)
        place[self._length] = True
        self._place.write(place)
        self._append.launch()
        self._mask[self._length] = 0.0
        self._length += 1
        return {name: self._arguments[f"param_{name}"].read() for name in self._spec.arguments}
