"""Options of every command that reads a table of series: its form, columns and frequency."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from laglite.reading import Columns, TableForm
from laglite.reading.dates import DATE_ORDERS

Command = Callable[..., Any]


def table_options(command: Command) -> Command:
    """Add --freq, the column names and the table's form; the command gets `freq` and `columns`."""

    @functools.wraps(command)
    def with_columns(
        *arguments: Any,
        id_column: str | None,
        time_column: str | None,
        target_column: str | None,
        covariates: tuple[str, ...],
        wide: bool,
        time_zone: str | None,
        delimiter: str | None,
        decimal: str | None,
        date_order: str | None,
        **options: Any,
    ) -> Any:
        form = TableForm(delimiter, decimal, wide, time_zone, date_order)
        columns = Columns(id_column, time_column, target_column, covariates, form)
        return command(*arguments, columns=columns, **options)

    for option in (
        click.option(
            "--date-order", type=click.Choice(list(DATE_ORDERS)),
            help="Of dates with the year last: is 3/4/2021 in April or in March?",
        ),
        click.option(
            "--decimal", type=click.Choice([".", ","]), help="Decimal mark of a CSV's numbers."
        ),
        click.option(
            "--delimiter", metavar="CHAR", callback=_parse_delimiter,
            help="Between the cells of a CSV; tab for a tabulator.  [default: found out]",
        ),
        click.option(
            "--time-zone", metavar="ZONE",
            help="Of times without a UTC offset, such as Europe/Berlin.",
        ),
        click.option("--wide", is_flag=True, help="Each column beside the times is a series."),
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


def _parse_delimiter(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """A single character; wrong usage otherwise."""
    delimiter = "\t" if text in ("tab", "\\t") else text
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"'):
        raise click.BadParameter(f"{text!r} is not a single character, nor tab")
    return delimiter


def _parse_names(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...]:
    """`price,promo` to names; wrong usage for an empty one."""
    names = () if text is None else tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise click.BadParameter(f"{text!r} holds an empty name")
    return names
