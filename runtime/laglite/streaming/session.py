"""Sessions: messages in, results out, and all that must survive a restart."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError, LagliteError, StateError
from laglite.forecast import quantile_label
from laglite.forecaster import Forecaster
from laglite.frequency import format_timestamp, format_timestamps, parse_frequency, timestamps
from laglite.randomness import fresh_seed
from laglite.streaming.arrivals import Arrivals
from laglite.streaming.messages import Message, parse_message
from laglite.streaming.stream import Stream

Result = dict[str, Any]


@dataclass(frozen=True)
class StreamSettings:
    """What a stream's predictions depend on; see `Forecaster.stream`. A state keeps to them."""

    freq: str | None = None
    context: int | None = None
    refresh: int | None = None
    warm_up: int = 1
    alarm_rate: float = 0.01
    adaptive: bool = False
    precision: str = "fp32"


@dataclass(frozen=True)
class OutputSettings:
    """What is put out: quantile levels, and every how many values a forecast (0: never)."""

    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    every: int = 0
    horizon: int = 1
    samples: int = 100


@dataclass
class SessionCounts:
    """What came: `lines` (messages) in all, and those left out (`refused`) by reason.

    `unreadable` ones that stood for a missing value, steps passed without a message (`gaps`), and
    `alarms`.
    """

    lines: int = 0
    unreadable: int = 0
    gaps: int = 0
    alarms: int = 0
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class OpeningHistory:
    """Values before the first message, and the time of the first of them."""

    values: NDArray[np.float64]
    start: Any = None


