"""Draws: strata, series and stretches in their expected shares, and nothing held out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, chisquare

from laglite.errors import InputError
from laglite.tokens import TimeAxis
from laglite_train.corpus import Series, SeriesSet
from laglite_train.draws import (
    SYNTHETIC,
    Draws,
    RawWindow,
    SamplingConfig,
    held_out,
    log_uniform,
    stratum_weights,
    trainable,
)
from laglite_train.synthetic import SyntheticConfig

NAN = float("nan")
MARKER = 1e9
CONTEXT, MAX_LAG = 8, 5
PLAIN = SamplingConfig(
    horizon=4, context_lengths=(CONTEXT,), short_history=0.0, calendar_dropout=0.0
)


def series(length: int, freq: str = "h", first: float = 0.0, item: str = "a") -> Series:
    """A series that counts from `first`, so that a value tells its place."""
    values = first + np.arange(length, dtype=np.float32)
    return Series(item, TimeAxis.of("2024-01-01", freq), values)


def strata(*shapes: tuple[int, int, str]) -> list[SeriesSet]:
    """One set for each (number of series, their length, frequency)."""
    return [
        SeriesSet(f"set{k}", [series(length, freq, item=str(i)) for i in range(count)])
        for k, (count, length, freq) in enumerate(shapes)
    ]


def draws(corpus: list[SeriesSet], num_covariates: int = 0, **changes: Any) -> Draws:
    config = dataclasses.replace(PLAIN, **changes)
    return Draws(corpus, config, SyntheticConfig(), max_lag=MAX_LAG, num_covariates=num_covariates)


def windows(source: Draws, count: int, seed: int = 0) -> list[RawWindow]:
    random = np.random.default_rng(seed)
    return [source.draw(random, CONTEXT) for _ in range(count)]


def test_each_weighting_rule_is_in_proportion_to_what_it_names() -> None:
    sets = strata((1, 16, "h"), (3, 27, "h"))
    wanted = {
        "series": [1 / 4, 3 / 4],
        "points": [16 / 97, 81 / 97],
        "equal": [1 / 2, 1 / 2],
        "temperature": [4 / 13, 9 / 13],  # the roots of 16 and 81
    }
    for rule, shares in wanted.items():
        config = dataclasses.replace(PLAIN, weighting=rule, temperature=0.5)
        np.testing.assert_allclose(stratum_weights(sets, config), shares, err_msg=rule)


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ({}, [0.1, 0.1, 0.3, 0.5]),
        ({"D": 0.6}, [0.3, 0.3, 0.4 * 3 / 8, 0.4 * 5 / 8]),
        ({"1D": 0.6, "MS": 0.1}, [0.3, 0.3, 0.4 * 3 / 8, 0.4 * 5 / 8]),  # no set is monthly
        ({"MS": 0.6, "YS": 0.4}, [0.1, 0.1, 0.3, 0.5]),
        ({"D": 0.5, "H": 0.5}, [0.25, 0.25, 0.5, 0.0]),
        ({"H": 1.0}, [0.0, 0.0, 1.0, 0.0]),
    ],
)
def test_listed_frequencies_have_their_share_and_the_others_keep_theirs_of_the_rest(
    shares: dict[str, float], wanted: list[float]
) -> None:
    sets = strata((1, 20, "D"), (1, 20, "D"), (3, 20, "h"), (5, 20, "15min"))
    config = dataclasses.replace(PLAIN, weighting="series", frequency_shares=shares)
    np.testing.assert_allclose(stratum_weights(sets, config), wanted, atol=1e-12)


def test_a_factor_multiplies_the_chance_of_all_or_a_part_of_a_data_set() -> None:
    mixed = SeriesSet("b", [series(20, "h"), series(20, "D")])
    sets = trainable([SeriesSet("a", [series(20, "h")]), mixed], 4)
    assert [group.name for group in sets] == ["a", "b/h", "b/D"]
    for factors, wanted in (
        ({"a": 2.0}, [2 / 4, 1 / 4, 1 / 4]),
        ({"b": 2.0}, [1 / 5, 2 / 5, 2 / 5]),
        ({"b/D": 3.0}, [1 / 5, 1 / 5, 3 / 5]),
    ):
        config = dataclasses.replace(PLAIN, weighting="equal", factors=factors)
        np.testing.assert_allclose(stratum_weights(sets, config), wanted, err_msg=str(factors))


def test_a_factor_moves_windows_within_the_share_of_its_frequency() -> None:
    sets = strata((1, 20, "D"), (1, 20, "D"), (3, 20, "h"))
    config = dataclasses.replace(
        PLAIN, weighting="equal", factors={sets[0].name: 3.0}, frequency_shares={"D": 0.4}
    )
    np.testing.assert_allclose(stratum_weights(sets, config), [0.3, 0.1, 0.6])


def test_a_factor_for_a_set_that_is_not_there_is_refused() -> None:
    sets = [SeriesSet("a", [series(20)]), SeriesSet("b/h", [series(20)])]
    config = dataclasses.replace(PLAIN, factors={"c": 2.0})
    with pytest.raises(InputError, match=r"no data set 'c' to train on; there are a, b$"):
        stratum_weights(sets, config)


@pytest.mark.parametrize("rule", ["series", "points", "equal", "temperature"])
def test_strata_and_their_series_are_drawn_as_often_as_their_weights_say(rule: str) -> None:
    source = draws(strata((1, 20, "h"), (3, 30, "D"), (2, 60, "W")), weighting=rule)
    found = np.bincount([w.source for w in windows(source, 3000)], minlength=3)
    assert chisquare(found, 3000 * source.weights).pvalue > 1e-3
    members = SeriesSet("a", [series(20, first=1000 * k) for k in range(4)])
    origins = [int(w.values[0]) // 1000 for w in windows(draws([members]), 2000)]
    assert chisquare(np.bincount(origins, minlength=4)).pvalue > 1e-3


def test_a_set_of_several_frequencies_gives_a_stratum_for_each() -> None:
    mixed = SeriesSet("set", [series(20, "h"), series(20, "D"), series(20, "h")])
    kept = trainable([mixed], 4)
    assert [(group.name, len(group.series)) for group in kept] == [("set/h", 2), ("set/D", 1)]
    assert trainable(kept, 4) == kept


def test_every_end_of_a_history_is_as_likely_and_short_futures_are_kept() -> None:
    """20 values, 4 held out: histories end after 4 to 15, futures reach value 16 at most."""
    drawn = windows(draws(strata((1, 20, "h"))), 3000)
    ends = np.array([int(w.values[w.past - 1]) + 1 for w in drawn])
    assert chisquare(np.bincount(ends, minlength=16)[4:16]).pvalue > 1e-3
    assert (ends >= 4).all()
    for window, end in zip(drawn, ends, strict=True):
        assert window.past == min(end, MAX_LAG + CONTEXT)
        assert len(window.values) - window.past == min(4, 16 - end)


@pytest.mark.parametrize(
    ("freq", "period"), [("h", "h"), ("D", "D"), ("W", "W-SUN"), ("MS", "M"), ("QE", "Q-DEC")]
)
def test_a_window_knows_the_time_of_its_first_value(freq: str, period: str) -> None:
    periods = pd.period_range("2021-03-31", periods=60, freq=period)
    axis = TimeAxis.of(periods[0].start_time, freq)
    one = Series("a", axis, np.arange(60, dtype=np.float32))
    for window in windows(draws([SeriesSet("set", [one])]), 30):
        place = int(window.values[0])
        assert window.axis.start == np.datetime64(periods[place].start_time, "us")
        assert window.axis.freq == axis.freq


@pytest.mark.parametrize(
    "options",
    [{}, {"coarser": 1.0}, {"coarser": 0.5, "short_history": 0.5, "synthetic": 0.2}],
    ids=str,
)
def test_no_draw_sees_a_held_out_end(options: dict[str, Any]) -> None:
    """A marker in the held-out ends is far above everything else, whatever it is averaged with."""
    rows = [series(n, "15min", item=str(n)) for n in (9, 30, 400, 3000)]
    for one in rows:
        one.values[-held_out(len(one.values), 4) :] = MARKER
    sets = [SeriesSet("set", rows)]
    drawn = windows(draws(sets, weighting="equal", **options), 400)
    coarse = {str(w.axis.freq) for w in drawn if w.source != SYNTHETIC}
    assert (len(coarse) > 1) == bool(options)
    real = [w for w in drawn if w.source != SYNTHETIC]
    assert max(float(np.nanmax(w.values)) for w in real) < 3000
    assert len(real) > 200


def test_data_without_a_held_out_end_are_used_to_their_last_value() -> None:
    source = Draws(strata((1, 20, "h")), PLAIN, SyntheticConfig(), max_lag=5, hold_out=False)
    assert max(float(w.values.max()) for w in windows(source, 200)) == 19


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_of_windows_is_synthetic_at_the_frequencies_of_the_corpus(share: float) -> None:
    sets = strata((1, 40, "h"), (1, 40, "MS"))
    drawn = windows(draws(sets, weighting="equal", synthetic=share), 600)
    made = [w for w in drawn if w.source == SYNTHETIC]
    assert binomtest(len(made), 600, share).pvalue > 1e-3
    assert {str(w.axis.freq) for w in made} <= {str(s.series[0].axis.freq) for s in sets}
    for window in made:
        assert 0 < window.past < len(window.values) <= MAX_LAG + CONTEXT + 4


def test_series_without_times_are_never_replaced_by_synthetic_ones() -> None:
    untimed = Series("a", TimeAxis(), np.arange(40, dtype=np.float32))
    drawn = windows(draws([SeriesSet("set", [untimed])], synthetic=1.0), 20)
    assert {w.source for w in drawn} == {0}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_windows_loses_its_times(share: float) -> None:
    drawn = windows(draws(strata((1, 40, "h")), calendar_dropout=share), 600)
    blank = sum(w.axis == TimeAxis() for w in drawn)
    assert binomtest(blank, 600, share).pvalue > 1e-3


def test_short_histories_keep_at_least_four_values_and_all_lengths_occur() -> None:
    drawn = windows(draws(strata((1, 100, "h")), short_history=1.0), 600)
    lengths = {w.past for w in drawn}
    assert lengths == set(range(4, MAX_LAG + CONTEXT + 1))


def test_the_logarithm_of_a_length_is_about_uniform() -> None:
    random = np.random.default_rng(0)
    found = np.array([log_uniform(random, 4, 64) for _ in range(4000)])
    assert (found.min(), found.max()) == (4, 64)
    edges = np.array([4, 8, 16, 32, 65])
    assert np.histogram(found, edges)[0] / 4000 == pytest.approx(
        np.diff(np.log(edges)) / np.log(65 / 4), abs=0.03
    )
    assert log_uniform(random, 4, 3) == 3


def covariate_set(name: str, counts: list[int]) -> SeriesSet:
    """Series with covariates that are 10, 20, ... times the value at the same step."""
    rows = []
    for count in counts:
        one = series(30)
        factors = 10 * np.arange(1, count + 1, dtype=np.float32)[:, None]
        rows.append(dataclasses.replace(one, covariates=factors * one.values if count else None))
    return SeriesSet(name, rows)


def covariates_of(window: RawWindow) -> NDArray[np.float32]:
    assert window.covariates is not None
    return window.covariates


def test_covariates_are_cut_as_their_series() -> None:
    for window in windows(draws([covariate_set("set", [2])], num_covariates=2), 40):
        np.testing.assert_array_equal(
            covariates_of(window), np.stack([10 * window.values, 20 * window.values])
        )


def test_covariates_are_dropped_for_a_model_without_and_may_be_absent_in_some_series() -> None:
    assert all(w.covariates is None for w in windows(draws([covariate_set("set", [2])]), 10))
    mixed = windows(draws([covariate_set("set", [2, 0])], num_covariates=2), 40)
    assert {w.covariates is None for w in mixed} == {True, False}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([2, 1], "data set 'set' has series with 1 covariates where model.num_covariates is 2"),
        ([0, 0], "model.num_covariates is 2, but no series of the data has covariates"),
    ],
)
def test_covariates_that_do_not_fit_the_model_are_refused(counts: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draws([covariate_set("set", counts)], num_covariates=2)


def test_series_with_nothing_to_train_on_are_left_out() -> None:
    late = Series("late", TimeAxis(), np.float32([NAN] * 19 + [3.0]))
    sets = [SeriesSet("a", [late]), SeriesSet("b", [late, series(20)])]
    kept = trainable(sets, 4)
    assert [group.name for group in kept] == ["b/h"]
    with pytest.raises(InputError, match="no series has an observed value before its held-out"):
        trainable(sets[:1], 4)
