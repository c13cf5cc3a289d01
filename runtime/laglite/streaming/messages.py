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
from laglite.reading.files import is_missing

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
    if len(data) > LONGEST_MESSAGE:
        return Message(math.nan, fault=f"longer than {LONGEST_MESSAGE:,} bytes")
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return Message(math.nan, fault=f"not UTF-8 text (byte {error.start})")
    if not text.startswith("{"):
        return _message(None if is_missing(text) else text, None)
    try:
        fields: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Message(math.nan, fault=f"not valid JSON ({error})")
    time = None
    if fields.get("ds") is not None:
        try:
            time = parse_timestamp(fields["ds"])
        except InputError as error:
            return Message(math.nan, fault=str(error))
    if "y" not in fields:
        return Message(math.nan, time, 'no value "y"')
    return _message(fields["y"], time)


def _message(cell: Any, time: np.datetime64 | None) -> Message:
    """A message with the number in `cell`, None if missing."""
    if cell is None or is_missing(cell):
        return Message(math.nan, time)
    try:
        if isinstance(cell, bool):
            raise TypeError
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return Message(math.nan, time, f"{_short(cell)} is not a number")
    if math.isnan(value):
        return Message(math.nan, time)
    if abs(value) > FLOAT32_MAX:
        return Message(math.nan, time, f"{_short(cell)} is beyond what float32 can hold")
    return Message(value, time)


def _short(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:57]}..."
