"""Coarser series are pandas' means over the same calendar blocks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from laglite.frequency import timestamps
from laglite.tokens import TimeAxis
from laglite_train.coarser import SHORTEST, coarser_series
from laglite_train.corpus import Series


def fine_series(start: str, freq: str, length: int, missing: float = 0.0) -> Series:
    random = np.random.default_rng(0)
    values = random.normal(50.0, 10.0, length).astype(np.float32)
    values[random.random(length) < missing] = np.nan
    return Series("a", TimeAxis.of(start, freq), values)


def all_coarser(series: Series) -> dict[str, Series]:
    """What `coarser_series` makes of a series, by frequency."""
    drawn = [coarser_series(series, np.random.default_rng(seed)) for seed in range(60)]
    return {str(one.axis.freq and one.axis.freq.alias): one for one in drawn}


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize(
    ("start", "freq", "length", "targets"),
    [
        ("2024-02-27 22:37", "min", 7000, {"5min", "10min", "15min", "30min", "h"}),
        ("2024-02-27 22:45", "15min", 7000, {"30min", "h", "D"}),
        ("2024-02-27 22:00", "6h", 2000, {"D", "W"}),
        ("2024-02-27 05:00", "h", 12000, {"D", "W"}),
        ("2024-02-27", "D", 500, {"W"}),
        ("2024-02-25", "D", 500, {"W"}),
    ],
)
def test_blocks_and_means_are_those_of_pandas(
    start: str, freq: str, length: int, targets: set[str], missing: float
) -> None:
    series = fine_series(start, freq, length, missing)
    index = pd.date_range(start, periods=length, freq=freq)
    table = pd.Series(series.values.astype(np.float64), index)
    found = all_coarser(series)
    assert {alias.partition("-")[0] for alias in found} == targets
    for alias, coarse in found.items():
        assert coarse.axis.start is not None
        resampled = table.resample(alias)
        full = resampled.size() == resampled.size().max()
        wanted = resampled.mean()[full]
        np.testing.assert_allclose(coarse.values, wanted[-len(coarse.values) :], rtol=1e-5)
        assert 0 <= len(wanted) - len(coarse.values) <= 1  # pandas knows weeks that begin later
        first = pd.Timestamp(coarse.axis.start)
        label = wanted.index[-len(coarse.values)]
        assert first == (label - pd.Timedelta(days=6) if alias.startswith("W") else label)
        assert coarse.item_id == "a"
        freq_of = coarse.axis.freq
        assert freq_of is not None
        last = timestamps(coarse.axis.start, freq_of, len(coarse.values) - 1, 1)[0]
        assert abs(pd.Timestamp(last) - wanted.index[-1]) < pd.Timedelta(days=7)


def test_a_block_without_an_observed_value_is_missing() -> None:
    series = fine_series("2024-01-01", "D", 500)
    series.values[7:14] = np.nan
    (coarse,) = all_coarser(series).values()
    assert np.flatnonzero(np.isnan(coarse.values)).tolist() == [1]


@pytest.mark.parametrize(
    ("freq", "length"),
    [("W", 2000), ("MS", 2000), ("B", 2000), ("D", 7 * SHORTEST), ("h", 24 * SHORTEST),
     ("2D", 4000), ("7D", 4000)],
)  # fmt: skip
def test_what_has_no_coarser_grid_or_is_too_short_stays(freq: str, length: int) -> None:
    series = fine_series("2024-01-01", freq, length)
    assert coarser_series(series, np.random.default_rng(0)) is series


def test_odd_steps_are_averaged_only_where_blocks_are_whole() -> None:
    """Days hold no whole number of 5 hours, quarter hours none of 10 minutes."""
    assert all_coarser(fine_series("2024-01-01", "5h", 9000)).keys() == {"5h"}
    assert all_coarser(fine_series("2024-01-01", "10min", 5000)).keys() == {"30min", "h"}


def test_series_without_times_or_with_covariates_stay() -> None:
    series = fine_series("2024-01-01", "h", 3000)
    for other in (
        dataclasses.replace(series, axis=TimeAxis()),
        dataclasses.replace(series, covariates=np.zeros((1, 3000), np.float32)),
    ):
        assert coarser_series(other, np.random.default_rng(0)) is other
