"""Results: sampled forecasts and teacher-forced scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError, missing
from laglite.frequency import Frequency, Timestamps, timestamps
from laglite.time_zone import TimeZone

if TYPE_CHECKING:
    from pandas import DataFrame

DEFAULT_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, eq=False)
class Forecast:
    """Sample paths of one series' future, and what is read off them.

    `samples` float32 [num_samples, horizon] in data units; each row is one joint path. `marginals`
    float32 [horizon, draws], if there are any, show each step's distribution more finely than one
    draw a path does: mean, median, quantiles and intervals come from them. `start` is
    the time of the first forecast step and `freq` the alias as given, both None without times.
    `origin` is the time of the history's first value, `passed` steps before `start`: the days of
    months are counted from there, so that a series of 30ths stays one after a February. `zone` is
    the time zone of these wall-clock times, None if nothing is known of it.
    """

    samples: NDArray[np.float32]
    start: np.datetime64 | None
    step: Frequency | None
    item_id: str | None = None
    origin: np.datetime64 | None = None
    passed: int = 0
    marginals: NDArray[np.float32] | None = None
    zone: TimeZone | None = None

    @property
    def freq(self) -> str | None:
        """The frequency alias, as it was given."""
        return None if self.step is None else self.step.alias

    @property
    def num_samples(self) -> int:
        """How many sample paths there are."""
        return len(self.samples)

    @property
    def prediction_length(self) -> int:
        """How many steps are forecast: the horizon."""
        return int(self.samples.shape[1])

    @property
    def index(self) -> Timestamps | None:
        """datetime64[us] `[horizon]`, the time of each step; None for a series without times."""
        return self.times(0, self.prediction_length)

    def times(self, first: int, count: int) -> Timestamps | None:
        """datetime64[us] `[count]`, the times of steps `first ..` (negative: of the history)."""
        if self.start is None or self.step is None:
            return None
        if self.origin is None:
            return timestamps(self.start, self.step, first, count)
        return timestamps(self.origin, self.step, self.passed + first, count)

    @cached_property
    def _sorted(self) -> NDArray[np.float32]:
        """[draws, horizon]"""
        if self.marginals is None:
            return np.sort(self.samples, axis=0)
        ordered: NDArray[np.float32] = np.sort(self.marginals, axis=1).T
        return ordered

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of each step, float32 [horizon]."""
        draws = self.samples if self.marginals is None else self.marginals.T
        mean: NDArray[np.float32] = draws.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    @property
    def median(self) -> NDArray[np.float32]:
        """Median of each step, float32 [horizon]."""
        return self.quantile(0.5)

    def quantile(self, q: float | str) -> NDArray[np.float32]:
        """The `q`-quantile of each step, linearly interpolated, float32 [horizon].

        `q` is a number in [0, 1], its text, or a percentage such as "p90". Raises InputError.
        """
        level = parse_quantile(q)
        last = len(self._sorted) - 1
        rank = level * last
        below = int(rank)
        above = min(below + 1, last)
        low, high = self._sorted[below].astype(np.float64), self._sorted[above]
        between: NDArray[np.float32] = (low + (rank - below) * (high - low)).astype(np.float32)
        return between

    def interval(self, coverage: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper end of the central interval that holds `coverage` of the draws."""
        if not 0 < coverage < 1:
            raise InputError(f"coverage must be between 0 and 1, not {coverage!r}")
        return self.quantile((1 - coverage) / 2), self.quantile((1 + coverage) / 2)

    def to_frame(self, quantiles: Sequence[float | str] = DEFAULT_QUANTILES) -> DataFrame:
        """A pandas DataFrame with a row a step: `mean` and a column for each quantile.

        The index holds the times, or step numbers from 1. Needs the `tables` extra.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise missing("pandas", "tables", "Forecast.to_frame") from error
        index = self.index
        columns: dict[str, Any] = {"mean": self.mean}
        levels = [parse_quantile(level) for level in quantiles]
        columns.update({quantile_label(level): self.quantile(level) for level in levels})
        steps = np.arange(1, self.prediction_length + 1) if index is None else index
        frame: DataFrame = pd.DataFrame(columns, index=steps)
        return frame

    def plot(self, history: Any = None, *, ax: Any = None) -> Any:
        """A fan chart: median, 50 % and 90 % bands, five sample paths, and `history` before them.

        `history` [length] ends where the forecast begins, NaN where missing. Draws on matplotlib's
        `ax` (a new one by default) and returns it. Needs the `plot` extra. Raises InputError.
        """
        from laglite.plotting import plot_forecast

        return plot_forecast(self, history, ax=ax)


@dataclass(frozen=True, eq=False)
class Score:
    """Teacher-forced distributions of observed values, one for each, given all values before it.

    `params` holds a float32 [steps] array for each argument of the head, in scaled units after
    the domain map; `loc` and `scale` map them to data units. `log_prob` and `cdf`, float64
    [steps] in data units, belong to the observed values and are NaN where one is missing.
    """

    params: Mapping[str, NDArray[np.float32]]
    loc: float
    scale: float
    log_prob: NDArray[np.float64]
    cdf: NDArray[np.float64]


def quantile_label(level: float) -> str:
    """What the column of a quantile is called: "0.9"."""
    return f"{level:.12g}"


def parse_quantile(q: float | str) -> float:
    """0.9, "0.9" and "p90" to 0.9. Raises InputError for anything outside [0, 1]."""
    try:
        level = float(q[1:]) / 100 if isinstance(q, str) and q.startswith("p") else float(q)
    except (TypeError, ValueError, OverflowError):
        level = np.nan
    if not 0 <= level <= 1:
        raise InputError(f"quantile {q!r} is not a number from 0 to 1, nor p0 to p100")
    return level
