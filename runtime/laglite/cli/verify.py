"""`laglite verify`."""

from __future__ import annotations

import click
from rich.table import Table

from laglite.backends import open_backend
from laglite.bundle import locate, open_bundle
from laglite.cli.completion import complete_model
from laglite.cli.evaluation_tables import print_table
from laglite.cli.model_options import model_options, note
from laglite.errors import BundleError
from laglite.forecaster import available_cores
from laglite.verification import verify as run


@click.command()
@click.argument("model", required=False, shell_complete=complete_model)
@model_options
def verify(model: str | None, backend: str, precision: str, threads: int | None) -> None:
    """Prove MODEL ("base" by default) on this machine against the numbers PyTorch gave.

    Checks every file's hash, then runs the bundle's test vectors from raw values to distribution
    arguments, and through the device where paths are drawn there. Exit code 0 only if all are
    within the stated tolerance.
    """
    bundle = open_bundle(locate(model))
    engine = open_backend(backend, bundle, precision, threads or available_cores())
    tolerance = bundle.precision(precision).tolerance
    table = Table(box=None)
    stages = ["features", "prefill", "decoding"]
    if engine.device is not None:
        stages.append("device")
    for heading in ("prompt", "paths", "steps", *stages):
        table.add_column(heading, justify="right")
    results = run(bundle, engine, note)
    for result in results:
        found = [getattr(result, stage) for stage in stages]
        table.add_row(
            str(result.prompt_tokens),
            str(result.paths),
            str(result.steps),
            *("-" if difference is None else f"{difference:.1e}" for difference in found),
        )
    print_table(table)
    largest = max(result.largest for result in results)
    verdict = f"largest difference {largest:.2g}, tolerance {tolerance:g}, backend {engine.name}"
    if not largest <= tolerance:
        raise BundleError(f"{bundle.path}: verification failed: {verdict}")
    click.echo(f"{bundle.path}: verified, {verdict}")
