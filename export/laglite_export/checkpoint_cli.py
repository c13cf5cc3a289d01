"""`laglite checkpoint`."""

from __future__ import annotations

from pathlib import Path

import click

from laglite.atomic_file import check_place, check_unused
from laglite.cli.completion import complete_model
from laglite.errors import InputError, missing


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
def checkpoint(model: str, output: Path, overwrite: bool) -> None:
    """Turn MODEL, a bundle directory or a shipped model's name, back into a PyTorch checkpoint.

    `laglite train --init` begins with it, `laglite export` makes a bundle of it again.
    """
    try:
        from laglite_export.base_model import load_base
        from laglite_train.checkpoint import save_checkpoint
    except ModuleNotFoundError as error:
        raise missing(str(error.name), "export", "laglite checkpoint") from error
    if not overwrite:
        check_unused(output)
    check_place(output)
    base = load_base(model)
    if base.bundle is None:
        raise InputError(f"{model} is a checkpoint already; this command reads bundles")
    save_checkpoint(output, base.model, base.training)
    click.echo(f"{base.name}: {base.model.spec.num_parameters:,} weights", err=True)
    click.echo(output)
