"""`laglite serve`."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from laglite.cli.completion import complete_model
from laglite.cli.model_options import model_options, note
from laglite.errors import InputError, LagliteWarning, missing
from laglite.forecaster import Forecaster
from laglite.service.settings import Limits, option_name, read_token
from laglite.version import __version__

Command = Callable[..., Any]


def limit_options(command: Command) -> Command:
    """Add an option for each limit; the command gets `limits`."""

    @functools.wraps(command)
    def with_limits(*arguments: Any, **options: Any) -> Any:
        given = {one.name: options.pop(f"max_{one.name}") for one in fields(Limits)}
        return command(*arguments, limits=Limits(**given), **options)

    for one in reversed(fields(Limits)):
        with_limits = click.option(
            option_name(one.name),
            type=type(one.default),
            default=one.default,
            show_default=True,
            help=one.metadata["description"],
        )(with_limits)
    return with_limits


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    shell_complete=complete_model,
    help="Bundle directory, or a shipped model's name; several times for several.  [default: base]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port; 0 for any that is free.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with a token that requests must carry; or set LAGLITE_TOKEN.",
)
@limit_options
@model_options  # fmt: skip
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    token_file: Path | None,
    limits: Limits,
    backend: str,
    precision: str,
    threads: int | None,
) -> None:
    """Forecast over HTTP, with a page for browsers (docs/service.md)."""
    try:
        from laglite.service.app import create_app
        from laglite.service.server import address, is_loopback, listen, run
    except ModuleNotFoundError as error:
        raise missing(str(error.name), "serve", "laglite serve") from error

    token = read_token(token_file)
    forecasters: dict[str, Forecaster] = {}
    for model in models or (None,):
        one = Forecaster.load(model, backend=backend, precision=precision, threads=threads)
        if one.bundle.name in forecasters:
            raise InputError(f"two models are called {one.bundle.name!r}; serve one of them")
        forecasters[one.bundle.name] = one
    app = create_app(forecasters, limits=limits, token=token, precision=precision)
    warnings.simplefilter("ignore", LagliteWarning)  # answers carry them
    with listen(host, port) as bound:
        if token is None and not is_loopback(bound):
            note("Warning: others can reach this service, and it asks for no token: --token-file")
        note(f"laglite {__version__} serves {', '.join(forecasters)} at {address(bound)}")
        answered = run(app, bound)
    if not answered:
        note("ended early; what was not answered yet was refused")
        raise click.Abort
    note("every accepted request has been answered")
