"""`laglite train`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click

from laglite.errors import missing


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--data", multiple=True, help="Folder or file of training series, instead of data:.")
@click.option("--output", help="Folder for checkpoints and logs, instead of output:.")
@click.option("--resume", is_flag=True, help="Go on from last.ckpt of the output folder.")
def train(config: Path, data: tuple[str, ...], output: str | None, resume: bool) -> None:
    """Pre-train a model as CONFIG, a YAML file, says; prints the best checkpoint's path."""
    try:
        from laglite_train.config import read_config
        from laglite_train.training import train as run
    except ModuleNotFoundError as error:
        raise missing(str(error.name), "train", "laglite train") from error
    settings = read_config(config)
    if data:
        settings = dataclasses.replace(settings, data=data)
    if output:
        settings = dataclasses.replace(settings, output=output)
    click.echo(
        f"training {settings.model.num_parameters:,} weights for "
        f"{settings.run.epochs * settings.run.steps_per_epoch:,} steps into {settings.output}",
        err=True,
    )
    try:
        best = run(settings, resume=resume, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        raise click.ClickException(
            f"stopped; what was reached is in {settings.output}: go on with --resume"
        ) from None
    click.echo(best)
