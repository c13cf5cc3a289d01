"""`laglite export`."""

from __future__ import annotations

from pathlib import Path

import click

from laglite.errors import missing


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Bundle directory.")
@click.option("--name", help="Name in the manifest; by default the output's.")
@click.option("--license", "license_name", default="unspecified", help="License of the weights.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def export(
    checkpoint: Path, output: Path, name: str | None, license_name: str, overwrite: bool
) -> None:
    """Turn CHECKPOINT, laglite's own or a published Lag-Llama .ckpt, into a bundle.

    The bundle is validated against PyTorch before it appears; nothing in the checkpoint is run.
    """
    try:
        from laglite_export.bundle_writer import export_bundle
        from laglite_train.checkpoint import load_checkpoint
    except ModuleNotFoundError as error:
        raise missing(str(error.name), "export", "laglite export") from error
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
        summary={"training": {"origin": loaded.origin, **loaded.settings}},
        overwrite=overwrite,
    )
    click.echo(f"validated against PyTorch: largest difference {difference:.2g}", err=True)
    click.echo(output)
