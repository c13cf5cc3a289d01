"""`laglite bench`."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from laglite.atomic_file import check_place, replacing
from laglite.backends import BACKENDS
from laglite.benchmarking.environment import environment
from laglite.benchmarking.operators import Operator, profile
from laglite.benchmarking.process import measure_apart
from laglite.benchmarking.report import (
    HEADINGS,
    OPERATOR_HEADINGS,
    Results,
    cells,
    operator_cells,
    to_json,
    to_markdown,
)
from laglite.benchmarking.workload import Workload, grid
from laglite.bundle import locate, open_bundle
from laglite.cli.completion import complete_model
from laglite.cli.evaluation_tables import print_table
from laglite.cli.model_options import note
from laglite.errors import InputError
from laglite.forecaster import available_cores

FORMATS = (".json", ".md")


def counts(_: click.Context, parameter: click.Parameter, text: str | None) -> list[int] | None:
    """`1,2,4` to numbers of at least 1; wrong usage otherwise."""
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers of at least 1")
    return list(dict.fromkeys(numbers))


@click.command()
@click.argument("model", default="base", shell_complete=complete_model)
@click.option("--horizon", default="24", show_default=True, callback=counts, help="Steps ahead.")
@click.option("--paths", default="100", show_default=True, callback=counts, help="Sample paths.")
@click.option("--context", callback=counts, help="Tokens of history; the model's default.")
@click.option("--threads", callback=counts, help="Threads.  [default: all cores]")
@click.option("--precision", default="fp32", show_default=True, help="Variants of the bundle.")
@click.option(
    "--backend", type=click.Choice(BACKENDS), default="auto", show_default=True,
    help="What runs the model.",
)  # fmt: skip
@click.option(
    "--repeats", type=click.IntRange(2), default=50, show_default=True, help="Timed calls."
)
@click.option("--output", type=click.Path(path_type=Path), help="Figures to FILE.json or FILE.md.")
@click.option(
    "--profile", "traces", type=click.Path(path_type=Path, file_okay=False),
    help="Write onnxruntime's traces of the first workload to this folder, and show operators.",
)  # fmt: skip
def bench(
    model: str,
    horizon: list[int],
    paths: list[int],
    context: list[int] | None,
    threads: list[int] | None,
    precision: str,
    backend: str,
    repeats: int,
    output: Path | None,
    traces: Path | None,
) -> None:
    """Measure MODEL ("base" by default) on this machine, beside what its arithmetic must cost.

    Options take comma-separated lists; every combination is measured, each in a process of its
    own. The floor is the time of the forecast's matrix products at the rate at which NumPy
    multiplies such matrices on as many threads, measured between the calls.
    """
    _check(output, traces)
    bundle = open_bundle(locate(model))
    choices: dict[str, list[Any]] = {
        "precision": [part.strip() for part in precision.split(",")],
        "threads": threads or [available_cores()],
        "context": [None] if context is None else [*context],
        "horizon": horizon,
        "paths": paths,
    }
    for name in choices["precision"]:
        bundle.precision(name)
    workloads = grid(Workload(model=model, backend=backend, repeats=repeats), **choices)
    machine = environment(model)
    note(f"{machine['processor']}, {machine['cores']} cores, {machine['onnxruntime']}")
    results = []
    for number, workload in enumerate(workloads, 1):
        results.append((workload, measure_apart(workload)))
        note(f"{number} of {len(workloads)} measured")
    operators: list[Operator] = []
    if traces is not None:
        measured = dataclasses.replace(workloads[0], backend=results[0][1].backend)
        operators, files = profile(measured, traces)
        note("traces: " + ", ".join(map(str, files)))
    _show(results, operators)
    if output is not None:
        with replacing(output) as temporary:
            if output.suffix == ".json":
                content = to_json(machine, results, operators)
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            else:
                text = to_markdown(machine, results, operators)
                temporary.write_text(text, encoding="utf-8")


def _check(output: Path | None, traces: Path | None) -> None:
    """Refuse what could not be written, before anything is measured."""
    if output is not None:
        if output.suffix not in FORMATS:
            raise InputError(f"{output}: the ending must be {' or '.join(FORMATS)}")
        check_place(output)
    if traces is not None:
        try:
            traces.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=traces).close()
        except OSError as error:
            raise InputError(f"{traces}: cannot be written to ({error.strerror})") from error


def _show(results: Results, operators: list[Operator]) -> None:
    table = Table(box=None)
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for workload, found in results:
        table.add_row(*cells(workload, found))
    print_table(table)
    stages = Table(title="stages of the median call, ms", box=None, title_justify="left")
    names = [*results[0][1].stages]
    for heading in (*HEADINGS[:5], *names):
        stages.add_column(heading, justify="right")
    for workload, found in results:
        parts = (f"{found.stages[name]:.2f}" for name in names)
        stages.add_row(*cells(workload, found)[:5], *parts)
    print_table(stages)
    if operators:
        listing = Table(title="operators of a forecast", box=None, title_justify="left")
        for heading in OPERATOR_HEADINGS:
            listing.add_column(heading, justify="right")
        for operator in operators:
            listing.add_row(*operator_cells(operator))
        print_table(listing)
