"""`laglite compile`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from laglite.backends.device import Capacity
from laglite.backends.engine_files import (
    FOLDER,
    NO_GPU,
    RTX,
    EngineSet,
    Target,
    engines_root,
    find_engines,
    model_argument,
)
from laglite.bundle import Bundle, locate, open_bundle
from laglite.cli.completion import complete_model
from laglite.cli.model_options import note
from laglite.errors import BackendError

COUNT = click.IntRange(1)


@click.command(name="compile")
@click.argument("model", required=False, shell_complete=complete_model)
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False),
    help=f"Folder for engines; by default ${FOLDER}, else the user's cache.",
)  # fmt: skip
@click.option("--precision", default="fp32", show_default=True, help="fp32 or fp16.")
@click.option("--series", type=COUNT, default=8, show_default=True, help="Most series at once.")
@click.option("--paths", type=COUNT, default=100, show_default=True, help="Most sample paths.")
@click.option(
    "--context", type=click.IntRange(2), help="Longest prompt; by default the model's context."
)
@click.option(
    "--horizon", type=click.IntRange(2), default=64, show_default=True, help="Longest horizon."
)
@click.option("--rebuild", is_flag=True, help="Replace engines that are there.")
def compile_engines(
    model: str | None,
    output: Path | None,
    precision: str,
    series: int,
    paths: int,
    context: int | None,
    horizon: int,
    rebuild: bool,
) -> None:
    """Make TensorRT engines of MODEL ("base" by default), on the device they will run on.

    Engines have fixed capacities, and every step works through all of them: choose no more than
    forecasts will need. Needs TensorRT, but neither torch nor onnx.
    """
    from laglite.backends import tensorrt_module as tensorrt
    from laglite_export.tensorrt_engines import build_engines, building_gpu, graph_files

    bundle = open_bundle(locate(model))
    graph_files(bundle, precision)
    capacity = Capacity(series, paths, context or bundle.spec.context_length, horizon)
    gpu, root = building_gpu(), output.absolute() if output else engines_root()
    target = Target.of(bundle, precision, tensorrt.FLAVOUR, tensorrt.VERSION, gpu)
    found = None if rebuild else _existing(target, root, bundle, capacity)
    if found is None:
        note(f"building for {gpu or 'no device'}, {tensorrt.FLAVOUR} {tensorrt.VERSION}")
        found = build_engines(bundle, precision, capacity, gpu, root, note)
        _say_what_applies(found, root)
    else:
        note("these engines are there already; --rebuild makes them anew")
    click.echo(found.path)


def _existing(target: Target, root: Path, bundle: Bundle, capacity: Capacity) -> EngineSet | None:
    """Engines that are there for this target. Raises BackendError if others would be lost."""
    try:
        found = find_engines(target, root, model_argument(bundle))
    except BackendError:
        return None
    for graph in found.engines:
        found.read(graph)
    if found.capacity != capacity:
        have = found.capacity
        raise BackendError(
            f"{found.path}: engines for {have.series} series, {have.paths} paths, context "
            f"{have.context} and horizon {have.steps} are there; add --rebuild to replace them"
        )
    return found


def _say_what_applies(built: EngineSet, root: Path) -> None:
    if built.target.flavour == RTX:
        note(
            "TensorRT for RTX compiles the rest on the GPU, when an engine is first used: by "
            "NVIDIA's documents any of compute capability 8.0, 8.6, 8.9, or 12.0 and later"
        )
    if built.target.gpu == NO_GPU:
        note(f"device: {NO_GPU}; nothing was run")
    if root != engines_root():
        note(f"to use them: export {FOLDER}={shlex.quote(str(root))}")
    words = ["laglite", "verify", built.model, "--backend", "tensorrt"]
    if built.target.precision != "fp32":
        words += ["--precision", built.target.precision]
    note(f"prove them: {shlex.join(words)}")
