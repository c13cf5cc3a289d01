"""A file of series cut in time: what is trained on, what is selected on, what is held back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from laglite.arguments import as_history
from laglite.errors import InputError
from laglite.reading import InputSeries
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis
from laglite.window import Window, build_window
from laglite_train.corpus import Series, SeriesSet
from laglite_train.draws import held_out
from laglite_train.windows import Batch, EncodedWindow, collate, encode_window

SHORTEST_TRAINING = 8
WANTED_WINDOWS = 32  # to validate on, over all series
VALIDATION_SHARE = 0.1  # of a series at most, but one window always
MOST_WINDOWS = 128  # that are forecast at every validation
MOST_NAMES = 5

Note = Callable[[str], None]


@dataclass(frozen=True)
class SplitSeries:
    """One series: `values[:train]` are trained on, `values[train:test]` validated on.

    The rest is held back. `validation` starts a window every horizon from `train` on.
    """

    series: Series
    train: int
    test: int


@dataclass(frozen=True)
class TimeSplit:
    """A data set cut in time, all series at their own ends.

    `held_back` are the same series as read, whose last `windows` x `horizon` values nothing is
    trained or selected on.
    """

    name: str
    horizon: int
    windows: int
    parts: tuple[SplitSeries, ...]
    held_back: tuple[InputSeries, ...]

    @property
    def training(self) -> SeriesSet:
        """What may be trained on."""
        return SeriesSet(self.name, [_head(part.series, part.train) for part in self.parts])

    @property
    def validation_windows(self) -> int:
        """How many windows of `horizon` values are validated on."""
        return sum((part.test - part.train) // self.horizon for part in self.parts)

    @property
    def longest_training(self) -> int:
        """Values of the longest series that may be trained on."""
        return max(part.train for part in self.parts)


def split_in_time(
    name: str, series: Sequence[InputSeries], horizon: int, windows: int, note: Note
) -> TimeSplit:
    """Hold back the last `windows` x `horizon` values of each series, validate on those before.

    One window of `horizon` values is validated on; where there are few series, as many as make
    `WANTED_WINDOWS` in all, within a tenth of each series. Series too short for it, or without an
    observed value to train on, are left out and named to `note`. Raises InputError, which says how
    many values a series needs, if none is left.
    """
    back = windows * horizon
    needed = back + horizon + SHORTEST_TRAINING
    wanted = -(-WANTED_WINDOWS // max(1, len(series)))
    parts, kept, short = [], [], []
    for row, one in enumerate(series):
        item = str(row) if one.item_id is None else one.item_id
        test = len(one.values) - back
        most = int(VALIDATION_SHARE * test) // horizon
        train = test - horizon * max(1, min(wanted, most))
        if train < SHORTEST_TRAINING or not _is_usable(one.values, train, horizon):
            short.append(item)
            continue
        parts.append(SplitSeries(_as_series(item, one), train, test))
        kept.append(one)
    if not parts:
        longest = max((len(one.values) for one in series), default=0)
        raise InputError(
            f"{name}: no series is long enough: each needs at least {needed} values, observed ones "
            f"among the first: {back} held back, {horizon} to validate on and "
            f"{SHORTEST_TRAINING} to train on; the longest has {longest}. Shorten the horizon, or "
            "give longer series"
        )
    if short:
        more = f" and {len(short) - MOST_NAMES} more" if len(short) > MOST_NAMES else ""
        note(
            f"{name}: left out, fewer than {needed} values or too few observed: "
            f"{', '.join(short[:MOST_NAMES])}{more}"
        )
    return TimeSplit(name, horizon, windows, tuple(parts), tuple(kept))


def check_covariates(split: TimeSplit, num_covariates: int) -> None:
    """Raise InputError for a series without the covariates that the model reads."""
    for part in split.parts:
        found = 0 if part.series.covariates is None else len(part.series.covariates)
        if found != num_covariates:
            raise InputError(
                f"{split.name}, series {part.series.item_id!r}: {found} covariates where the model "
                f"has {num_covariates}; name the columns it was trained with"
            )


def check_counts(split: TimeSplit, head: str) -> None:
    """Raise InputError for negative values where the model's head is one of counts."""
    for part in split.parts:
        if head == "neg_bin" and (part.series.values < 0).any():
            raise InputError(
                f"{split.name}, series {part.series.item_id!r}: negative values, where the model "
                "forecasts counts (head neg_bin); choose a model with another head"
            )


class SplitValidation(Dataset[Batch]):
    """The validation windows of a split in batches, for a prompt of `context` tokens.

    Every context sees the same values to predict. Of more than `MOST_WINDOWS` some are taken, from
    all over the split. `windows` has what each batch was encoded from. Raises InputError if no
    window has an observed value to predict and one before it.
    """

    def __init__(self, split: TimeSplit, spec: ModelSpec, context: int, batch_size: int) -> None:
        places = [
            (part.series, origin)
            for part in split.parts
            for origin in range(part.train, part.test, split.horizon)
        ]
        encoded, windows = [], []
        for series, origin in places[:: -(-len(places) // MOST_WINDOWS)]:
            found = _encode(series, origin, split.horizon, spec, context)
            if found is not None and found.weights.any():
                encoded.append(found)
                windows.append(
                    build_window(series.values[:origin].astype(np.float64), spec, context)
                )
        if not windows:
            raise InputError(
                f"{split.name}: nothing is observed in the {split.horizon} values to validate on, "
                "before those held back"
            )
        length = context + split.horizon - 1
        parts = [slice(first, first + batch_size) for first in range(0, len(windows), batch_size)]
        self._batches = [collate(encoded[part], length) for part in parts]
        self.windows = [windows[part] for part in parts]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        return self._batches[index]

    @property
    def encoded(self) -> list[tuple[Batch, list[Window]]]:
        """Each batch with the windows that it was encoded from."""
        return list(zip(self._batches, self.windows, strict=True))


def _encode(
    series: Series, origin: int, horizon: int, spec: ModelSpec, context: int
) -> EncodedWindow | None:
    """The window whose `horizon` values after `origin` are to be predicted."""
    begin = max(0, origin - spec.max_lag - context)
    end = origin + horizon
    known = None if series.covariates is None else series.covariates[:, begin:end]
    window = encode_window(
        spec,
        series.values[begin:origin],
        series.axis.shifted(begin) if begin else series.axis,
        series.values[origin:end],
        context,
        covariates=known,
    )
    if window is not None:
        window.weights[: len(window.weights) - horizon] = 0.0
    return window


def _is_usable(values: NDArray[np.float64], train: int, horizon: int) -> bool:
    """Whether something is observed early enough to be trained on (see `trainable`)."""
    return not np.isnan(values[: train - held_out(train, horizon)]).all()


def _as_series(item: str, one: InputSeries) -> Series:
    covariates = None
    if one.covariates is not None:
        covariates = one.covariates[: len(one.values)].T.astype(np.float32)
    axis = TimeAxis() if one.start is None or one.freq is None else TimeAxis(one.start, one.freq)
    values = as_history(one.values, item, may_be_missing=True).astype(np.float32)
    return Series(item, axis, values, covariates)


def _head(series: Series, length: int) -> Series:
    covariates = None if series.covariates is None else series.covariates[:, :length]
    return Series(series.item_id, series.axis, series.values[:length], covariates)
