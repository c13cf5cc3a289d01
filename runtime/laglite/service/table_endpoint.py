"""`POST /table`: a file's text to series, by the reader of the command line."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from laglite.errors import InputError
from laglite.frequency import format_timestamp, format_timestamps, timestamps
from laglite.reading import Columns, InputSeries, TableForm, text_series
from laglite.reading.text_files import GZIP
from laglite.service.answers import as_json, numbers
from laglite.service.problems import (
    INVALID,
    LIMIT,
    MEDIA,
    OVERLOADED,
    TOO_LARGE,
    TOO_SLOW,
    UNAUTHORIZED,
    RefusalError,
    check_limit,
    documented,
)
from laglite.service.requests import need_media
from laglite.service.schemas import TableQuery, TableResponse, TableSeries
from laglite.service.state import State

MEDIA_TYPES = ("text/csv", "application/jsonl", "application/x-ndjson")
EXAMPLE = "date,sales\n2024-01-01,11.2\n2024-01-02,12.9\n2024-01-03,\n2024-01-04,14.1\n"
OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")

router = APIRouter()


@router.post(
    "/table",
    response_model=TableResponse,
    responses=documented(
        UNAUTHORIZED, TOO_SLOW, TOO_LARGE, MEDIA, INVALID, LIMIT, OVERLOADED
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"text/csv": {"example": EXAMPLE}},  # bytes need no schema
        }
    },
    tags=["tables"],
)  # fmt: skip
async def table(
    request: Request,
    state: State,
    asked: Annotated[TableQuery, Query()],
) -> Response:
    """Read CSV or JSON lines into series that /forecast takes, guessing columns and frequency.

    The times of the series are those of their clock, without UTC offsets.
    """
    need_media(request, MEDIA_TYPES)
    raw = await request.body()
    for magic, kind in ((GZIP, "is packed by gzip"), (b"PAR1", "is a Parquet file")):
        if raw.startswith(magic):
            raise RefusalError(
                MEDIA, f"{asked.name}: {kind}; send text, as CSV or JSON lines", field="body"
            )
    form = TableForm(asked.delimiter, asked.decimal, asked.wide, asked.time_zone, asked.date_order)
    columns = Columns(asked.id_column, asked.time_column, asked.target_column, form=form)
    most = state.limits.table_values

    def call() -> Response:
        notes: list[str] = []
        try:
            found = text_series(asked.name, raw, columns, asked.freq, notes.append, most)
        except InputError as error:
            raise RefusalError(INVALID, as_parameters(str(error)), field="body") from error
        check_limit("body", len(found), state.limits.series, "series")
        longest = max(len(one.values) for one in found)
        check_limit("body", longest, state.limits.values, "values in a series")
        series = [_table_series(one) for one in found]
        return as_json(TableResponse(series=series, notes=list(map(as_parameters, notes))))

    return await state.tables_lane.run(call)


def as_parameters(message: str) -> str:
    """A message of the reader, with the names of the parameters for those of the options."""
    return OPTION.sub(lambda found: found[1].replace("-", "_"), message)


def _table_series(series: InputSeries) -> TableSeries:
    start, freq, times = series.start, series.freq, None
    if start is not None and freq is not None:
        times = format_timestamps(timestamps(start, freq, 0, len(series.values)))
    return TableSeries.model_construct(
        id=series.item_id,
        values=numbers(series.values),
        start=None if start is None or freq is None else format_timestamp(start),
        freq=None if freq is None else freq.alias,
        timestamps=times,
    )
