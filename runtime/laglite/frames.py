"""Forecasts of data frames: pandas, polars, or anything that gives an Arrow table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from laglite.arguments import whole_number
from laglite.errors import InputError
from laglite.forecast import parse_quantile
from laglite.forecast_run import SERIES_A_BATCH, forecast_series
from laglite.forecast_table import LONG, ForecastSummary, columns, row_times
from laglite.frequency import parse_frequency
from laglite.reading import Columns, TableForm, covariates_over
from laglite.reading.parquet_files import arrow_table, import_pyarrow
from laglite.reading.series import rows_by_item, table_series
from laglite.reading.tables import listed

if TYPE_CHECKING:
    from laglite.forecaster import Forecaster

SOURCE = "frame"
FRAME_PACKAGES = ("pandas", "polars")
ITEM, TIME, TARGET = "unique_id", "ds", "y"
OTHER_NAMES = {ITEM: "item_id", TIME: "timestamp", TARGET: "target"}  # of Chronos and AutoGluon


@dataclass(frozen=True)
class FrameColumns:
    """Names of a frame's columns, None where it has none, and the zone of its naive times."""

    item: str | None = ITEM
    time: str | None = TIME
    target: str = TARGET
    covariates: tuple[str, ...] = ()
    time_zone: str | None = None


def forecast_frame(
    forecaster: Forecaster,
    frame: Any,
    names: FrameColumns,
    quantiles: Sequence[float],
    *,
    horizon: int,
    freq: Any,
    **options: Any,
) -> Any:
    """See `Forecaster.predict_df`; `options` are those of `predict_batch`."""
    horizon = whole_number("horizon", horizon)
    levels = _levels(quantiles)
    given = None if freq is None else parse_frequency(freq)
    frame = _known_frame(frame)
    present = frame.columns if _package(frame) in FRAME_PACKAGES else frame.column_names
    names = _find_columns([str(name) for name in present], names)
    _check_names(names, levels)
    table = _to_arrow(frame, names)
    read = arrow_table(SOURCE, table, 0)
    form = TableForm(time_zone=names.time_zone)
    chosen = Columns(names.item, names.time, names.target, names.covariates, form)
    series = table_series(read, chosen, given, logging.getLogger("laglite").info, sort=True)
    known = [covariates_over(one, horizon, SOURCE, names.covariates) for one in series]
    summaries: list[ForecastSummary] = []
    for begin in range(0, len(series), SERIES_A_BATCH):
        part = slice(begin, begin + SERIES_A_BATCH)
        forecasts = forecast_series(
            forecaster, series[part], known[part], horizon=horizon, **options
        )
        summaries += [ForecastSummary.of(one, levels) for one in forecasts]
    first_rows = [int(index[0]) for index in rows_by_item(read, names.item).values()]
    return _like(frame, _result(table, names, summaries, levels, np.repeat(first_rows, horizon)))


def _levels(quantiles: Sequence[float]) -> list[float]:
    if isinstance(quantiles, str) or not isinstance(quantiles, Iterable):
        raise InputError(f"quantiles must be a list of numbers from 0 to 1, not {quantiles!r}")
    return [parse_quantile(level) for level in quantiles]


def _find_columns(present: Sequence[str], names: FrameColumns) -> FrameColumns:
    """The names as given; where a default is absent, Chronos' name, or no id column at all."""
    item = _present(present, names.item, ITEM)
    if item not in present and item == ITEM:
        item = None
    time = _present(present, names.time, TIME)
    target = _present(present, names.target, TARGET)
    wanted = [(time, "timestamp_column"), (target, "target_column"), (item, "id_column")]
    for name, option in [*wanted, *((each, "covariates") for each in names.covariates)]:
        if name is not None and name not in present:
            index = "; an index is not read: reset_index()" if option == "timestamp_column" else ""
            raise InputError(
                f"{SOURCE}: no column {name!r}; the columns are {listed(present)}: "
                f"give {option}{index}"
            )
    return replace(names, item=item, time=time, target=str(target))


