"""TensorRT's own runtime: prompts and steps through engines that `laglite compile` made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from laglite.backends import cuda_driver
from laglite.backends.availability import Availability
from laglite.backends.cuda_memory import Cuda, CudaStream
from laglite.backends.device import DEVICE_STEP, PREFILL, Capacity, Device
from laglite.backends.engine_files import (
    EngineSet,
    Target,
    engines_root,
    find_engines,
    model_argument,
)
from laglite.backends.library_errors import Fault, explain
from laglite.backends.tensorrt_device import TensorRtDevice
from laglite.bundle import Bundle
from laglite.errors import BackendError, CapacityError, MissingDependencyError
from laglite.kv_cache import PromptCache, empty_prompts
from laglite.spec import ModelSpec

if TYPE_CHECKING:
    from tensorrt import ICudaEngine

Array = NDArray[np.float32]
STEP = "step"


class TensorRtNative:
    """Backend `tensorrt`. Prompts and steps of host sampling run through engines as well."""

    name = "tensorrt"
    parallel = False

    def __init__(self, spec: ModelSpec, device: TensorRtDevice) -> None:
        self._spec, self._own = spec, device
        self.device: Device | None = device if DEVICE_STEP in device.engines.engines else None
        self._prefill: _Prefill | None = None

    def prefill(
        self, tokens: Array, cos: Array, sin: Array
    ) -> tuple[dict[str, Array], list[PromptCache]]:
        """See `protocol.Backend.prefill`. Raises CapacityError for too long a prompt."""
        require(self._own.engines, context=tokens.shape[1])
        most = self._own.engines.capacity.series
        arguments: list[dict[str, Array]] = []
        caches: list[PromptCache] = []
        for begin in range(0, len(tokens), most):
            piece = tokens[begin : begin + most]
            with self._own.stream.lock:
                if self._prefill is None or self._prefill.shape != piece.shape:
                    self._prefill = None  # its memory first
                    self._prefill = _Prefill(self._own, self._spec, piece.shape)
                found, pieces = self._prefill.run(piece, cos, sin)
            arguments.append(found)
            caches += pieces
        names = self._spec.arguments
        return {name: np.concatenate([each[name] for each in arguments]) for name in names}, caches

    def embed(self, tokens: Array, cos: Array, sin: Array) -> Array:
        """See `protocol.Backend.embed`; raises BackendError."""
        raise BackendError("backend 'tensorrt' yields no embeddings: use backend 'cuda' or 'cpu'")

    def decoder(self, prompt: PromptCache, paths: int, steps: int) -> TensorRtDecoder:
        """See `protocol.Backend.decoder`. Raises CapacityError for more paths or steps."""
        require(self._own.engines, paths=paths, steps=steps + 1)
        return TensorRtDecoder(self._own, self._spec, prompt, paths, max(1, steps))


def require(engines: EngineSet, paths: int = 1, context: int = 1, steps: int = 1) -> None:
    """Raise CapacityError if this is more than the engines were compiled for."""
    have, needed = engines.capacity, Capacity(1, paths, context, steps)
    excess = have.exceeded_by(needed)
    if excess is None:
        return
    larger = engines.rebuild_hint(
        paths=max(have.paths, paths),
        context=max(have.context, context),
        steps=max(have.steps, steps),
    )
    raise CapacityError(f"{excess} that the engines in {engines.path} were compiled for; {larger}")


class _Prefill:
    """The prefill engine at one shape of prompts."""

    def __init__(self, device: TensorRtDevice, spec: ModelSpec, shape: tuple[int, ...]) -> None:
        self.shape, self._spec = shape, spec
        series, context, _ = shape
        heads, dim, length = spec.num_heads, spec.head_dim, context + 1
        dtypes = device.engines.dtypes(PREFILL)
        shapes: dict[str, tuple[int, ...]] = {
            "tokens": shape,
            "cos": (context, dim // 2),
            "sin": (context, dim // 2),
            **{f"param_{name}": (series, context) for name in spec.arguments},
        }
        for layer in range(spec.num_layers):
            shapes |= {
                f"past_key_{layer}": (series, heads, dim + 1, 1),
                f"past_value_{layer}": (series, heads, 1, dim),
                f"prompt_key_{layer}": (series, heads, dim + 1, length),
                f"prompt_value_{layer}": (series, heads, length, dim),
            }
        self._buffers = {name: device.allocate(each, dtypes[name]) for name, each in shapes.items()}
        for layer, (keys, values) in enumerate(empty_prompts(spec, series, device.cache_dtype)):
            self._buffers[f"past_key_{layer}"].write(keys)
            self._buffers[f"past_value_{layer}"].write(values)
        self._program = device.shared_program(PREFILL, self._buffers)

    def run(
        self, tokens: Array, cos: Array, sin: Array
    ) -> tuple[dict[str, Array], list[PromptCache]]:
        for name, array in (("tokens", tokens), ("cos", cos), ("sin", sin)):
            self._buffers[name].write(array)
        self._program.launch()
        layers = range(self._spec.num_layers)
        keys = [self._buffers[f"prompt_key_{layer}"].read() for layer in layers]
        values = [self._buffers[f"prompt_value_{layer}"].read() for layer in layers]
        caches = [
            PromptCache([each[row] for each in keys], [each[row] for each in values])
            for row in range(len(tokens))
        ]
        names = self._spec.arguments
        return {name: self._buffers[f"param_{name}"].read() for name in names}, caches


class TensorRtDecoder:
    """One series' steps: see `protocol.Decoder`. The caches stay on the device."""

    def __init__(
        self, device: TensorRtDevice, spec: ModelSpec, prompt: PromptCache, paths: int, steps: int
    ) -> None:
        self._spec, self._stream, self._capacity = spec, device.stream, steps
        self._length = 0
        heads, dim = spec.num_heads, spec.head_dim
        self.tokens: Array = np.zeros((paths, spec.num_features), np.float32)
        self._mask = np.full(steps, -np.inf, np.float32)
        dtypes = device.engines.dtypes(STEP)
        shapes: dict[str, tuple[int, ...]] = {
            "tokens": self.tokens.shape,
            "cos": (1, dim // 2),
            "sin": (1, dim // 2),
            "suffix_mask": (steps,),
            **{f"param_{name}": (paths,) for name in spec.arguments},
        }
        for layer in range(spec.num_layers):
            shapes |= {
                f"prompt_key_{layer}": prompt.keys[layer].shape,
                f"prompt_value_{layer}": prompt.values[layer].shape,
                f"suffix_key_{layer}": (paths, heads, steps, dim),
                f"suffix_value_{layer}": (paths, heads, steps, dim),
                f"new_key_{layer}": (paths, heads, dim),
                f"new_value_{layer}": (paths, heads, dim),
            }
        self._buffers = {name: device.allocate(each, dtypes[name]) for name, each in shapes.items()}
        for layer in range(spec.num_layers):
            self._buffers[f"prompt_key_{layer}"].write(prompt.keys[layer])
            self._buffers[f"prompt_value_{layer}"].write(prompt.values[layer])
        self._program = device.shared_program(STEP, self._buffers)

    def step(self, cos: Array, sin: Array) -> dict[str, Array]:
        """See `protocol.Decoder.step`."""
        rows = (("tokens", self.tokens), ("cos", cos[None]), ("sin", sin[None]))
        for name, array in (*rows, ("suffix_mask", self._mask)):
            self._buffers[name].write(array)
        self._program.launch()
        for layer in range(self._spec.num_layers):
            for part in ("key", "value"):
                self._append(f"new_{part}_{layer}", f"suffix_{part}_{layer}")
        self._mask[self._length] = 0.0
        self._length += 1
        return {name: self._buffers[f"param_{name}"].read() for name in self._spec.arguments}

    def _append(self, source: str, target: str) -> None:
        """Copy new keys or values [paths, heads, dim] to their place in the suffix."""
        new, suffix = self._buffers[source], self._buffers[target]
        paths, heads, dim = new.shape
        width = dim * new.dtype.itemsize
        place = suffix.memory.address + self._length * width
        pitch = self._capacity * width
        self._stream.copy_rows(place, pitch, new.memory.address, width, paths * heads)


def describe_tensorrt() -> Availability:
    """Whether TensorRT, cuda.bindings and a GPU are there; not whether engines are."""
    try:
        from laglite.backends import tensorrt_module as tensorrt
    except MissingDependencyError:
        return Availability(
            "tensorrt", "", "TensorRT is not installed", "pip install 'laglite[tensorrt]'"
        )
    except BackendError as error:
        return Availability("tensorrt", "", str(error), "install it again")
    version = f"{tensorrt.FLAVOUR} {tensorrt.VERSION}"
    gpu = cuda_driver.find_gpu()
    if isinstance(gpu, Fault):
        return Availability("tensorrt", version, gpu.problem, gpu.remedy)
    try:
        Cuda()
    except MissingDependencyError as error:
        problem, _, remedy = str(error).partition(": ")
        return Availability("tensorrt", version, problem, remedy)
    except BackendError as error:
        problem, _, remedy = str(error).partition("; ")
        return Availability("tensorrt", version, problem, remedy or explain(problem).remedy)
    return Availability("tensorrt", f"{version}, {gpu}")


def open_tensorrt(bundle: Bundle, precision: str) -> TensorRtNative:
    """Load a bundle's engines. Raises BackendError, MissingDependencyError."""
    engines = _find(bundle, precision)
    device = TensorRtDevice(CudaStream(Cuda()), engines, _load(engines))
    return TensorRtNative(bundle.spec, device)


def _find(bundle: Bundle, precision: str) -> EngineSet:
    from laglite.backends import tensorrt_module as tensorrt

    gpu = cuda_driver.find_gpu()
    if isinstance(gpu, Fault):
        raise BackendError(f"backend 'tensorrt' cannot run: {gpu}")
    target = Target.of(bundle, precision, tensorrt.FLAVOUR, tensorrt.VERSION, gpu)
    return find_engines(target, engines_root(), model_argument(bundle))


def _load(engines: EngineSet) -> dict[str, ICudaEngine]:
    """All engines of a set, deserialised, with the tensors that are written down."""
    from laglite.backends import tensorrt_module as tensorrt

    try:
        runtime = tensorrt.trt.Runtime(tensorrt.LOG)
    except (TypeError, RuntimeError) as error:  # a factory that yields nothing
        raise BackendError(f"TensorRT cannot run here: {tensorrt.LOG.errors()}") from error
    loaded = {}
    for graph in engines.engines:
        engine = runtime.deserialize_cuda_engine(engines.read(graph))
        if engine is None:
            raise BackendError(
                f"{engines.path}: TensorRT cannot load the engine of {graph!r}: "
                f"{tensorrt.LOG.errors()}; {engines.rebuild_hint()}"
            )
        names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
        found = {name: tensorrt.dtype_name(engine.get_tensor_dtype(name)) for name in names}
        if found != engines.dtypes(graph):
            raise BackendError(
                f"{engines.path}: the engine of {graph!r} has other tensors than are written "
                f"down; {engines.rebuild_hint()}"
            )
        loaded[graph] = engine
    return loaded