class Session:
    """One series' messages, from whatever brings them."""

    def __init__(
        self,
        forecaster: Forecaster,
        settings: StreamSettings,
        output: OutputSettings,
        *,
        history: OpeningHistory | None = None,
        seed: int | None = None,
    ) -> None:
        """Raises InputError for settings that do not go together."""
        if settings.freq is not None:
            parse_frequency(settings.freq)
        self._forecaster, self._settings, self._output = forecaster, settings, output
        self._history = OpeningHistory(np.empty(0)) if history is None else history
        self.seed = fresh_seed() if seed is None else seed
        self.counts = SessionCounts()
        self._timed = False
        self._arrivals = Arrivals()
        self._stream: Stream | None = None
        opened = self._open(self._history.start)  # which checks the settings, too
        if self._history.start is not None:
            self._stream = opened

    @property
    def stream(self) -> Stream | None:
        """The stream; None until the first message tells its time."""
        return self._stream

    def _open(self, start: Any) -> Stream:
        settings = self._settings
        return self._forecaster.stream(
            self._history.values,
            start=start,
            freq=None if start is None else settings.freq,
            context_length=settings.context,
            refresh=settings.refresh,
            horizon=self._output.horizon,
            warm_up=settings.warm_up,
            alarm_rate=settings.alarm_rate,
            adaptive=settings.adaptive,
        )

    def take(self, data: bytes) -> Result:
        """The result of one message: plain values for JSON (docs/streaming.md has the fields).

        Raises InputError where messages have times but there is no frequency.
        """
        message = parse_message(data)
        self.counts.lines += 1
        result: Result = {"n": self.counts.lines}
        if message.fault is not None:
            result["note"] = message.fault
        if self._stream is None and message.fault is not None:
            return self._refused(result, "unreadable")  # it may have had a time
        stream = self._stream = self._stream or self._open_at(message.time)
        if message.time is not None:
            result["ds"] = format_timestamp(message.time)
            arrival = self._arrivals.place(stream, message.time)
            if arrival.refused is not None:
                return self._refused(result, arrival.refused)
            self._timed = True
            if arrival.gap:
                self.counts.gaps += arrival.gap
                result["skipped"] = arrival.gap
                stream.skip(arrival.gap)
        elif self._timed:
            return self._refused(result, "unreadable" if message.fault else "without a time")
        return self._judged(stream, message, result)

    def _open_at(self, time: np.datetime64 | None) -> Stream:
        """A stream whose first value, after the opening history, has this time."""
        if time is None:
            return self._open(None)
        if self._settings.freq is None:
            raise InputError(
                "the messages have times, but there is no frequency to tell which steps they are; "
                "give it (--freq)"
            )
        freq = parse_frequency(self._settings.freq)
        return self._open(timestamps(time, freq, -len(self._history.values), 1)[0])

    def _refused(self, result: Result, reason: str) -> Result:
        """Leave a message out."""
        self.counts.refused[reason] = self.counts.refused.get(reason, 0) + 1
        return result | {"note": result.get("note", reason)}

    def _judged(self, stream: Stream, message: Message, result: Result) -> Result:
        """Take a message's value into the stream."""
        self.counts.unreadable += message.fault is not None
        if message.time is None and stream.next_time is not None:
            result["ds"] = format_timestamp(stream.next_time)
        level = stream.alarm_level
        update = stream.update(message.value)
        self.counts.alarms += update.outside
        result["y"] = _number(update.value, exact=True)
        result["cdf"], result["log_prob"] = _number(update.cdf), _number(update.log_prob)
        result["alarm"] = update.outside
        if self._settings.adaptive:
            result["alarm_level"] = _number(level)
        every, values = self._output.every, stream.counts.values
        due = every and (values - 1 - result.get("skipped", 0)) // every < values // every
        result["next"] = None
        if due:
            result["forecast"] = None
        try:
            result["next"] = self._next(stream)
            if due:
                result["forecast"] = self._forecast(stream)
        except LagliteError as error:  # nothing observed yet, or numbers that are not finite
            result["note"] = str(error)
        return result

    def _next(self, stream: Stream) -> Result | None:
        """What is predicted of the value to come."""
        if not stream.ready:
            return None
        levels = self._output.quantiles
        time = stream.next_time
        found: Result = {} if time is None else {"ds": format_timestamp(time)}
        for level, value in zip(levels, stream.quantiles(levels), strict=True):
            found[quantile_label(level)] = _number(value)
        return found

    def _forecast(self, stream: Stream) -> Result:
        horizon, samples = self._output.horizon, self._output.samples
        forecast = stream.forecast(horizon, num_samples=samples, seed=self.seed)
        index = forecast.index
        found: Result = {} if index is None else {"ds": format_timestamps(index)}
        found["mean"] = [_number(value) for value in forecast.mean]
        for level in self._output.quantiles:
            found[quantile_label(level)] = [_number(value) for value in forecast.quantile(level)]
        return found

    def state(self) -> dict[str, Any]:
        """All that the session's future depends on, as plain values for JSON."""
        return {
            "settings": dataclasses.asdict(self._settings),
            "seed": self.seed,
            "timed": self._timed,
            "ahead": self._arrivals.ahead,
            "counts": dataclasses.asdict(self.counts),
            "stream": None if self._stream is None else self._stream.state(),
        }

    def summary(self) -> str:
        """All counts in a sentence."""
        counts = self.counts
        parts = [f"{counts.lines:,} lines"]
        parts += [f"{number:,} {reason}" for reason, number in counts.refused.items()]
        if counts.unreadable:
            parts.append(f"{counts.unreadable:,} unreadable, taken as missing")
        if counts.gaps:
            parts.append(f"{counts.gaps:,} steps without a line")
        if self._stream is not None:
            done = self._stream.counts
            parts += [
                f"{done.values:,} values ({done.missing:,} missing)",
                f"{counts.alarms:,} alarms",
                f"{done.tokens:,} tokens, {done.refreshes:,} prompts of {done.prompt_tokens:,}",
            ]
        return "; ".join(parts)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. Raises StateError if it was of another model or settings.

        The seed is the state's, so that forecasts go on as they would have.
        """
        saved = state["settings"]
        for name, given in dataclasses.asdict(self._settings).items():
            if saved.get(name) != given:
                raise StateError(
                    f"the state was written with {name} {saved.get(name)}, not {given}; give the "
                    "same options, or another file"
                )
        self.seed, self._timed = state["seed"], state["timed"]
        self._arrivals = Arrivals(state["ahead"])
        self.counts = SessionCounts(**state["counts"])
        if state["stream"] is not None:
            self._stream = Stream.restore(self._forecaster, state["stream"])


def _number(value: float, *, exact: bool = False) -> float | None:
    """A number for JSON in seven digits, or exact; None if it is not finite."""
    if not math.isfinite(value):
        return None
    return float(value) if exact else float(f"{value:.7g}")
