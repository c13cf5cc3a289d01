"""Options of commands that write tables of forecasts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from laglite.errors import InputError
from laglite.forecast_table import TableLayout, parse_interval

Command = Callable[..., Any]


def layout_options(command: Command) -> Command:
    """Add --layout and --interval-columns; the command gets `layout`."""

    @functools.wraps(command)
    def with_layout(
        *arguments: Any, table_layout: str, intervals: tuple[float, ...], **options: Any
    ) -> Any:
        source = click.get_current_context().get_parameter_source("quantiles")
        if intervals and source == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--interval-columns and --quantiles: choose one of them")
        return command(*arguments, layout=TableLayout(table_layout == "wide", intervals), **options)

    for option in (
        click.option(
            "--interval-columns", "intervals", metavar="P,...", callback=_parse_intervals,
            help="Instead of quantiles, the ends of the 50,90 % intervals, named as Nixtla does: "
            "MODEL-lo-90, MODEL-hi-90.",
        ),
        click.option(
            "--layout", "table_layout", type=click.Choice(["long", "wide"]), default="long",
            show_default=True, help="A row for each series and step, or columns for each series.",
        ),
    ):  # fmt: skip
        with_layout = option(with_layout)
    return with_layout


def _parse_intervals(_: click.Context, __: click.Parameter, text: str | None) -> tuple[float, ...]:
    """`50,90` to numbers; wrong usage otherwise."""
    if text is None:
        return ()
    try:
        percents = [parse_interval(part.strip()) for part in text.split(",")]
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    return tuple(dict.fromkeys(percents))
