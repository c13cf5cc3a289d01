"""Draws: random stretches of a corpus' series, stratified by data set and frequency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.frequency import Frequency, parse_frequency
from laglite.tokens import TimeAxis
from laglite_train.coarser import coarser_series
from laglite_train.corpus import Series, SeriesSet
from laglite_train.synthetic import SyntheticConfig, draw_series, draw_start

WEIGHTINGS = ("temperature", "series", "points", "equal")
SHORTEST_HISTORY = 4
SYNTHETIC = -1
SHORTEST_SYNTHETIC = 16
LONGEST_SYNTHETIC = {"Y": 120, "Q": 320, "M": 800}  # as long as such series are found


@dataclass(frozen=True)
class SamplingConfig:
    """How windows are drawn from the corpus.

    A stratum is the series of one frequency in one data set. Strata are drawn by `weighting`: in
    proportion to their number of `series` (the paper's rule), of `points`, to points **
    `temperature`, or `equal`; that of a data set named in `factors` counts so many times.
    `frequency_shares` gives some frequencies ("h", "15min", "MS") a share of all windows; the
    others keep theirs of the rest. Then come a series of the stratum and the end of its history.

    `context_lengths` are drawn per batch (repeat one to weigh it). A share `short_history` of the
    windows loses the older part of its history, a share `calendar_dropout` its time stamps, so
    that both are modes the model knows; a share `coarser` is averaged to a coarser frequency
    first (quarter hours to hours or days, days to weeks), and a share `synthetic` comes from the
    generators, at the corpus' frequencies. Windows that reach beyond `largest_value` in scaled
    units are left out: their gradients would drown all others.
    """

    horizon: int = 64
    context_lengths: tuple[int, ...] = (64,)
    weighting: str = "temperature"
    temperature: float = 0.3
    factors: dict[str, float] = field(default_factory=dict)
    frequency_shares: dict[str, float] = field(default_factory=dict)
    coarser: float = 0.0
    synthetic: float = 0.0
    short_history: float = 0.15
    calendar_dropout: float = 0.15
    largest_value: float = 100.0


@dataclass(frozen=True)
class RawWindow:
    """A stretch of one series: `values[:past]` are its history, the rest the future to predict.

    `values` float32 [length] with NaN where missing, `axis` the time of its first value,
    `covariates` [num, length] or None, `source` the place of its stratum, -1 if it is synthetic.
    """

    values: NDArray[np.float32]
    past: int
    axis: TimeAxis
    source: int
    covariates: NDArray[np.float32] | None = None


def held_out(length: int, horizon: int) -> int:
    """How many values at the end of a series of `length` are kept from training."""
    return max(1, min(horizon, length // 5))


def trainable(corpus: Sequence[SeriesSet], horizon: int) -> list[SeriesSet]:
    """The strata of a corpus, with the series that have something observed to train on.

    Raises InputError if there is none.
    """
    kept = []
    for group in (part for whole in corpus for part in whole.by_frequency()):
        lengths = group.lengths
        ends = lengths - np.maximum(1, np.minimum(horizon, lengths // 5))
        usable = group.first_observed < ends
        if usable.any():
            kept.append(group if usable.all() else group.subset(usable))
    if not kept:
        raise InputError("no series has an observed value before its held-out end")
    return kept


def check_covariates(strata: Sequence[SeriesSet], wanted: int) -> None:
    """Whether a model of `wanted` covariates can be trained on these strata.

    A series has all of them or none: then its features are 0. Raises InputError that names the
    stratum, or if a model that wants covariates would see none at all.
    """
    if not wanted:
        return
    known = False
    for group in strata:
        counts = group.covariate_counts
        wrong = counts[(counts != 0) & (counts != wanted)]
        if len(wrong):
            raise InputError(
                f"data set {group.name!r} has series with {wrong[0]} covariates where "
                f"model.num_covariates is {wanted}; a series needs all of them, or none"
            )
        known = known or bool(counts.any())
    if not known:
        raise InputError(
            f"model.num_covariates is {wanted}, but no series of the data has covariates"
        )


def stratum_weights(strata: Sequence[SeriesSet], config: SamplingConfig) -> NDArray[np.float64]:
    """The chance of each stratum, summing to 1.

    Raises InputError if `factors` names a data set that is not there.
    """
    points = np.array([group.points for group in strata], np.float64)
    weights = {
        "temperature": points**config.temperature,
        "series": np.array([len(group.series) for group in strata], np.float64),
        "points": points,
        "equal": np.ones(len(strata)),
    }[config.weighting]
    for name, factor in config.factors.items():
        members = np.array([name in (group.name, _whole(group.name)) for group in strata])
        if not members.any():
            raise InputError(
                f"sampling.factors: there is no data set {name!r} to train on; there are "
                f"{', '.join(dict.fromkeys(_whole(group.name) for group in strata))}"
            )
        weights[members] *= factor
    weights = weights / weights.sum()
    grids = [_grid(str(group.freqs[0])) for group in strata]
    listed = np.zeros(len(strata), bool)
    given = 0.0
    for alias, share in config.frequency_shares.items():
        members = np.array([grid == _grid(alias) for grid in grids])
        listed |= members
        if members.any():
            weights[members] *= share / weights[members].sum()
            given += share
    rest = max(0.0, 1 - given)
    if not listed.all():
        weights[~listed] *= rest / weights[~listed].sum()
    return weights / weights.sum()


def _whole(stratum: str) -> str:
    """The data set that a stratum is all or part of (see `SeriesSet.by_frequency`)."""
    return stratum.rpartition("/")[0] or stratum


def _grid(alias: str) -> tuple[str, int] | None:
    """Unit and multiple of a frequency, whatever it is called; None without one."""
    if not alias:
        return None
    freq = parse_frequency(alias)
    return freq.unit, freq.multiple


class Draws:
    """Draws raw windows; each is a function of the generator's state alone.

    `hold_out` keeps every series' end from training; without, the corpus was cut before.
    """

    def __init__(
        self,
        corpus: Sequence[SeriesSet],
        config: SamplingConfig,
        synthetic: SyntheticConfig,
        *,
        max_lag: int,
        num_covariates: int = 0,
        hold_out: bool = True,
    ) -> None:
        self.hold_out = hold_out
        self.strata, self.config, self.max_lag = trainable(corpus, config.horizon), config, max_lag
        self.synthetic, self.num_covariates = synthetic, num_covariates
        check_covariates(self.strata, num_covariates)
        self.weights = stratum_weights(self.strata, config)
        self._ladder = np.cumsum(self.weights)

    def draw(self, random: np.random.Generator, context: int) -> RawWindow:
        """One window: up to max lag + context values of history, and up to `horizon` after."""
        source = min(
            int(np.searchsorted(self._ladder, random.random(), side="right")),
            len(self.strata) - 1,
        )
        members = self.strata[source].series
        series = members[int(random.integers(len(members)))]
        if random.random() < self.config.synthetic and series.axis.freq is not None:
            source, series = SYNTHETIC, self._synthetic(random, series.axis.freq, context)
        else:
            series = self._before_held_out(series)
            if random.random() < self.config.coarser:
                series = coarser_series(series, random)
        return self._cut(random, series, source, context)

    def _before_held_out(self, series: Series) -> Series:
        usable = len(series.values)
        if self.hold_out:
            usable -= held_out(usable, self.config.horizon)
        covariates = None
        if self.num_covariates and series.covariates is not None:
            covariates = series.covariates[:, :usable]
        return Series(series.item_id, series.axis, series.values[:usable], covariates)

    def _synthetic(self, random: np.random.Generator, freq: Frequency, context: int) -> Series:
        """A generated series of at most the length of a window."""
        longest = self.max_lag + context + self.config.horizon
        longest = min(longest, LONGEST_SYNTHETIC.get(freq.unit, longest))
        length = longest
        if random.random() < 0.5:
            length = log_uniform(random, SHORTEST_SYNTHETIC, longest)
        start = draw_start(random, freq)
        values = draw_series(random, length, freq, start, self.synthetic)
        return Series("synthetic", TimeAxis(start, freq), values)

    def _cut(
        self, random: np.random.Generator, series: Series, source: int, context: int
    ) -> RawWindow:
        """A random window of a series, all of which may be used."""
        horizon, usable = self.config.horizon, len(series.values)
        end = int(random.integers(min(SHORTEST_HISTORY, usable - 1), usable))
        if source == SYNTHETIC:
            end = max(usable - horizon, usable // 2)
        begin = max(0, end - self.max_lag - context)
        if random.random() < self.config.short_history:
            begin = max(begin, end - log_uniform(random, SHORTEST_HISTORY, end - begin))
        axis = series.axis if begin == 0 else series.axis.shifted(begin)
        if random.random() < self.config.calendar_dropout:
            axis = TimeAxis()
        stop = min(end + horizon, usable)
        covariates = None if series.covariates is None else series.covariates[:, begin:stop]
        return RawWindow(series.values[begin:stop], end - begin, axis, source, covariates)


def log_uniform(random: np.random.Generator, low: int, high: int) -> int:
    """A whole number from `low` to `high`, its logarithm about uniform; `high` if that is less."""
    if high <= low:
        return high
    return min(high, int(np.exp(random.uniform(np.log(low), np.log(high + 1)))))
