"""Covariates: real-valued inputs that are known beforehand, such as a price or a planned event.

A covariate has a value at every step of the history and of the forecast. The token of time t
carries the covariates of t + 1, since they say something about the value that is predicted there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.arguments import plain_floats
from laglite.errors import InputError

MOST_DEVIATIONS = 10.0
CONSTANT_SHARE = 1e-12  # a deviation below this share of the largest magnitude is rounding

Array = NDArray[np.float32]


def standardise(covariates: NDArray[np.float64], begin: int, end: int) -> Array:
    """Covariates in standard units of the history's rows `begin .. end - 1`.

    `covariates` [rows, num] holds NaN where missing. Each column loses the mean of the window's
    known values and is divided by their standard deviation, by 1 where that is 0 or the window
    knows no value. A missing value becomes 0, and nothing counts as further away than 10 standard
    deviations: a column that hardly moved before may jump. Returns float32 [rows, num].
    """
    window = covariates[begin:end]
    known = ~np.isnan(window)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, window, 0.0)
    mean = filled.sum(axis=0) / count
    spread = np.sqrt((np.where(known, window - mean, 0.0) ** 2).sum(axis=0) / count)
    largest = np.abs(filled).max(axis=0, initial=0.0)
    spread = np.where(spread > CONSTANT_SHARE * largest, spread, 1.0)
    units = np.clip((covariates - mean) / spread, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    features: Array = np.nan_to_num(units, nan=0.0).astype(np.float32)
    return features


def as_covariates(covariates: Any, num: int, past: int, ahead: int) -> NDArray[np.float64]:
    """Checked covariates [past + ahead, num], float64 with NaN where missing.

    Missing values are allowed in the `past` rows of the history alone. Raises InputError for any
    other shape, for values that are no numbers, infinite, or missing where they must be known.
    """
    expected = (
        f"covariates: expected numbers of shape [{past + ahead}, {num}], a row for each of the "
        f"{past} values of the history and the {ahead} after it"
    )
    try:
        values = np.asanyarray(covariates)
        if values.dtype.kind == "O":  # such as lists with None for missing values
            values = values.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{expected}; {error}") from error
    if values.dtype.kind not in "fiub":
        raise InputError(f"{expected}; got {values.dtype}")
    if values.shape != (past + ahead, num):
        raise InputError(f"{expected}; got shape {list(values.shape)}")
    values = plain_floats(values)
    for wrong, fault in (
        (np.isinf(values), "is infinite"),
        (np.isnan(values) & (np.arange(past + ahead)[:, None] >= past), "is missing"),
    ):
        if wrong.any():
            row, column = (int(place) for place in np.argwhere(wrong)[0])
            raise InputError(
                f"covariates: covariate {column} of row {row} {fault}; the {ahead} rows after the "
                "history must be known, those of the history may be NaN"
            )
    return values