def _check_names(names: FrameColumns, levels: Sequence[float]) -> None:
    """Raises InputError for an id or a time that is called as a column of figures is."""
    taken = next((name for name in (names.item, names.time) if name in LONG.figures(levels)), None)
    if taken is not None:
        raise InputError(
            f"{SOURCE}: the forecasts have a column {taken!r} of their own; rename the frame's"
        )


def _present(present: Sequence[str], name: str | None, default: str) -> str | None:
    other = OTHER_NAMES[default]
    return other if name == default and name not in present and other in present else name


def _known_frame(frame: Any) -> Any:
    """A DataFrame as it is, anything else that gives an Arrow table as that. Raises InputError."""
    pa, _, _ = import_pyarrow("predict_df")
    if isinstance(frame, pa.Table) or (_package(frame) in FRAME_PACKAGES and _is_frame(frame)):
        return frame
    if _package(frame) not in FRAME_PACKAGES and hasattr(frame, "__arrow_c_stream__"):
        with _reading(pa):
            return pa.table(frame)
    raise InputError(
        f"{SOURCE}: a pandas or polars DataFrame or an Arrow table is needed, "
        f"not {type(frame).__name__}"
    )


def _to_arrow(frame: Any, names: FrameColumns) -> Any:
    """A pyarrow table of the columns that are read. Raises InputError."""
    pa, _, _ = import_pyarrow("predict_df")
    wanted = [names.item, names.time, names.target, *names.covariates]
    wanted = list(dict.fromkeys(name for name in wanted if name is not None))
    with _reading(pa):
        if _package(frame) == "pandas":
            table = pa.Table.from_pandas(frame[wanted], preserve_index=False)
        elif _package(frame) == "polars":
            table = frame.select(wanted).to_arrow()
        else:
            table = frame.select(wanted)
    if table.num_rows == 0:
        raise InputError(f"{SOURCE}: the table has no rows")
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if isinstance(kind, pa.BaseExtensionType):
            raise InputError(
                f"{SOURCE}, column {name!r}: {kind} is not read; convert it first "
                "(pandas' periods: .dt.to_timestamp())"
            )
    return table


@contextmanager
def _reading(pa: Any) -> Iterator[None]:
    """What cannot become an Arrow table, such as a column of mixed types, as an InputError."""
    try:
        yield
    except (pa.ArrowException, TypeError, ValueError, KeyError) as error:
        raise InputError(f"{SOURCE}: cannot be read as a table ({error})") from error


def _result(
    table: Any,
    names: FrameColumns,
    summaries: Sequence[ForecastSummary],
    levels: Sequence[float],
    places: Any,
) -> Any:
    """A pyarrow table: ids and times named and typed as in `table`, mean, quantiles.

    `places` int64 [rows] is where in `table` the id of each row stands.
    """
    pa, _, _ = import_pyarrow("predict_df")
    result = columns(summaries, levels)
    if names.item is not None:
        result[ITEM] = table.column(names.item).take(pa.array(places))
    if names.time is not None:
        result[TIME] = _times(pa, summaries, table.column(names.time).type)
    titles = {ITEM: names.item, TIME: names.time}
    return pa.table({titles.get(name) or name: cells for name, cells in result.items()})


def _times(pa: Any, summaries: Sequence[ForecastSummary], kind: Any) -> Any:
    """Times of the rows in the type of the frame's, or in microseconds where that is not exact."""
    moments, zone = row_times(summaries)
    temporal = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    times = pa.array(moments, pa.timestamp("us", zone if temporal or zone is None else "UTC"))
    try:
        return times.cast(kind) if temporal else times
    except pa.ArrowInvalid:
        return times


def _is_frame(frame: Any) -> bool:
    return type(frame).__name__ == "DataFrame"


def _package(frame: Any) -> str:
    return type(frame).__module__.partition(".")[0]


def _like(frame: Any, table: Any) -> Any:
    """The table as the kind of frame that `frame` is."""
    if _package(frame) == "pandas":
        return table.to_pandas()
    if _package(frame) == "polars":
        import polars as pl

        return pl.from_arrow(table)
    return table
