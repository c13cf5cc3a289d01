"""Training and validation windows: features as at run time, and nothing from the held-out end."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_train.corpus import Series, SeriesSet
from laglite_train.draws import Draws, RawWindow, SamplingConfig, held_out
from laglite_train.synthetic import SyntheticConfig
from laglite_train.window_augmentation import AugmentationConfig
from laglite_train.windows import (
    Batch,
    EncodedWindow,
    TrainingBatches,
    ValidationBatches,
    collate,
    encode_window,
)

NAN = float("nan")
SPEC = ModelSpec(
    2, 2, 4, 8, (0, 1, 2, 5), scaling="iqr", history="carry", context_length=8,
    max_context_length=64,
)  # fmt: skip
PLAIN = dataclasses.replace(SPEC, scaling="none")
SAMPLING = SamplingConfig(horizon=4, context_lengths=(8,))
HOURLY = TimeAxis.of("2024-01-01", "h")


def series(values: Any, axis: TimeAxis = HOURLY, item: str = "a") -> Series:
    return Series(item, axis, np.asarray(values, np.float32))


def corpus(*groups: list[Series]) -> list[SeriesSet]:
    return [SeriesSet(f"set{index}", group) for index, group in enumerate(groups)]


def noise(length: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(5.0, 2.0, length).astype(np.float32)


EVERYTHING = AugmentationConfig(
    frequency=0.5, series_mix=0.5, sign_flip=0.2, magnitude=0.1, jitter=0.02
)
EVERY_SOURCE = {"coarser": 0.4, "synthetic": 0.3, "short_history": 0.3, "calendar_dropout": 0.3}


def training(
    sets: list[SeriesSet], spec: ModelSpec = SPEC, steps: range = range(8), seed: int = 1,
    augmentation: AugmentationConfig | None = None, rank: int = 0, world: int = 1, **changes: Any,
) -> TrainingBatches:  # fmt: skip
    config = dataclasses.replace(SAMPLING, **changes)
    return TrainingBatches(
        sets, spec, config, batch_size=6, steps=steps, seed=seed, augmentation=augmentation,
        rank=rank, world=world,
    )  # fmt: skip


def validation(
    sets: list[SeriesSet], spec: ModelSpec = SPEC, batch_size: int = 6, per_set: int = 4,
    **options: Any,
) -> ValidationBatches:  # fmt: skip
    return ValidationBatches(
        sets, spec, SAMPLING, batch_size=batch_size, per_set=per_set, **options
    )


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("freq", "period"),
    [("h", "h"), ("15min", "15min"), ("D", "D"), ("W", "W-SUN"), ("MS", "M"), ("QE", "Q-DEC")],
)
@pytest.mark.parametrize("history", ["zeros", "carry"])
@pytest.mark.parametrize(("begin", "end"), [(0, 5), (0, 40), (31, 40), (33, 37)])
def test_training_features_are_those_of_the_runtime(
    freq: str, period: str, history: str, begin: int, end: int
) -> None:
    """The runtime is given the values it would have seen, and their time as pandas counts it."""
    spec = dataclasses.replace(SPEC, history=history, scaling="robust")
    values = noise(50)
    values[[2, 34, 35, 41]] = NAN
    periods = pd.period_range("2021-03-31", periods=50, freq=period)
    axis = TimeAxis.of(periods[0].start_time, freq)
    window = encode_window(spec, values[begin:end], axis.shifted(begin), values[end : end + 4], 8)
    seen = TimeAxis.of(periods[begin].start_time, freq)
    exact = values.astype(np.float64)
    prompt = encode(spec, exact[begin:end], seen, 8, exact[end : end + 3])
    assert window is not None
    np.testing.assert_array_equal(window.tokens, prompt.tokens)
    assert (window.loc, window.scale) == (prompt.window.loc, prompt.window.scale)


@pytest.mark.parametrize(
    ("history", "current", "previous"),
    [("carry", [2, 2, 4, 5, 6, 6], [1, 2, 2, 4, 5, 6]),
     ("zeros", [2, 0, 4, 5, 6, 0], [1, 2, 0, 4, 5, 6])],
)  # fmt: skip
def test_a_window_written_by_hand(history: str, current: list[int], previous: list[int]) -> None:
    spec = dataclasses.replace(PLAIN, history=history, lags=(0, 1), calendar=False)
    values, future = np.float32([1, 2, NAN, 4, 5]), np.float32([6, NAN, 8])
    window = encode_window(spec, values, TimeAxis(), future, 4)
    assert window is not None
    np.testing.assert_array_equal(window.tokens[:, 0], current)
    np.testing.assert_array_equal(window.tokens[:, 1], previous)
    assert window.prompt == 4
    np.testing.assert_array_equal(window.weights, [0, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(window.values, [0, 4, 5, 6, 0, 8])


def test_a_history_without_a_value_gives_no_window() -> None:
    values = np.float32([1, *[NAN] * 13, 3])
    assert encode_window(SPEC, values[1:14], HOURLY, values[14:], 8) is None
    assert encode_window(SPEC, values[:14], HOURLY, values[14:], 8) is None  # out of reach
    assert encode_window(SPEC, values[:13], HOURLY, values[13:], 8) is not None


@pytest.mark.parametrize("seasons", [False, True])
@pytest.mark.parametrize("history", ["zeros", "carry"])
def test_a_drawn_window_has_the_features_of_the_whole_history(history: str, seasons: bool) -> None:
    """Draws cut a series to what the model looks back on; the runtime is given all of it."""
    spec = dataclasses.replace(
        SPEC, history=history, num_covariates=2, seasons=seasons, lags=(0, 1, 2, 30)
    )
    values, known = noise(90), np.stack([noise(90, 1), noise(90, 2)])
    values[:20:3] = NAN
    one = Series("a", HOURLY, values, known)
    plain = dataclasses.replace(SAMPLING, short_history=0.0, calendar_dropout=0.0)
    draws = Draws([SeriesSet("set", [one])], plain, SyntheticConfig(), max_lag=30, num_covariates=2)
    random = np.random.default_rng(0)
    for _ in range(30):
        raw = draws.draw(random, 8)
        assert raw.axis.start is not None
        assert HOURLY.start is not None
        end = int((raw.axis.start - HOURLY.start) / np.timedelta64(1, "h")) + raw.past
        stop = end + len(raw.values) - raw.past
        window = encode_window(
            spec, raw.values[: raw.past], raw.axis, raw.values[raw.past :], 8, 0, raw.covariates
        )
        whole = values.astype(np.float64)
        prompt = encode(
            spec, whole[:end], HOURLY, 8, whole[end : stop - 1], known[:, :stop].T.astype(float)
        )
        assert window is not None
        np.testing.assert_array_equal(window.tokens, prompt.tokens)


def test_a_batch_depends_on_the_seed_and_its_step_only() -> None:
    sets = corpus([series(noise(60))], [series(noise(30, 1)), series(noise(9, 2))])
    whole, tail = training(sets, steps=range(8)), training(sets, steps=range(5, 8))
    assert (len(whole), len(tail)) == (8, 3)
    np.random.seed(7)
    torch.manual_seed(7)
    for index in (2, 0, 1):
        assert same(tail[index], whole[index + 5])
        assert same(tail[index], tail[index])
    assert not same(whole[0], whole[1])
    assert not same(whole[0], training(sets, seed=2)[0])


@pytest.mark.parametrize(
    ("length", "horizon", "kept"),
    [(8, 64, 1), (10, 64, 2), (100, 64, 20), (1000, 64, 64), (9, 1, 1)],
)
def test_a_fifth_of_a_series_is_held_out_but_no_more_than_a_horizon(
    length: int, horizon: int, kept: int
) -> None:
    assert held_out(length, horizon) == kept


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(8, 60), min_size=1, max_size=4),
    horizon=st.integers(1, 20),
    contexts=st.lists(st.integers(1, 16), min_size=1, max_size=3).map(tuple),
    history=st.sampled_from(["zeros", "carry"]),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_no_training_window_reaches_into_the_held_out_end(
    lengths: list[int], horizon: int, contexts: tuple[int, ...], history: str, share: float,
    seed: int,
) -> None:  # fmt: skip
    """Series k holds 1000 k + t at time t, so that every number tells where it is from."""
    rows = [series(1000 * (k + 1) + np.arange(n)) for k, n in enumerate(lengths)]
    sets = corpus(rows[:1], rows[1:]) if rows[1:] else corpus(rows)
    usable = np.array([0, *(n - max(1, min(horizon, n // 5)) for n in lengths)])
    batches = training(
        sets, dataclasses.replace(PLAIN, history=history), seed=seed, horizon=horizon,
        context_lengths=contexts, short_history=share, calendar_dropout=share,
        largest_value=np.inf,
    )  # fmt: skip
    for batch in (batches[index] for index in range(len(batches))):
        for used in (batch.tokens[..., : len(SPEC.lags)].numpy(), batch.values.numpy()):
            origin, time = np.divmod(used[used != 0].astype(int), 1000)
            assert (time < usable[origin]).all()
        assert ((batch.values != 0) == (batch.weights == 1)).all()
        assert (batch.weights.sum(dim=1) >= 1).all()


def test_what_is_held_out_changes_no_training_batch() -> None:
    """With partners mixed in and coarser series, which would spread what they see."""
    values = [noise(n, n) for n in (12, 40, 64, 700)]
    altered = [v.copy() for v in values]
    for v in altered:
        v[-held_out(len(v), 4) :] = 1e6
    before, after = (
        training(
            corpus(*([series(v, TimeAxis.of("2024-01-01", "15min"))] for v in rows)),
            augmentation=EVERYTHING, weighting="equal", **EVERY_SOURCE,
        )
        for rows in (values, altered)
    )  # fmt: skip
    assert all(same(before[index], after[index]) for index in range(8))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_divide_each_batch_and_together_have_all_of_it(world: int) -> None:
    sets = corpus([series(noise(60))], [series(noise(900, 1))])
    options: dict[str, Any] = {"augmentation": EVERYTHING, **EVERY_SOURCE}
    whole = training(sets, **options)
    parts = [training(sets, rank=rank, world=world, **options) for rank in range(world)]
    for step in range(len(whole)):
        for rank, part in enumerate(parts):
            mine = Batch(*(field[rank::world] for field in whole[step]))
            assert same(part[step], mine)


def test_sources_name_the_stratum_of_each_window() -> None:
    mixed = [series(np.full(40, 2.0)), series(np.full(40, 3.0), TimeAxis.of("2024-01-01", "D"))]
    sets = corpus([series(np.full(40, 1.0))], mixed)
    batches = training(sets, PLAIN, weighting="equal")
    assert batches.names == ["set0", "set1/h", "set1/D"]
    for index in range(8):
        batch = batches[index]
        np.testing.assert_array_equal(batch.tokens[:, 0, 0], batch.sources + 1)


def test_covariates_reach_the_tokens_of_the_step_before() -> None:
    spec = dataclasses.replace(PLAIN, num_covariates=1)
    values = np.float32([1, 2, 3, 4, 5, 6])
    known = np.float32([[0, 0, 4, 4, 2, 8]])  # mean 2, deviation 2 over the history of 4
    window = encode_window(spec, values[:4], TimeAxis(), values[4:], 4, 0, known)
    assert window is not None
    np.testing.assert_array_equal(window.tokens[:, -1], [-1, 1, 1, 0, 3])
    none = encode_window(spec, values[:4], TimeAxis(), values[4:], 4)
    assert none is not None
    assert (none.tokens[:, -1] == 0).all()


def test_batches_of_a_covariate_model_hold_covariates_and_zeros_where_there_are_none() -> None:
    spec = dataclasses.replace(SPEC, num_covariates=1)
    with_one = dataclasses.replace(series(noise(40)), covariates=noise(40, 1)[None])
    sets = corpus([with_one], [series(noise(40, 2))])
    drawn, fixed = training(sets, spec), validation(sets, spec)
    for batch in (*(drawn[index] for index in range(8)), fixed[0]):
        used = (batch.tokens[..., -1] != 0).any(dim=1)
        np.testing.assert_array_equal(used, batch.sources == 0)


def test_missing_values_have_weight_zero() -> None:
    values = np.arange(1, 61, dtype=np.float32)
    values[::3] = NAN
    batches = training(corpus([series(values)]), PLAIN)
    for index in range(8):
        observed = batches[index].values[batches[index].weights == 1].numpy()
        assert len(observed) > 0
        assert set(observed) <= set(values[~np.isnan(values)])
        assert torch.isfinite(batches[index].tokens).all()


def test_a_set_observed_only_in_its_held_out_end_does_not_stall_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draws: list[None] = []
    draw = Draws.draw

    def counted(self: Draws, *arguments: Any) -> RawWindow:
        draws.append(None)
        if len(draws) > 2000:
            raise AssertionError("no batch after 2000 draws")
        return draw(self, *arguments)

    monkeypatch.setattr(Draws, "draw", counted)
    late = series([NAN] * 19 + [3.0])
    assert training(corpus([series(noise(40))], [late]))[0].tokens.shape[0] == 6


@pytest.mark.parametrize(("share", "blank"), [(0.0, 0), (1.0, 6)])
def test_a_share_of_windows_loses_its_calendar(share: float, blank: int) -> None:
    batch = training(corpus([series(noise(60))]), calendar_dropout=share)[0]
    calendar = batch.tokens[..., -6:]
    assert int((calendar == 0).all(dim=-1).all(dim=-1).sum()) == blank


def test_collate_fills_short_windows_on_the_right_with_weight_zero() -> None:
    rows = [
        EncodedWindow(np.full((n, 3), n, np.float32), np.full(n, 9, np.float32),
                      np.ones(n, np.float32), float(n), 2.0, n - 1, np.arange(2), n - 3,
                      np.full(4, n, np.float32))
        for n in (2, 5)
    ]  # fmt: skip
    batch = collate(rows, 5)
    shapes = [tuple(part.shape) for part in batch]
    assert shapes == [(2, 5, 3), (2, 5), (2, 5), (2, 1), (2, 1), (2,), (2, 2), (2,), (2, 4)]
    assert all(part.dtype == torch.float32 for part in batch[:5])
    assert batch.prompts.dtype == batch.sources.dtype == torch.int64
    assert (batch.prompts.tolist(), batch.sources.tolist()) == ([1, 4], [-1, 2])
    assert batch.weights.tolist() == [[1, 1, 0, 0, 0], [1] * 5]
    assert batch.tokens[0, :, 0].tolist() == [2, 2, 0, 0, 0]
    assert batch.values[0].tolist() == [9, 9, 0, 0, 0]
    assert (batch.loc.tolist(), batch.scale.tolist()) == ([[2.0], [5.0]], [[2.0], [2.0]])


def test_a_series_shorter_than_the_context_is_filled_on_the_right() -> None:
    batches = training(corpus([series(noise(10))]), calendar_dropout=0.0)
    for index in range(8):
        batch = batches[index]
        assert batch.tokens.shape == (6, 8 + 4 - 1, SPEC.num_features)
        for tokens, weights in zip(batch.tokens, batch.weights, strict=True):
            used = int((tokens != 0).any(dim=-1).sum())  # the calendar is never all zero
            assert 4 <= used <= 7  # 8 of 10 values are for training, the last one no input
            assert (tokens[used:] == 0).all()
            assert weights.tolist() == [1.0] * used + [0.0] * (11 - used)


def test_validation_weighs_the_held_out_end_only() -> None:
    rows = [np.arange(1, n + 1, dtype=np.float32) for n in (9, 15, 60)]
    rows[2][-2] = NAN
    batches = validation(corpus([series(row) for row in rows]))
    assert len(batches) == 1
    for row, values, weights in zip(rows, batches[0].values, batches[0].weights, strict=True):
        end = row[-held_out(len(row), 4) :]
        assert values[weights == 1].tolist() == end[~np.isnan(end)].tolist()


def test_validation_windows_are_the_same_in_every_run_and_limited_for_each_set() -> None:
    sets = corpus([series(noise(40, k)) for k in range(11)], [series(noise(20))])
    first, second = validation(sets, batch_size=2), validation(sets, batch_size=2)
    assert [len(first[index].tokens) for index in range(len(first))] == [2, 2, 1]
    assert all(same(first[index], second[index]) for index in range(3))


@pytest.mark.parametrize("world", [2, 3, 8])
def test_processes_share_the_validation_windows_in_equally_many_batches(world: int) -> None:
    """Five windows; what is added so that all have as many weighs nothing."""
    sets = corpus([series(noise(40, k)) for k in range(4)], [series(noise(20))])
    whole = validation(sets, batch_size=2)
    parts = [validation(sets, batch_size=2, rank=rank, world=world) for rank in range(world)]
    assert {len(part) for part in parts} == {math.ceil(math.ceil(5 / world) / 2)}

    def ends(batches: ValidationBatches) -> list[tuple[float, ...]]:
        return [
            tuple(row[weights > 0].tolist())
            for batch in (batches[index] for index in range(len(batches)))
            for row, weights in zip(batch.values, batch.weights, strict=True)
            if weights.any()
        ]

    assert sorted(end for part in parts for end in ends(part)) == sorted(ends(whole))


def test_a_corpus_with_nothing_to_validate_on_is_refused() -> None:
    values = noise(40)
    values[-4:] = NAN
    with pytest.raises(InputError, match="no series has an observed value in its held-out end"):
        validation(corpus([series(values)]))


def test_windows_far_beyond_the_scale_are_left_out() -> None:
    loud = noise(200, 2)
    loud[100:] *= 1e4
    batches = training(corpus([series(noise(200)), series(loud)]), largest_value=50.0)
    for index in range(len(batches)):
        batch = batches[index]
        ahead = ((batch.values - batch.loc) / batch.scale).abs() * batch.weights
        assert ahead.max() <= 50
        assert batch.tokens.abs().max() <= 50


def test_counts_are_not_learnt_from_negative_values() -> None:
    """Their likelihood under a negative binomial has no bound."""
    counts = dataclasses.replace(SPEC, head="neg_bin", scaling="mean")
    levels = np.random.default_rng(0).poisson(5.0, 200)
    mixed = corpus([series(levels), series(levels - 3.0, item="b")])
    batches = training(mixed, counts)
    for batch in (batches[index] for index in range(len(batches))):
        assert (batch.values >= 0).all()
    assert sum(int((batch.values < 0).any()) for batch in training(mixed)) > 0
    with pytest.raises(InputError, match=r"or are negative, as counts cannot be"):
        training(corpus([series(levels - 99.0)]), counts)[0]


def test_a_corpus_without_a_usable_window_is_refused() -> None:
    with pytest.raises(InputError, match="hardly any window can be trained on"):
        training(corpus([series(noise(200))]), largest_value=1e-6)[0]
