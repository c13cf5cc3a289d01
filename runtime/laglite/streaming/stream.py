"""Streams: a series' values one by one, each judged by what was predicted before it came."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from laglite.arguments import FLOAT32_MAX, whole_number
from laglite.bundle import manifest_digest
from laglite.errors import InputError, LagliteError, StateError
from laglite.forecast import Forecast
from laglite.frequency import parse_frequency, parse_timestamp, timestamps
from laglite.heads import HEADS
from laglite.streaming.alarm import Alarm
from laglite.streaming.segment import Segment
from laglite.tokens import TimeAxis

if TYPE_CHECKING:
    from laglite.forecaster import Forecaster


@dataclass(frozen=True)
class Update:
    """What was predicted of a value before it came.

    `cdf` is the probability of a value at most as large, `log_prob` the log density (mass, for
    counts) in data units: both NaN where the value is missing or nothing could be predicted.
    `outside` says whether the value lies outside the central interval that all values but the
    alarm's rate should fall into.
    """

    value: float
    cdf: float
    log_prob: float
    outside: bool


@dataclass
class StreamCounts:
    """What a stream has done since it was opened.

    `values` taken, missing ones included; decoder `tokens`, one a value; `refreshes` of the window
    and the `prompt_tokens` they encoded.
    """

    values: int = 0
    missing: int = 0
    tokens: int = 0
    refreshes: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True)
class _History:
    """The values before a stream, as many as the model looks at, and how many there were."""

    values: NDArray[np.float64]
    length: int
    observed: int


class Stream:
    """One series, value by value. Open one with `Forecaster.stream`.

    A value costs one token. What is frozen in a forecast (the window, loc and scale, the
    regression) is frozen here for `refresh` values, and then encoded anew from the last values: one
    prompt. That comes earlier while the history is shorter than `refresh` (whenever it has
    doubled), and after 8 values in a row further than 30 scales from the window's centre.
    Between two refreshes the predictions are those of `Forecaster.score`. Memory does not grow:
    context + max lag + refresh values are kept. `counts` tells what it has cost: values taken and
    missing, tokens, refreshes and the prompt tokens these encoded. One thread at a time may use it.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        axis: TimeAxis,
        history: NDArray[np.float64],
        context: int,
        refresh: int,
        warm_up: int,
        alarm: Alarm,
    ) -> None:
        """Checked arguments; see `Forecaster.stream`."""
        self._forecaster, self.axis = forecaster, axis
        self.context, self.refresh, self.warm_up, self._alarm = context, refresh, warm_up, alarm
        self._keep = forecaster.spec.max_lag + context
        kept = history[-self._keep :]
        self._opened = _History(kept, len(history), int((~np.isnan(history)).sum()))
        self._values = np.empty(self._keep + refresh)
        self.reset()

    def reset(self) -> None:
        """Forget what came since the stream was opened: back to its history, counts at 0."""
        self._begin(self._opened)
        self.counts = StreamCounts()
        self._alarm = Alarm(self._alarm.rate, self._alarm.adaptive)
        self._renew()

    def _begin(self, history: _History) -> None:
        self._length = len(history.values)
        self._values[: self._length] = history.values
        self._passed, self._observed = history.length, history.observed

    @property
    def alarm_level(self) -> float:
        """The share of values that the alarm's interval leaves out now."""
        return self._alarm.level

    @property
    def ready(self) -> bool:
        """Whether there is a prediction of the next value."""
        return self._segment is not None

    @property
    def scale(self) -> float:
        """The scale of the window, in data units; NaN if nothing is predicted."""
        return math.nan if self._segment is None else self._segment.window.scale

    @property
    def next_time(self) -> np.datetime64 | None:
        """The time of the value to come; None for a stream without times."""
        if self.axis.start is None or self.axis.freq is None:
            return None
        stamp: np.datetime64 = timestamps(self.axis.start, self.axis.freq, self._passed, 1)[0]
        return stamp

    @property
    def passed(self) -> int:
        """Steps from the start of the history to the value to come."""
        return self._passed

    def holds(self, step: int) -> bool:
        """Whether there was a value at a step before `passed`, as far back as values are kept."""
        place = self._length - (self._passed - step)
        return 0 <= place < self._length and not math.isnan(self._values[place])

    def update(self, value: float) -> Update:
        """Judge the next value, NaN if it is missing, and take it into the history.

        Raises InputError, and leaves the stream as it was, for a value that is no number or beyond
        what float32 holds.
        """
        value = _checked(value)
        judged = self._judge(value)
        self._take(value)
        return judged

    def _judge(self, value: float) -> Update:
        cdf = log_prob = math.nan
        if self._segment is not None and not math.isnan(value):
            head, segment = HEADS[self._forecaster.spec.head], self._segment
            there = np.array([value])
            with (
                contextlib.suppress(LagliteError),  # counts that the head cannot tell apart
                np.errstate(over="ignore"),  # of the square of a distance: it lies in the tail
            ):
                cdf = float(head.cdf(segment.arguments, there, segment.window)[0])
                log_prob = float(head.log_prob(segment.arguments, there, segment.window)[0])
        return Update(value, cdf, log_prob, self._alarm.judge(cdf))

    def quantiles(self, levels: Sequence[float]) -> NDArray[np.float64]:
        """Quantiles of the value to come: float64 [levels], NaN if nothing is predicted.

        Raises InputError for levels outside (0, 1), LagliteError for counts that the head cannot
        tell apart.
        """
        wanted = np.asarray(levels, np.float64)
        if not ((wanted > 0) & (wanted < 1)).all():
            raise InputError(f"quantile levels must lie between 0 and 1, not {list(levels)}")
        if self._segment is None:
            return np.full(wanted.shape, np.nan)
        head = HEADS[self._forecaster.spec.head]
        return head.quantile(self._segment.arguments, wanted, self._segment.window)

    def skip(self, steps: int) -> None:
        """Pass over steps whose values are missing.

        Each costs a token, as in `update(nan)`; where that would lead past a refresh, they enter
        the history at once and it is encoded anew, so that a long gap costs one prompt. Raises
        InputError, and leaves the stream as it was, where that is beyond the year 9999.
        """
        steps, segment = whole_number("steps", steps), self._segment
        self.axis.shifted(self._passed + steps)
        if segment is not None and segment.steps + steps < segment.length:
            for _ in range(steps):
                self._take(math.nan)
            return
        self._compact()
        kept = min(steps, self._keep)
        shown = self._values[: self._length][max(0, self._length + kept - self._keep) :].copy()
        self._length = len(shown) + kept
        self._values[: len(shown)] = shown
        self._values[len(shown) : self._length] = np.nan
        self._passed += steps
        self.counts.values += steps
        self.counts.missing += steps
        self._renew()

    def forecast(
        self,
        horizon: int,
        *,
        num_samples: int = 100,
        seed: int | None = None,
        nonnegative: bool = False,
        refine: bool = True,
        item_id: str | None = None,
    ) -> Forecast:
        """The next `horizon` values, as `Forecaster.predict` has them after all values so far.

        The stream stays where it is. Costs a prompt besides the paths. Raises InputError if the
        model's window holds no value.
        """
        start, freq = self.axis.start, self.axis.freq
        values = self._values[max(0, self._length - self._keep) : self._length]
        forecast = self._forecaster.predict(
            values,
            horizon=horizon,
            start=self.axis.shifted(self._passed - len(values)).start,
            freq=None if freq is None else freq.alias,
            num_samples=num_samples,
            context_length=self.context,
            seed=seed,
            nonnegative=nonnegative,
            refine=refine,
            item_id=item_id,
        )
        # The days of months are counted from the very first value.
        return dataclasses.replace(
            forecast, start=self.next_time, origin=start, passed=self._passed
        )

    def _take(self, value: float) -> None:
        """Append a value; a decoder step, or a refresh where one is due."""
        self._values[self._length] = value
        self._length += 1
        self._passed += 1
        self.counts.values += 1
        if math.isnan(value):
            self.counts.missing += 1
        else:
            self._observed += 1
        if self._segment is None or self._segment.exhausted:
            self._renew()
            return
        self._segment.advance(value)
        self.counts.tokens += 1
        if self._segment.lost:
            self._renew()

    def _renew(self) -> None:
        """Encode the last values, if there are enough and the model can say something of them."""
        self._segment: Segment | None = None
        self._compact()
        values = self._values[: self._length]
        if self._observed < self.warm_up or np.isnan(values).all():
            return
        segment = Segment(
            self._forecaster.backend,
            self._forecaster.spec,
            values,
            self.axis.shifted(self._passed - self._length),
            self.context,
            min(self.refresh, self._passed),
        )
        self.counts.refreshes += 1
        self.counts.prompt_tokens += segment.prompt_tokens
        if not segment.lost:
            self._segment = segment

    def _compact(self) -> None:
        """Let go of what the model no longer looks at."""
        if self._length > self._keep:
            self._values[: self._keep] = self._values[self._length - self._keep : self._length]
            self._length = self._keep

    def state(self) -> dict[str, Any]:
        """All that the stream's future depends on, as plain values for JSON; see `restore`."""
        start, freq = self.axis.start, self.axis.freq
        return {
            "model": manifest_digest(self._forecaster.bundle.path),
            "start": None if start is None else str(start),
            "freq": None if freq is None else freq.alias,
            "context": self.context,
            "refresh": self.refresh,
            "warm_up": self.warm_up,
            "alarm": self._alarm.state(),
            "opened": _listed(self._opened.values),
            "opened_length": self._opened.length,
            "opened_observed": self._opened.observed,
            "values": _listed(self._values[: self._length]),
            "passed": self._passed,
            "observed": self._observed,
            "since_refresh": None if self._segment is None else self._segment.steps,
            "counts": dataclasses.asdict(self.counts),
        }

    @classmethod
    def restore(cls, forecaster: Forecaster, state: dict[str, Any]) -> Stream:
        """The stream whose `state` that was.

        The last prompt is encoded again and the values since are stepped again, so that what
        follows is the same to the last bit as without the interruption. Raises StateError if it
        was a stream of another model.
        """
        if state["model"] != manifest_digest(forecaster.bundle.path):
            raise StateError("the state is that of a stream of another model; load that model")
        axis = TimeAxis()
        if state["start"] is not None and state["freq"] is not None:
            axis = TimeAxis(parse_timestamp(state["start"]), parse_frequency(state["freq"]))
        stream = cls(
            forecaster,
            axis,
            np.empty(0),
            state["context"],
            state["refresh"],
            state["warm_up"],
            Alarm.restore(state["alarm"]),
        )
        opened = _array(state["opened"])
        stream._opened = _History(opened, state["opened_length"], state["opened_observed"])
        values, since = _array(state["values"]), state["since_refresh"]
        count = since or 0
        seen = int((~np.isnan(values[len(values) - count :])).sum())
        before = values[: len(values) - count]
        stream._begin(_History(before, state["passed"] - count, state["observed"] - seen))
        if since is not None:
            stream._renew()
            for value in values[len(before) :]:
                stream._take(float(value))
        stream._alarm = Alarm.restore(state["alarm"])
        stream.counts = StreamCounts(**state["counts"])
        return stream


def _checked(value: Any) -> float:
    """A value as float, NaN if missing. Raises InputError."""
    try:
        number = float(value)
    except OverflowError:  # of a whole number
        number = math.inf
    except (TypeError, ValueError) as error:
        raise InputError(f"a value must be a number, NaN where missing, not {value!r}") from error
    if abs(number) > FLOAT32_MAX:
        raise InputError(f"the value {number} is beyond what float32 can hold")
    return number


def _listed(values: NDArray[np.float64]) -> list[float | None]:
    """Values for JSON, None where missing."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def _array(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)
