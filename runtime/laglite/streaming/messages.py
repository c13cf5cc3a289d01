"""Messages: a line or payload to a value and its time."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from laglite.arguments import FLOAT32_MAX
from laglite.errors import InputError
from laglite.frequency import parse_timestamp
from laglite.reading.tables import is_missing

LONGEST_MESSAGE = 65_536  # bytes


@dataclass(frozen=True)
class Message:
    """A value, NaN if missing, and its time if it has one.

    `fault` says what could not be read; the value is missing then.
    """

    value: float
    time: np.datetime64 | None = None
    fault: str | None = None


def parse_message(data: bytes) -> Message:
    """`12.5`, or JSON such as `{"ds": "2024-01-01 05:00", "y": 12.5}`.

    Nothing, NaN, NA and null stand for a missing value. Other keys are left alone.
    """
    try:
        fields = _fields(data)
        time = None if fields.get("ds") is None else parse_timestamp(fields["ds"])
    except InputError as error:
        return Message(math.nan, fault=str(error))
    try:
        return Message(_value(fields), time)
    except InputError as error:
        return Message(math.nan, time, str(error))


def _fields(data: bytes) -> dict[str, Any]:
    """The keys of a JSON object; a plain text is its "y". Raises InputError."""
    if len(data) > LONGEST_MESSAGE:
        raise InputError(f"longer than {LONGEST_MESSAGE:,} bytes")
    try:
        text = data.decode("utf-8-sig").strip()
        fields: dict[str, Any] = json.loads(text) if text.startswith("{") else {"y": text}
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error})") from error
    return fields


def _value(fields: dict[str, Any]) -> float:
    """The number under "y", NaN where missing. Raises InputError."""
    if "y" not in fields:
        raise InputError('no value "y"')
    cell = fields["y"]
    if is_missing(cell):
        return math.nan
    try:
        value = math.inf if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError) as error:
        raise InputError(f"{_short(cell)} is not a number") from error
    except OverflowError:
        value = math.inf
    if abs(value) > FLOAT32_MAX:
        raise InputError(f"{_short(cell)} is no number that float32 can hold")
    return value


def _short(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:57]}..."
