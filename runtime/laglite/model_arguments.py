"""Arguments of a forecast beside the model: what it can take, and what it will miss."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from laglite.arguments import whole_number
from laglite.bundle import Bundle
from laglite.covariates import as_covariates
from laglite.errors import InputError, LagliteWarning
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis


def prompt_length(spec: ModelSpec, context_length: int | None, horizon: int) -> int:
    """The prompt's length, checked to fit the model together with the horizon.

    Raises InputError.
    """
    if context_length is None:
        context = spec.context_length
    else:
        context = whole_number("context_length", context_length)
    most = spec.max_positions
    if most is not None and context + horizon - 1 > most:
        raise InputError(
            f"context {context} and horizon {horizon} need {context + horizon - 1} positions, "
            f"but this model has {most}: shorten one of them"
        )
    return context


def checked_covariates(
    bundle: Bundle, covariates: ArrayLike | None, past: int, ahead: int
) -> NDArray[np.float64] | None:
    """Covariates [past + ahead, num], with a warning to the caller's caller if they are missed.

    Raises InputError.
    """
    num = bundle.spec.num_covariates
    if covariates is not None and not num:
        raise InputError(
            f"covariates: the model {bundle.name!r} was trained without any; "
            "leave them out, or choose a model with covariates"
        )
    if covariates is not None:
        return as_covariates(covariates, num, past, ahead)
    missed = missed_covariates(bundle.spec)
    if missed is not None:
        warnings.warn(missed, LagliteWarning, stacklevel=3)
    return None


def missed_covariates(spec: ModelSpec) -> str | None:
    """What is to be said where no covariates are given; None if the model needs none."""
    num = spec.num_covariates
    if not num:
        return None
    return (
        f"this model was trained with {num} covariate{'s' if num > 1 else ''}; without "
        "them they are 0, their average, and its forecasts get worse"
    )


def time_axis(spec: ModelSpec, start: Any, freq: Any) -> TimeAxis:
    """The time axis, with a warning to the caller's caller if the model will miss it.

    Raises InputError.
    """
    if start is not None and freq is not None:
        return TimeAxis.of(start, freq)
    if start is not None or freq is not None:
        given, absent = ("start", "freq") if freq is None else ("freq", "start")
        warnings.warn(
            f"{given} without {absent}: the forecast uses no calendar features",
            LagliteWarning,
            stacklevel=3,
        )
    else:
        missed = missed_calendar(spec)
        if missed is not None:
            warnings.warn(missed, LagliteWarning, stacklevel=3)
    return TimeAxis()


def missed_calendar(spec: ModelSpec) -> str | None:
    """What is to be said where no times are given; None if the model can do without."""
    if not spec.calendar or spec.calendar_optional:
        return None
    return (
        "this model was trained with calendar features on every series; without start "
        "and freq they are 0 and its forecasts get worse"
    )
