"""Options that every command with a model takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from laglite.backends import BACKENDS

Command = Callable[..., Any]


def model_options(command: Command) -> Command:
    """Add --backend, --precision and --threads."""
    for option in (
        click.option("--threads", type=click.IntRange(1), help="Threads; by default all cores."),
        click.option("--precision", default="fp32", show_default=True, help="Variant to run."),
        click.option(
            "--backend", type=click.Choice(BACKENDS), default="auto", show_default=True,
            help="What runs the model.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def note(message: str) -> None:
    """Say something beside the result, on stderr."""
    click.echo(message, err=True)
