"""From JSON to what the models take, within the limits."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from laglite.arguments import as_history
from laglite.errors import InputError
from laglite.model_arguments import missed_calendar, missed_covariates, prompt_length
from laglite.service.batching import SeriesInput
from laglite.service.problems import INVALID, MEDIA, RefusalError, check_limit
from laglite.service.schemas import LARGEST_SEED, Series
from laglite.service.settings import Limits
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis


async def need_json(request: Request) -> None:
    """Raises RefusalError for a body that is not said to be JSON.

    No thread, so that a body is checked as soon as it is parsed, before the next one is.
    """
    need_media(request, ("application/json",))


def need_media(request: Request, taken: Sequence[str]) -> None:
    """Raises RefusalError for a body of another content type."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() not in taken:
        raise RefusalError(
            MEDIA, f"the content type is {given[:100]!r}; send {' or '.join(taken)}",
            field="Content-Type",
        )  # fmt: skip


def chosen_seed(seed: int | None) -> int:
    """The seed of a request, or a new one that JSON can say."""
    return secrets.randbelow(LARGEST_SEED + 1) if seed is None else seed


def check_draws(limits: Limits, series: int, samples: int, horizon: int, levels: int) -> None:
    """Raises RefusalError for a forecast that is larger than allowed."""
    check_limit("horizon", horizon, limits.horizon, "steps")
    check_limit("samples", samples, limits.samples, "sample paths")
    check_limit("series", series, limits.series, "series")
    check_limit("quantiles", levels, limits.quantiles, "levels")
    check_limit("horizon", series * horizon, limits.steps, "steps (series x horizon)")
    draws = series * samples * horizon
    check_limit("horizon", draws, limits.draws, "draws (series x samples x horizon)")


def check_context(limits: Limits, field: str, tokens: int | None) -> None:
    """Raises RefusalError for a context or refresh that takes more memory than allowed."""
    check_limit(field, tokens or 0, limits.context, "tokens")


def check_positions(spec: ModelSpec, context: int | None, horizon: int) -> None:
    """Raises RefusalError for a horizon that does not fit the model."""
    try:
        prompt_length(spec, context, horizon)
    except InputError as error:
        raise RefusalError(INVALID, str(error), field="horizon") from error


def series_input(field: str, series: Series, horizon: int, limits: Limits) -> SeriesInput:
    """A checked series. Raises RefusalError that names `field`."""
    values = history(f"{field}.values", series.values, limits)
    try:  # here, rather than after all series of a batch have been computed
        if series.start is not None:
            TimeAxis.of(series.start, series.freq).shifted(len(values) + horizon - 1)
    except InputError as error:
        raise RefusalError(INVALID, str(error), field=f"{field}.freq") from error
    return SeriesInput(values, series.start, series.freq, series.covariates, series.id)


def history(
    field: str,
    values: Sequence[float | None],
    limits: Limits,
    *,
    may_be_missing: bool = False,
    may_be_empty: bool = False,
) -> NDArray[np.float64]:
    """Checked values, NaN where missing. Raises RefusalError that names `field`."""
    check_limit(field, len(values), limits.values, "values")
    numbers = np.array(values, np.float64)
    if may_be_empty and not len(numbers):
        return numbers
    try:
        return as_history(numbers, field, may_be_missing=may_be_missing)
    except InputError as error:
        raise RefusalError(INVALID, str(error), field=field) from error


def warnings_of(spec: ModelSpec, series: Sequence[Any]) -> list[str]:
    """What the model misses of anything with `start` and `covariates`."""
    found = []
    if any(one.start is None for one in series):
        found.append(missed_calendar(spec))
    if any(one.covariates is None for one in series):
        found.append(missed_covariates(spec))
    return [message for message in found if message is not None]
