"""`/streams`: open one, push its values, forecast, reset and delete it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from laglite.service.answers import (
    as_json,
    next_value,
    series_forecast,
    stream_state,
    stream_update,
)
from laglite.service.json_body import JsonRoute
from laglite.service.problems import (
    JSON_PROBLEMS,
    NOT_FOUND,
    OVERLOADED,
    STREAMS_FULL,
    TOO_LARGE,
    TOO_SLOW,
    UNAUTHORIZED,
    check_limit,
    documented,
)
from laglite.service.requests import check_context, check_draws, chosen_seed, history, need_json
from laglite.service.schemas import (
    ForecastResponse,
    StreamForecastRequest,
    StreamRequest,
    StreamState,
    StreamUpdates,
    StreamValues,
)
from laglite.service.state import State
from laglite.service.streams import HeldStream
from laglite.streaming import Stream

StreamId = Annotated[str, Path(description="As POST /streams gave it.")]
PLAIN = (UNAUTHORIZED, NOT_FOUND, TOO_SLOW, TOO_LARGE, OVERLOADED)

router = APIRouter(prefix="/streams", tags=["streams"], route_class=JsonRoute)


@router.post(
    "",
    status_code=201,
    response_model=StreamState,
    responses=documented(*JSON_PROBLEMS, STREAMS_FULL)
    | {201: {"headers": {"Location": {"schema": {"type": "string"}}}}},
    dependencies=[Depends(need_json)],
)
async def open_stream(asked: StreamRequest, state: State) -> Response:
    """Open a stream of the values after `history`; it lives in memory, until it is idle."""
    name, forecaster = state.choose(asked.model)
    check_limit("horizon", asked.horizon, state.limits.horizon, "steps")
    check_context(state.limits, "context", asked.context)
    check_context(state.limits, "refresh", asked.refresh)
    values = history("history", asked.history, state.limits, may_be_missing=True, may_be_empty=True)
    state.streams.check_room()

    def call() -> Stream:
        return forecaster.stream(
            values,
            start=asked.start,
            freq=asked.freq,
            context_length=asked.context,
            refresh=asked.refresh,
            horizon=asked.horizon,
            warm_up=asked.warm_up,
            alarm_rate=asked.alarm_rate,
            adaptive=asked.adaptive,
        )

    held = state.streams.hold(name, await state.models_lane.run(call))
    found = stream_state(held, state.limits.stream_idle_seconds)
    return as_json(found, 201, {"Location": f"streams/{held.id}"})


@router.get("/{stream_id}", responses=documented(*PLAIN))
async def look_at_stream(stream_id: StreamId, state: State) -> StreamState:
    """How far a stream has come."""
    held = state.streams.get(stream_id)
    return await state.models_lane.run(lambda: _state_of(state, held))


@router.post(
    "/{stream_id}/values",
    response_model=StreamUpdates,
    responses=documented(*JSON_PROBLEMS, NOT_FOUND),
    dependencies=[Depends(need_json)],
)
async def push_values(stream_id: StreamId, asked: StreamValues, state: State) -> Response:
    """Judge the next values by what was predicted before each, and take them in: all or none."""
    held = state.streams.get(stream_id)
    limits = state.limits
    check_limit("values", len(asked.values), limits.stream_values, "values at once")
    check_limit("quantiles", len(asked.quantiles), limits.quantiles, "levels")
    values = history("values", asked.values, limits, may_be_missing=True)

    def call() -> StreamUpdates:
        held.stream.axis.shifted(held.stream.passed + len(values))  # a time that there is
        updates = [stream_update(held.stream.update(value)) for value in values.tolist()]
        state.metrics.stream_values.inc(len(values))
        return StreamUpdates(
            updates=updates,
            next=next_value(held, asked.quantiles),
            stream=_state_of(state, held),
        )

    return as_json(await state.models_lane.run(call))


@router.post(
    "/{stream_id}/forecast",
    response_model=ForecastResponse,
    responses=documented(*JSON_PROBLEMS, NOT_FOUND),
    dependencies=[Depends(need_json)],
)
async def forecast_stream(
    stream_id: StreamId, asked: StreamForecastRequest, state: State
) -> Response:
    """Forecast a stream's next values; it stays where it is."""
    held = state.streams.get(stream_id)
    check_draws(state.limits, 1, asked.samples, asked.horizon, len(asked.quantiles))
    seed = chosen_seed(asked.seed)

    def call() -> Response:
        forecast = held.stream.forecast(
            asked.horizon,
            num_samples=asked.samples,
            seed=seed,
            nonnegative=asked.nonnegative,
        )
        found = series_forecast(forecast, asked.quantiles, include_samples=asked.include_samples)
        return as_json(
            ForecastResponse(
                model=held.model, horizon=asked.horizon, seed=seed, forecasts=[found], warnings=[]
            )
        )

    return await state.models_lane.run(call)


@router.post("/{stream_id}/reset", responses=documented(*PLAIN))
async def reset_stream(stream_id: StreamId, state: State) -> StreamState:
    """Forget what came since the stream was opened."""
    held = state.streams.get(stream_id)

    def call() -> StreamState:
        held.stream.reset()
        return _state_of(state, held)

    return await state.models_lane.run(call)


@router.delete(
    "/{stream_id}", status_code=204, response_class=Response, responses=documented(*PLAIN)
)
async def delete_stream(stream_id: StreamId, state: State) -> Response:
    """Forget a stream."""
    state.streams.drop(stream_id)
    return Response(status_code=204)


def _state_of(state: State, held: HeldStream) -> StreamState:
    return stream_state(held, state.limits.stream_idle_seconds)
