"""`laglite train`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import click

from laglite.cli.completion import complete_path
from laglite.errors import LagliteWarning, missing


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--data",
    multiple=True,
    shell_complete=complete_path,
    help="Folder or file of training series, instead of data:.",
)
@click.option(
    "--output",
    shell_complete=complete_path,
    help="Folder for checkpoints and logs, instead of output:.",
)
@click.option(
    "--init",
    shell_complete=complete_path,
    help="Checkpoint whose weights the run begins with, instead of init:.",
)
@click.option("--resume", is_flag=True, help="Go on from last.ckpt of the output folder.")
def train(
    config: Path, data: tuple[str, ...], output: str | None, init: str | None, resume: bool
) -> None:
    """Pre-train a model as CONFIG, a YAML file, says; prints the best checkpoint's path."""
    try:
        from lightning.pytorch.utilities.rank_zero import rank_zero_only

        from laglite_train.config import read_config
        from laglite_train.training import train as run
    except ModuleNotFoundError as error:
        raise missing(str(error.name), "train", "laglite train") from error
    first = rank_zero_only.rank == 0  # of several processes one speaks
    given = {"data": list(data), "output": output, "init": init}
    settings = read_config(config, {key: value for key, value in given.items() if value})
    if first:
        click.echo(
            f"training {settings.model.num_parameters:,} weights for "
            f"{settings.run.epochs * settings.run.steps_per_epoch:,} steps into {settings.output}",
            err=True,
        )
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _note if first else _ignore
            best = run(settings, resume=resume, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        if not first:
            raise SystemExit(1) from None
        raise click.ClickException(_stopped(Path(settings.output) / "last.ckpt")) from None
    if first:
        click.echo(best)


def _stopped(last: Path) -> str:
    if last.is_file():
        return f"stopped; {last} holds the run up to its last whole epoch: go on with --resume"
    return "stopped before the end of the first epoch: nothing is saved yet, start again"


def _note(
    message: Warning | str, category: type[Warning], file: str, line: int, *_: object
) -> None:
    """A warning on stderr; of laglite's own the message alone."""
    text = str(message)
    if not issubclass(category, LagliteWarning):
        text = warnings.formatwarning(message, category, file, line, "").rstrip()
    click.echo(f"Warning: {text}", err=True)


def _ignore(*_: object) -> None:
    """Another process says it."""
