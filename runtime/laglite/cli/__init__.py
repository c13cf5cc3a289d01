"""The `laglite` command: subcommands are imported only when called."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
from typing import Any

import click

from laglite.errors import LagliteError
from laglite.version import __version__

# Names resolved on use: the runtime imports neither training nor export.
COMMANDS = {
    "forecast": "laglite.cli.forecast:forecast",
    "stream": "laglite.cli.stream:stream",
    "serve": "laglite.cli.serve:serve",
    "info": "laglite.cli.info:info",
    "evaluate": "laglite.cli.evaluate:evaluate",
    "bench": "laglite.cli.bench:bench",
    "verify": "laglite.cli.verify:verify",
    "export": "laglite_export.cli:export",
    "compile": "laglite_export.compile_cli:compile_engines",
    "checkpoint": "laglite_export.checkpoint_cli:checkpoint",
    "combine": "laglite_export.combine_cli:combine",
    "train": "laglite_train.cli:train",
    "finetune": "laglite_export.finetune_cli:finetune",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a disk behind standard output


class LazyGroup(click.Group):
    """A group that loads a subcommand's module on first use, and prints errors as one message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        log = logging.getLogger("laglite")
        log.setLevel(logging.INFO)
        log.handlers = [_Notes()]
        try:
            return super().invoke(ctx)
        except LagliteError as error:
            raise click.ClickException(str(error)) from error

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.filename is None and error.errno not in FULL:
                raise
            if error.filename is None:
                _drop_output()
            where = "standard output" if error.filename is None else error.filename
            message = f"{where}: {error.strerror}"
        except MemoryError:
            message = "out of memory; ask for fewer sample paths, steps or tokens of context"
        click.echo(f"Error: {message}", err=True)
        sys.exit(1)


def _drop_output() -> None:
    """Let what is left for standard output go nowhere: at the exit it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class _Notes(logging.Handler):
    """What the library logs becomes notes on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="laglite")
def main() -> None:
    """Probabilistic forecasts of any time series, with a small transformer and no torch."""
