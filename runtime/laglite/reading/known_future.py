"""The part of a file that is known beforehand: covariates of the steps to be forecast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.frequency import format_timestamp, timestamps
from laglite.reading.input_series import InputSeries


def covariates_over(
    series: InputSeries, horizon: int, source: str, names: tuple[str, ...]
) -> NDArray[np.float64] | None:
    """Covariates [length + horizon, num] of a series and its forecast; None if it has none.

    Raises InputError that names the series of `source` and what is missing of the `horizon` steps
    ahead; `names` are the covariates' columns.
    """
    known, length = series.covariates, len(series.values)
    if known is None:
        return None
    where = source if series.item_id is None else f"{source}, series {series.item_id!r}"
    if np.isnan(series.values).all():
        raise InputError(f"{where}: all {length} values are missing; leave the series out")
    ahead = len(known) - length
    if ahead < horizon:
        raise InputError(
            f"{where}: horizon {horizon} needs covariates of {horizon} steps after the last value; "
            f"{ahead} are there, {horizon - ahead} are missing: add rows with an empty target "
            "(in the series format: lengthen the lists)"
        )
    needed = known[: length + horizon]
    gaps = np.isnan(needed[length:]).any(axis=1)
    if gaps.any():
        step = int(gaps.argmax())
        column = int(np.isnan(needed[length + step]).argmax())
        name = repr(names[column]) if len(names) == needed.shape[1] else str(column)
        raise InputError(
            f"{where}: covariate {name} is missing at {_step_name(series, step)}, "
            "but must be known over the whole horizon"
        )
    return needed


def _step_name(series: InputSeries, step: int) -> str:
    if series.start is None or series.freq is None:
        return f"step {step + 1} after the last value"
    return format_timestamp(timestamps(series.start, series.freq, len(series.values) + step, 1)[0])
