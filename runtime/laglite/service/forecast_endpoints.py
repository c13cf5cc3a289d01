"""`POST /forecast`, `POST /score` and `GET /models`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Response

from laglite.forecast import Score
from laglite.service.answers import as_json, numbers, series_forecast
from laglite.service.batching import BatchKey
from laglite.service.json_body import JsonRoute
from laglite.service.problems import JSON_PROBLEMS, UNAUTHORIZED, check_limit, documented
from laglite.service.requests import (
    check_context,
    check_draws,
    check_positions,
    chosen_seed,
    history,
    need_json,
    series_input,
    warnings_of,
)
from laglite.service.schemas import (
    ForecastRequest,
    ForecastResponse,
    ModelInfo,
    ModelsResponse,
    ScoreRequest,
    ScoreResponse,
)
from laglite.service.state import State
from laglite.version import __version__

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/forecast",
    response_model=ForecastResponse,
    responses=documented(*JSON_PROBLEMS),
    dependencies=[Depends(need_json)],
    tags=["forecasts"],
)
async def forecast(asked: ForecastRequest, state: State) -> Response:
    """Forecast one or many series."""
    name, forecaster = state.choose(asked.model)
    check_draws(state.limits, len(asked.series), asked.samples, asked.horizon, len(asked.quantiles))
    check_context(state.limits, "context", asked.context)
    check_positions(forecaster.spec, asked.context, asked.horizon)
    series = [
        series_input(f"series.{place}", one, asked.horizon, state.limits)
        for place, one in enumerate(asked.series)
    ]
    seed = chosen_seed(asked.seed)
    key = BatchKey(name, asked.horizon, asked.samples, asked.context, asked.nonnegative)
    forecasts = await state.batcher.forecast(key, series, seed)

    def answer() -> Response:
        return as_json(
            ForecastResponse(
                model=name,
                horizon=asked.horizon,
                seed=seed,
                forecasts=[
                    series_forecast(one, asked.quantiles, include_samples=asked.include_samples)
                    for one in forecasts
                ],
                warnings=warnings_of(forecaster.spec, series),
            )
        )

    return await asyncio.to_thread(answer)


@router.post(
    "/score",
    response_model=ScoreResponse,
    responses=documented(*JSON_PROBLEMS),
    dependencies=[Depends(need_json)],
    tags=["forecasts"],
)
async def score(asked: ScoreRequest, state: State) -> Response:
    """How likely each observed value was, given the history and the observed values before it."""
    name, forecaster = state.choose(asked.model)
    check_limit("observed", len(asked.observed), state.limits.horizon, "values to score")
    check_context(state.limits, "context", asked.context)
    check_positions(forecaster.spec, asked.context, len(asked.observed))
    past = history("history", asked.history, state.limits)
    observed = history("observed", asked.observed, state.limits, may_be_missing=True)

    covariates: Any = asked.covariates  # lists with None: the library checks them

    def call() -> Score:
        return forecaster.score(
            past,
            observed,
            start=asked.start,
            freq=asked.freq,
            covariates=covariates,
            context_length=asked.context,
        )

    found = await state.models_lane.run(call)
    return as_json(
        ScoreResponse(
            model=name,
            cdf=numbers(found.cdf),
            log_prob=numbers(found.log_prob),
            warnings=warnings_of(forecaster.spec, [asked]),
        )
    )


@router.get("/models", responses=documented(UNAUTHORIZED), tags=["service"])
async def models(state: State) -> ModelsResponse:
    """The models that are served, the default first, and this service's limits."""
    return ModelsResponse(
        version=__version__,
        models=[
            ModelInfo(
                name=name,
                parameters=one.spec.num_parameters,
                context=one.spec.context_length,
                most_positions=one.spec.max_positions,
                covariates=one.spec.num_covariates,
                precision=state.precision,
                license=str(one.bundle.manifest["license"]),
            )
            for name, one in state.forecasters.items()
        ],
        limits=vars(state.limits),
    )
