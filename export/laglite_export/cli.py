"""`laglite export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from laglite.errors import InputError, missing


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Bundle directory.")
@click.option("--name", help="Name in the manifest; by default the output's.")
@click.option("--license", "license_name", default="unspecified", help="License of the weights.")
@click.option(
    "--evaluation", type=click.Path(path_type=Path), help="JSON file to keep in the manifest."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def export(
    checkpoint: Path,
    output: Path,
    name: str | None,
    license_name: str,
    evaluation: Path | None,
    overwrite: bool,
) -> None:
    """Turn CHECKPOINT, laglite's own or a published Lag-Llama .ckpt, into a bundle.

    The bundle is validated against PyTorch before it appears; nothing in the checkpoint is run.
    """
    try:
        from laglite_export.bundle_writer import export_bundle
        from laglite_train.checkpoint import load_checkpoint
    except ModuleNotFoundError as error:
        raise missing(str(error.name), "export", "laglite export") from error
    summary = {} if evaluation is None else {"evaluation": _read_json(evaluation)}
    loaded = load_checkpoint(checkpoint)
    spec = loaded.model.spec
    click.echo(
        f"{checkpoint}: {loaded.origin} checkpoint, {spec.num_parameters:,} weights, "
        f"head {spec.head}, context {spec.context_length}",
        err=True,
    )
    difference = export_bundle(
        loaded.model,
        output,
        name=name or output.name,
        license_name=license_name,
        summary={"training": {"origin": loaded.origin, **loaded.training}, **summary},
        overwrite=overwrite,
    )
    click.echo(f"validated against PyTorch: largest difference {difference:.2g}", err=True)
    click.echo(output)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error})") from error
