"""Everything that can be set: the limits, in one place, and the token."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from laglite.errors import InputError

TOKEN_VARIABLE = "LAGLITE_TOKEN"


def _limit(default: float, description: str) -> Any:
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and all of them together. Each has an option `--max-...`."""

    body: int = _limit(4 << 20, "Bytes of a request's body.")
    body_seconds: float = _limit(20.0, "Seconds in which a body must have arrived.")
    horizon: int = _limit(1000, "Steps of a forecast, and values of a score.")
    context: int = _limit(4096, "Tokens of context, and values of a stream that share a scale.")
    samples: int = _limit(1000, "Sample paths of a forecast.")
    series: int = _limit(256, "Series of a request or table.")
    values: int = _limit(100_000, "Values of a series.")
    table_values: int = _limit(200_000, "Values of a table, those between far times included.")
    draws: int = _limit(250_000, "Series x samples x horizon, of a request and of a batch.")
    steps: int = _limit(10_000, "Series x horizon, of a request and of a batch.")
    quantiles: int = _limit(99, "Quantile levels of a request.")
    requests: int = _limit(64, "Requests that are read, wait or are computed at a time.")
    bodies: int = _limit(16 << 20, "Bytes of the bodies of these requests together.")
    wait_seconds: float = _limit(30.0, "Seconds that a request may wait before it is computed.")
    gather_seconds: float = _limit(
        0.002, "Seconds that the first request waits for others to join."
    )
    streams: int = _limit(256, "Streams at a time.")
    stream_idle_seconds: float = _limit(3600.0, "Seconds without use after which a stream ends.")
    stream_values: int = _limit(1000, "Values that a stream takes at once.")

    def __post_init__(self) -> None:
        """Raises InputError for a limit that admits nothing."""
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 < value < float("inf"):
                raise InputError(f"{option_name(one.name)} must be more than 0, not {value}")
        if self.bodies < self.body:
            raise InputError(
                f"--max-bodies must be at least --max-body, {self.body}, not {self.bodies}"
            )


def option_name(limit: str) -> str:
    """The command's option for a limit."""
    return f"--max-{limit.replace('_', '-')}"


def read_token(file: Path | None) -> str | None:
    """The token of a file, else of the environment; None if there is neither. Raises InputError."""
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE)
        where = TOKEN_VARIABLE
    else:
        where = str(file)
        try:
            token = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(f"{file}: the token cannot be read ({error.strerror})") from error
        except UnicodeDecodeError:
            token = "\ufffd"  # refused below
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise InputError(f"{where}: a token is printable ASCII text without spaces")
    if token == "":
        raise InputError(f"{where}: the token is empty; leave it out, or write one")
    return token
