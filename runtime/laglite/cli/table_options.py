"""Options of every command that reads a table of series: which columns, what frequency."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from laglite.reading import Columns

Command = Callable[..., Any]


def table_options(command: Command) -> Command:
    """Add --freq, the column names and --covariates; the command gets `freq` and `columns`."""

    @functools.wraps(command)
    def with_columns(
        *arguments: Any,
        id_column: str | None,
        time_column: str | None,
        target_column: str | None,
        covariates: tuple[str, ...],
        **options: Any,
    ) -> Any:
        columns = Columns(id_column, time_column, target_column, covariates)
        return command(*arguments, columns=columns, **options)

    for option in (
        click.option(
            "--covariates", metavar="C,...", callback=_parse_names,
            help="Columns known beforehand; rows without a target at a series' end hold their "
            "future.",
        ),
        click.option("--target-column", help="Column of values."),
        click.option("--time-column", help="Column of timestamps."),
        click.option("--id-column", help="Column that tells the series apart."),
        click.option(
            "--freq", help="pandas alias such as h, D, 15min; by default from the timestamps."
        ),
    ):  # fmt: skip
        with_columns = option(with_columns)
    return with_columns


def _parse_names(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...]:
    """`price,promo` to names; wrong usage for an empty one."""
    names = () if text is None else tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise click.BadParameter(f"{text!r} holds an empty name")
    return names
