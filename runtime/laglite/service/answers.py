"""From results to JSON: numbers that JSON cannot say are null."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import BaseModel

from laglite.errors import LagliteError
from laglite.forecast import Forecast, quantile_label
from laglite.frequency import format_timestamp, format_timestamps
from laglite.service.schemas import NextValue, SeriesForecast, StreamState, StreamUpdate
from laglite.service.streams import HeldStream
from laglite.streaming.stream import Update


def as_json(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response whose content is written once, without being checked again."""
    return Response(model.model_dump_json(), status, headers, "application/json")


def series_forecast(
    forecast: Forecast, levels: Sequence[float], *, include_samples: bool
) -> SeriesForecast:
    """The JSON of a forecast; every float32 comes back exactly."""
    index = forecast.index
    return SeriesForecast.model_construct(
        id=forecast.item_id,
        timestamps=None if index is None else format_timestamps(index),
        mean=forecast.mean.tolist(),
        quantiles={quantile_label(level): forecast.quantile(level).tolist() for level in levels},
        samples=forecast.samples.tolist() if include_samples else None,
    )


def numbers(values: NDArray[np.float64]) -> list[float | None]:
    """Values for JSON, None for what is no finite number."""
    return [number(value) for value in values.tolist()]


def number(value: float) -> float | None:
    """A value for JSON, None for what is no finite number."""
    return value if math.isfinite(value) else None


def stream_state(held: HeldStream, idle_seconds: float) -> StreamState:
    """The JSON of a stream."""
    stream = held.stream
    time = stream.next_time
    return StreamState(
        id=held.id,
        model=held.model,
        values=stream.counts.values,
        missing=stream.counts.missing,
        ready=stream.ready,
        next_timestamp=None if time is None else format_timestamp(time),
        alarm_level=stream.alarm_level,
        idle_seconds=idle_seconds,
    )


def stream_update(update: Update) -> StreamUpdate:
    """The JSON of what was predicted of a value."""
    return StreamUpdate(
        value=number(update.value),
        cdf=number(update.cdf),
        log_prob=number(update.log_prob),
        outside=update.outside,
    )


def next_value(held: HeldStream, levels: Sequence[float]) -> NextValue | None:
    """The JSON of a stream's prediction, None if there is none."""
    if not held.stream.ready:
        return None
    try:
        values = numbers(held.stream.quantiles(levels))
    except LagliteError:  # counts that the head cannot tell apart; the values were taken
        values = [None] * len(levels)
    time = held.stream.next_time
    return NextValue(
        timestamp=None if time is None else format_timestamp(time),
        quantiles=dict(zip(map(quantile_label, levels), values, strict=True)),
    )
