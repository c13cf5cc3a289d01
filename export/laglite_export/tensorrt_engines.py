"""Engines for TensorRT, built from a bundle's graphs at fixed capacities; no torch, no onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from laglite.atomic_file import alone_in, check_place, replacing
from laglite.backends import tensorrt_module as tensorrt
from laglite.backends.cuda_driver import Gpu, find_gpu
from laglite.backends.device import DEVICE_STEP, PREFILL, Capacity
from laglite.backends.engine_files import (
    MANIFEST,
    RTX,
    SHORT,
    EngineFile,
    EngineSet,
    Target,
    Tensor,
    model_argument,
    sha256,
)
from laglite.backends.tensorrt_module import LOG, trt
from laglite.backends.tensorrt_native import STEP
from laglite.bundle import Bundle
from laglite.device_decoding import MOST_NUMBERS, largest_tensor
from laglite.errors import BackendError, InputError

Shape = tuple[int, ...]
PRECISIONS = ("fp32", "fp16")
LEAST = Capacity(series=1, paths=1, context=1, steps=1)


def build_engines(
    bundle: Bundle,
    precision: str,
    capacity: Capacity,
    gpu: Gpu | None,
    root: Path,
    note: Callable[[str], None],
) -> EngineSet:
    """Build the engines of a bundle and write them, with `engines.json`, under the folder `root`.

    Of several builds at once the last to end stays. Raises BackendError if TensorRT refuses a
    graph, InputError for capacities beyond what a tensor holds, and if `root` cannot be written.
    """
    numbers = capacity.series * largest_tensor(bundle.spec, capacity)
    if numbers > MOST_NUMBERS:
        raise InputError(
            f"{capacity.series:,} series x {capacity.paths:,} paths of {capacity.context:,} prompt "
            f"tokens and {capacity.steps:,} steps need a tensor of {numbers:,} numbers, more than "
            f"the {MOST_NUMBERS:,} that TensorRT takes; choose smaller capacities"
        )
    target = Target.of(bundle, precision, tensorrt.FLAVOUR, tensorrt.VERSION, gpu)
    path, timings = target.folder(root), target.timing_cache(root)
    try:
        path.mkdir(parents=True, exist_ok=True)
        known = timings.read_bytes() if timings.is_file() else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    check_place(path / MANIFEST)
    engines: dict[str, EngineFile] = {}
    contents: dict[str, bytes] = {}
    for name, file in graph_files(bundle, precision).items():
        content, tensors, known = build_engine(file, capacity, name == DEVICE_STEP, known)
        digest = sha256(content)
        stored = f"{name}-{digest[:SHORT]}.engine"
        contents[stored] = content
        graph = file.relative_to(bundle.path).as_posix()
        graph_digest = str(bundle.manifest["files"][graph]["sha256"])
        engines[name] = EngineFile(stored, len(content), digest, graph, graph_digest, tensors)
        note(f"{name}: {len(content) / 1e6:.1f} MB")
    built = EngineSet(path, model_argument(bundle), target, capacity, engines)
    _write(built, contents)
    if known:
        with replacing(timings) as part:
            part.write_bytes(known)
    return built


def _write(built: EngineSet, contents: Mapping[str, bytes]) -> None:
    """Write a set and the `contents` of its files, and remove those of the set before.

    `engines.json` comes last and names files by their content: at any time the directory holds
    either the old set or the new one.
    """
    with alone_in(built.path):  # of two builds none removes what the other lists
        for name, content in contents.items():
            with replacing(built.path / name) as part:
                part.write_bytes(content)
        with replacing(built.path / MANIFEST) as part:
            built.write_manifest(part)
        for file in built.path.glob("*.engine"):
            if file.name not in contents:
                file.unlink(missing_ok=True)


def graph_files(bundle: Bundle, precision: str) -> dict[str, Path]:
    """The graphs that engines are made of.

    Raises BundleError for an unknown precision, InputError for one that is for CPUs.
    """
    files = bundle.precision(precision)
    if precision not in PRECISIONS:
        raise InputError(
            f"no engines of precision {precision!r}, which is for CPUs: TensorRT takes 8-bit "
            f"graphs only with symmetric inputs; one of: {', '.join(PRECISIONS)}"
        )
    found = {PREFILL: files.prefill, STEP: files.step}
    return found if files.device_step is None else {**found, DEVICE_STEP: files.device_step}


def building_gpu() -> Gpu | None:
    """The GPU that engines are built on; None for TensorRT for RTX where there is none.

    Raises BackendError where TensorRT would need one.
    """
    gpu = find_gpu()
    if isinstance(gpu, Gpu):
        return gpu
    if tensorrt.FLAVOUR == RTX:
        return None
    raise BackendError(f"TensorRT builds engines on the GPU they will run on: {gpu}")


def build_engine(
    graph: Path, capacity: Capacity, fixed: bool, timings: bytes
) -> tuple[bytes, tuple[Tensor, ...], bytes]:
    """An engine of an ONNX file, what it takes and yields, and timings for the next build.

    Shapes are those of `capacity`, and unless `fixed` all smaller ones too. Precision lies in the
    graph: the network is strongly typed, and float32 products are not rounded to TF32. Raises
    BackendError with TensorRT's own words if it refuses the graph.
    """
    try:
        builder = trt.Builder(LOG)
    except (TypeError, RuntimeError) as error:
        raise BackendError(f"TensorRT cannot build engines here: {LOG.errors()}") from error
    network = _parse(builder, graph)
    largest = _input_shapes(network, capacity, graph)
    least = largest if fixed else _input_shapes(network, LEAST, graph)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    cache = None
    if tensorrt.FLAVOUR != RTX:  # which measures no kernels when it builds
        # None of bytes that are damaged: then the timings are measured anew.
        cache = config.create_timing_cache(timings) or config.create_timing_cache(b"")
        config.set_timing_cache(cache, True)
    if fixed:
        _fix_shapes(network, largest)
    else:
        profile = builder.create_optimization_profile()
        for name in largest:
            profile.set_shape(name, least[name], largest[name], largest[name])
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BackendError(f"{graph}: TensorRT cannot build an engine: {LOG.errors()}")
    measured = b"" if cache is None else bytes(cache.serialize())
    return bytes(engine), graph_tensors(builder, graph, capacity, fixed), measured


def graph_tensors(
    builder: trt.Builder, graph: Path, capacity: Capacity, fixed: bool
) -> tuple[Tensor, ...]:
    """Inputs and outputs of a graph, as an engine of it has them at its smallest and largest.

    Shapes of outputs are known where those of inputs are numbers: the graph is read at both ends.
    """
    ends = []
    for size in (capacity if fixed else LEAST, capacity):
        network = _parse(builder, graph)
        _fix_shapes(network, _input_shapes(network, size, graph))
        ends.append(network)
    found = []
    for is_input in (True, False):
        for place in range(ends[0].num_inputs if is_input else ends[0].num_outputs):
            low, high = (
                network.get_input(place) if is_input else network.get_output(place)
                for network in ends
            )
            if min((0, *low.shape, *high.shape)) < 0:
                raise BackendError(f"{graph}: TensorRT cannot tell the shape of {high.name!r}")
            dtype = tensorrt.dtype_name(high.dtype)
            found.append(Tensor(high.name, is_input, dtype, tuple(low.shape), tuple(high.shape)))
    return tuple(found)


def _parse(builder: trt.Builder, graph: Path) -> trt.INetworkDefinition:
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, LOG)
    if not parser.parse_from_file(str(graph)):
        errors = [parser.get_error(place) for place in range(parser.num_errors)]
        found = "; ".join(f"{error.desc()} ({error.node_name()})" for error in errors)
        raise BackendError(f"{graph}: TensorRT refuses this graph: {found or LOG.errors()}")
    return network


def _input_shapes(
    network: trt.INetworkDefinition, capacity: Capacity, graph: Path
) -> dict[str, Shape]:
    """The shapes of all inputs at a capacity, by the names that the graph gives dimensions."""
    extents = {
        "series": capacity.series,
        "paths": capacity.paths,
        "tokens": capacity.context,
        "past + 1": 1,  # prompts are encoded in one piece
        "context + 1": capacity.context + 1,
        "capacity": capacity.steps,
        "steps": capacity.steps,
    }
    shapes = {}
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        names = [tensor.get_dimension_name(axis) for axis in range(len(tensor.shape))]
        known = zip(names, tensor.shape, strict=True)
        try:
            shapes[tensor.name] = tuple(extents[n] if size < 0 else size for n, size in known)
        except KeyError as error:
            raise BackendError(
                f"{graph}: input {tensor.name!r} has a dimension {error} that this laglite does "
                "not know; export the model again"
            ) from error
    return shapes


def _fix_shapes(network: trt.INetworkDefinition, shapes: Mapping[str, Shape]) -> None:
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        tensor.shape = shapes[tensor.name]
