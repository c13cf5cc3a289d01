"""onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.backends.device import Device
from laglite.backends.onnxruntime_session import (
    CPU,
    HIDDEN,
    import_onnxruntime,
    open_session,
    require_states,
)
from laglite.bundle import Bundle
from laglite.errors import BackendError
from laglite.kv_cache import Array as CacheArray
from laglite.kv_cache import PromptCache, SuffixCache, empty_prompts
from laglite.spec import ModelSpec

Array = NDArray[np.float32]
PIECE = 256  # tokens of a prompt encoded at once: its scores should fit the processor's cache


class OnnxRuntimeCpu:
    """Prefill on `threads` threads; steps on one, since the caller splits the paths."""

    name = "cpu"
    parallel = True
    device: Device | None = None

    def __init__(
        self, bundle: Bundle, precision: str, threads: int, traces: Path | None = None
    ) -> None:
        """`traces`, a folder, is where onnxruntime writes what each operator took, if given."""
        files = bundle.precision(precision)
        self._spec, self._cache_dtype = bundle.spec, files.cache_dtype
        self._prefill = open_session(
            files.prefill,
            CPU,
            precision=precision,
            threads=threads,
            trace=traces and traces / "prefill",
        )
        self._step = open_session(
            files.step, CPU, precision=precision, trace=traces and traces / "step"
        )
        if "past_key_0" not in {given.name for given in self._prefill.get_inputs()}:
            raise BackendError(
                f"{files.prefill}: the graph takes no past keys; a laglite before 0.1.0 exported "
                "it: export the model again"
            )
        self._prefill_path = files.prefill

    def end_traces(self) -> dict[str, Path]:
        """Write the traces, by graph: only after a run with `traces`."""
        sessions = {"prefill": self._prefill, "step": self._step}
        return {name: Path(session.end_profiling()) for name, session in sessions.items()}

    def prefill(
        self, tokens: Array, cos: Array, sin: Array
    ) -> tuple[dict[str, Array], list[PromptCache]]:
        names = self._spec.arguments
        found, past = self._encode([f"param_{name}" for name in names], tokens, cos, sin)
        caches = [
            PromptCache([keys[row] for keys, _ in past], [values[row] for _, values in past])
            for row in range(len(tokens))
        ]
        return dict(zip(names, found, strict=True)), caches

    def embed(self, tokens: Array, cos: Array, sin: Array) -> Array:
        """See `protocol.Backend.embed`."""
        require_states(self._prefill, self._prefill_path)
        (states,), _ = self._encode([HIDDEN], tokens, cos, sin)
        return states

    def _encode(
        self, wanted: Sequence[str], tokens: Array, cos: Array, sin: Array
    ) -> tuple[list[Array], list[tuple[CacheArray, CacheArray]]]:
        """The outputs `wanted`, [series, context, ...], and each layer's keys and values."""
        past = empty_prompts(self._spec, len(tokens), self._cache_dtype)
        layers = range(self._spec.num_layers)
        cached = [f"prompt_{part}_{layer}" for layer in layers for part in ("key", "value")]
        pieces: list[list[Array]] = []
        for begin in range(0, len(cos), PIECE):
            piece = slice(begin, begin + PIECE)
            inputs: dict[str, Array | CacheArray] = {
                "tokens": tokens[:, piece],
                "cos": cos[piece],
                "sin": sin[piece],
            }
            for layer, (keys, values) in enumerate(past):
                inputs |= {f"past_key_{layer}": keys, f"past_value_{layer}": values}
            found = self._prefill.run([*wanted, *cached], inputs)
            pieces.append(found[: len(wanted)])
            states = found[len(wanted) :]
            past = list(zip(states[0::2], states[1::2], strict=True))
        return [np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)], past

    def decoder(self, prompt: PromptCache, paths: int, steps: int) -> CpuDecoder:
        return CpuDecoder(self._step, self._spec, prompt, paths, steps, self._cache_dtype)


class CpuDecoder:
    """One series' decoding with every input and output bound once to memory held here."""

    def __init__(
        self,
        session: Any,
        spec: ModelSpec,
        prompt: PromptCache,
        paths: int,
        steps: int,
        cache_dtype: str,
    ) -> None:
        self._session, self._spec = session, spec
        self._cache = SuffixCache(spec, paths, steps, cache_dtype)
        layers = range(spec.num_layers)
        shape = (len(layers), paths, spec.num_heads, spec.head_dim)
        self.tokens: Array = np.zeros((paths, spec.num_features), np.float32)
        self._cos = np.zeros((1, spec.head_dim // 2), np.float32)
        self._sin = np.zeros_like(self._cos)
        self._new_keys, self._new_values = (np.empty(shape, cache_dtype) for _ in range(2))
        self._arguments = {name: np.empty(paths, np.float32) for name in spec.arguments}
        self._binding = session.io_binding()
        self._bound: dict[str, tuple[Array | CacheArray, Any]] = {}  # keeps bound memory alive
        for name, array in (("tokens", self.tokens), ("cos", self._cos), ("sin", self._sin)):
            self._bind_input(name, array)
        for layer in layers:
            self._bind_input(f"prompt_key_{layer}", prompt.keys[layer])
            self._bind_input(f"prompt_value_{layer}", prompt.values[layer])
            self._bind_output(f"new_key_{layer}", self._new_keys[layer])
            self._bind_output(f"new_value_{layer}", self._new_values[layer])
        for name, array in self._arguments.items():
            self._bind_output(f"param_{name}", array)
        self._bind_cache()

    def step(self, cos: Array, sin: Array) -> dict[str, Array]:
        """See `protocol.Decoder.step`."""
        if self._cache.reserve():
            self._bind_cache()
        self._cos[0], self._sin[0] = cos, sin
        self._session.run_with_iobinding(self._binding)
        self._cache.append(self._new_keys, self._new_values)
        return self._arguments

    def _bind_cache(self) -> None:
        self._bind_input("suffix_mask", self._cache.mask)
        for layer in range(self._spec.num_layers):
            self._bind_input(f"suffix_key_{layer}", self._cache.keys[layer])
            self._bind_input(f"suffix_value_{layer}", self._cache.values[layer])

    def _bind_input(self, name: str, array: Array | CacheArray) -> None:
        self._binding.bind_ortvalue_input(name, self._value(name, array))

    def _bind_output(self, name: str, array: Array | CacheArray) -> None:
        self._binding.bind_ortvalue_output(name, self._value(name, array))

    def _value(self, name: str, array: Array | CacheArray) -> Any:
        """An OrtValue on the memory of `array`."""
        value = import_onnxruntime().OrtValue.ortvalue_from_numpy(array)
        self._bound[name] = (array, value)
        return value
