"""Arguments of the public calls, checked: each error names the argument or the series."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from laglite.errors import InputError

FLOAT32_MAX = float(np.finfo(np.float32).max)


def whole_number(name: str, value: Any) -> int:
    """`value` as an int of at least 1. Raises InputError that names the argument."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
    return number


def as_seed(value: Any) -> int:
    """`value` as an int. Raises InputError."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise InputError(f"seed must be a whole number, not {value!r}") from error


def as_history(
    target: ArrayLike, name: str | None = None, *, may_be_missing: bool = False
) -> NDArray[np.float64]:
    """Checked values [length], float64 with NaN where missing.

    Raises InputError for other shapes and types, infinite values, and nothing observed.
    """
    label = "target" if name is None else repr(name)
    try:
        values = np.asanyarray(target)
        if values.dtype.kind == "O":  # such as a list with None for missing values
            values = values.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{label}: values must be numbers, NaN where missing ({error})") from error
    if values.dtype.kind not in "fiu":
        raise InputError(f"{label}: values must be numbers, NaN where missing, not {values.dtype}")
    values = plain_floats(values)
    if values.ndim != 1:
        raise InputError(f"{label}: a series is 1-D, not of shape {values.shape}")
    if len(values) == 0:
        raise InputError(f"{label}: the series is empty")
    beyond = np.abs(values) > FLOAT32_MAX
    if beyond.any():
        row = int(beyond.argmax())
        raise InputError(f"{label}: value {row} is {values[row]}, beyond what float32 can hold")
    if np.isnan(values).all() and not may_be_missing:
        raise InputError(f"{label}: all {len(values)} values are missing; leave the series out")
    return values


def plain_floats(values: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers as plain float64, NaN where they are masked."""
    floats = values.astype(np.float64)
    if isinstance(floats, np.ma.MaskedArray):
        return np.ma.filled(floats, np.nan)
    return np.asarray(floats)


def for_each(name: str, value: Any, count: int) -> Sequence[Any]:
    """One value for every series, from one for all or a sequence of them."""
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) != count:
            raise InputError(f"{name} has {len(value)} entries for {count} series")
        return list(value)
    return [value] * count
