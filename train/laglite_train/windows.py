"""Training windows: stratified random draws from a corpus, encoded by the runtime's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from laglite.errors import InputError
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_train.corpus import Series, SeriesSet

SHORTEST_HISTORY = 4
MOST_DRAWS = 100


@dataclass(frozen=True)
class SamplingConfig:
    """How windows are drawn.

    Data sets are drawn in proportion to points ** `temperature`, then a series, then the end of
    its history. `context_lengths` are drawn per batch (repeat one to weigh it). A share
    `short_history` of the windows loses the older part of its history, a share `calendar_dropout`
    its time stamps, so that both are modes the model knows. Windows that reach beyond
    `largest_value` in scaled units are left out: their gradients would drown all others.
    """

    horizon: int = 64
    context_lengths: tuple[int, ...] = (64,)
    temperature: float = 0.3
    short_history: float = 0.15
    calendar_dropout: float = 0.15
    largest_value: float = 100.0


class Batch(NamedTuple):
    """Encoded windows of one size, shorter ones filled on the right with weight 0.

    tokens [batch, tokens, features]; values (the next value at each position, data units) and
    weights [batch, tokens]; loc and scale [batch, 1]. All float32.
    """

    tokens: Tensor
    values: Tensor
    weights: Tensor
    loc: Tensor
    scale: Tensor


def held_out(length: int, horizon: int) -> int:
    """How many values at the end of a series of `length` are kept from training."""
    return max(1, min(horizon, length // 5))


def _trainable(corpus: Sequence[SeriesSet], horizon: int) -> list[SeriesSet]:
    """The series that have something observed before their held-out end.

    Raises InputError if there is none.
    """
    kept = []
    for group in corpus:
        series = [
            one
            for one in group.series
            if not np.isnan(
                one.values[: len(one.values) - held_out(len(one.values), horizon)]
            ).all()
        ]
        if series:
            kept.append(SeriesSet(group.name, series))
    if not kept:
        raise InputError("no series has an observed value before its held-out end")
    return kept


class TrainingBatches(Dataset[Batch]):
    """Batch `i` of a run depends on the seed and `i` alone, so that a resumed run repeats it."""

    def __init__(
        self,
        corpus: Sequence[SeriesSet],
        spec: ModelSpec,
        config: SamplingConfig,
        *,
        batch_size: int,
        steps: range,
        seed: int,
    ) -> None:
        self.corpus, self.spec, self.config = _trainable(corpus, config.horizon), spec, config
        self.batch_size, self.steps, self.seed = batch_size, steps, seed
        weights = np.array([group.points for group in self.corpus], float) ** config.temperature
        self.probabilities = weights / weights.sum()

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Batch:
        random = np.random.default_rng([self.seed, self.steps[index]])
        context = int(random.choice(self.config.context_lengths))
        windows: list[EncodedWindow] = []
        for _ in range(MOST_DRAWS * self.batch_size):
            if len(windows) == self.batch_size:
                break
            series = self.corpus[random.choice(len(self.corpus), p=self.probabilities)].series
            window = self._draw(random, series[int(random.integers(len(series)))], context)
            if window is not None:
                windows.append(window)
        if len(windows) < self.batch_size:
            raise InputError(
                "hardly any window can be trained on: the series are nearly empty, or reach "
                f"beyond sampling.largest_value {self.config.largest_value:g}"
            )
        return collate(windows, context + self.config.horizon - 1)

    def _draw(
        self, random: np.random.Generator, series: Series, context: int
    ) -> EncodedWindow | None:
        """One random window of `series`, or None where it is empty or out of bounds."""
        horizon = self.config.horizon
        usable = len(series.values) - held_out(len(series.values), horizon)
        end = int(random.integers(min(SHORTEST_HISTORY, usable - 1), usable))
        begin = 0
        if random.random() < self.config.short_history:
            longest = min(end, self.spec.max_lag + context)
            kept = int(np.exp(random.uniform(np.log(SHORTEST_HISTORY), np.log(longest + 1))))
            begin = max(0, end - kept)
        axis = series.axis
        if random.random() < self.config.calendar_dropout:
            axis = TimeAxis()
        future = series.values[end : min(end + horizon, usable)]
        window = encode_window(self.spec, series.values, axis, begin, end, future, context)
        if window is None or window.largest > self.config.largest_value:
            return None
        return window


class ValidationBatches(Dataset[Batch]):
    """The held-out end of series, the same windows in every run: at most `per_set` of each set."""

    def __init__(
        self,
        corpus: Sequence[SeriesSet],
        spec: ModelSpec,
        config: SamplingConfig,
        *,
        batch_size: int,
        per_set: int,
    ) -> None:
        context = config.context_lengths[0]
        self.length = context + config.horizon - 1
        windows = []
        for group in corpus:
            step = max(1, len(group.series) // per_set)
            for series in group.series[::step][:per_set]:
                end = len(series.values) - held_out(len(series.values), config.horizon)
                future = series.values[end:]
                window = encode_window(spec, series.values, series.axis, 0, end, future, context)
                if window is not None:
                    window.weights[: len(window.weights) - len(future)] = 0.0
                    windows.append(window)
        self.batches = [windows[i : i + batch_size] for i in range(0, len(windows), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return collate(self.batches[index], self.length)


@dataclass(frozen=True)
class EncodedWindow:
    """One window before collation: tokens [n, features], next values and weights [n]."""

    tokens: NDArray[np.float32]
    values: NDArray[np.float32]
    weights: NDArray[np.float32]
    loc: float
    scale: float

    @property
    def largest(self) -> float:
        """Largest magnitude of the values read and predicted, in scaled units."""
        ahead = np.abs((self.values - self.loc) / self.scale) * self.weights
        return max(float(np.abs(self.tokens).max()), float(ahead.max()))


def encode_window(
    spec: ModelSpec,
    values: NDArray[np.float32],
    axis: TimeAxis,
    begin: int,
    end: int,
    future: NDArray[np.float32],
    context: int,
) -> EncodedWindow | None:
    """Tokens, next values and weights of the history `values[begin:end]` and its `future`.

    None where the history holds no value the model could see.
    """
    start = max(begin, end - spec.max_lag - context)
    history = values[start:end].astype(np.float64)
    if np.isnan(history).all():
        return None
    if axis.start is not None and axis.freq is not None:
        axis = axis.shifted(start)
    prompt = encode(spec, history, axis, context, future[:-1].astype(np.float64))
    known = np.concatenate([history, future])
    following = np.full(len(prompt.tokens), np.nan, np.float32)
    available = known[-len(prompt.tokens) :]
    following[-len(available) :] = available
    return EncodedWindow(
        prompt.tokens,
        np.nan_to_num(following),
        (~np.isnan(following)).astype(np.float32),
        prompt.window.loc,
        prompt.window.scale,
    )


def collate(windows: Sequence[EncodedWindow], length: int) -> Batch:
    """Stack windows of up to `length` tokens; what is missing on the right has weight 0."""
    count, features = len(windows), windows[0].tokens.shape[1]
    tokens = np.zeros((count, length, features), np.float32)
    values = np.zeros((count, length), np.float32)
    weights = np.zeros((count, length), np.float32)
    for row, window in enumerate(windows):
        used = len(window.tokens)
        tokens[row, :used] = window.tokens
        values[row, :used] = window.values
        weights[row, :used] = window.weights
    columns = np.array([[w.loc, w.scale] for w in windows], np.float32)
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(values),
        torch.from_numpy(weights),
        torch.from_numpy(columns[:, :1].copy()),
        torch.from_numpy(columns[:, 1:].copy()),
    )
