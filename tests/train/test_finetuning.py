"""Fine-tuning learns from the past alone, moves the weights it may, and keeps what is best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laglite import Forecaster
from laglite.errors import InputError, LagliteError
from laglite.evaluation.backtest import from_samples
from laglite.evaluation.metrics import DECILES, combine, levels_needed, window_errors
from laglite.frequency import parse_frequency
from laglite.reading import InputSeries
from laglite.spec import ModelSpec
from laglite_train import finetuning_search
from laglite_train.finetuning import (
    Candidate,
    FineTuneConfig,
    check_context,
    fine_tune,
    freeze,
    inherited_rollout,
    inherited_sampling,
    with_context,
)
from laglite_train.finetuning_search import allowed_contexts, run_once, search
from laglite_train.forecast_error import forecast_wql
from laglite_train.model import LagLlama
from laglite_train.time_split import (
    SHORTEST_TRAINING,
    SplitValidation,
    TimeSplit,
    check_counts,
    check_covariates,
    split_in_time,
)

HORIZON = 6
SPEC = ModelSpec(
    3, 2, 4, 8, (0, 1, 2, 5), scaling="iqr", history="carry", calendar_optional=True,
    context_length=8, max_context_length=64,
)  # fmt: skip
QUICK = FineTuneConfig(
    learning_rate=1e-2, steps=8, steps_per_epoch=4, batch_size=8, average=0.5, threads=1
)


def silent(_: str) -> None:
    """No notes."""


def wave(name: str, length: int = 120, **changes: Any) -> InputSeries:
    random, hours = np.random.default_rng(len(name)), np.arange(length)
    values = 10 + 5 * np.sin(2 * np.pi * hours / 6) + random.normal(scale=0.1, size=length)
    series = InputSeries(name, values, np.datetime64("2024-01-01"), parse_frequency("h"))
    return dataclasses.replace(series, **changes)


def split(*series: InputSeries, windows: int = 1) -> TimeSplit:
    chosen = series or (wave("a"), wave("bb"))
    return split_in_time("waves", chosen, HORIZON, windows, silent)


@pytest.fixture(scope="module")
def model() -> LagLlama:
    torch.manual_seed(0)
    model = LagLlama(SPEC)
    model.initialise()
    return model.eval()


def weights(model: LagLlama) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@given(
    length=st.integers(1, 400),
    horizon=st.integers(1, 40),
    windows=st.integers(1, 4),
    count=st.integers(1, 10),
)
@settings(max_examples=50, deadline=None)
def test_a_series_is_cut_into_past_validation_and_held_back_end(
    length: int, horizon: int, windows: int, count: int
) -> None:
    series = [InputSeries(f"{k}", np.arange(1.0, length + 1), None, None) for k in range(count)]
    needed = (windows + 1) * horizon + SHORTEST_TRAINING
    if length < needed:
        with pytest.raises(InputError, match=f"each needs at least {needed} values"):
            split_in_time("x", series, horizon, windows, silent)
        return
    found = split_in_time("x", series, horizon, windows, silent)
    assert len(found.parts) == len(found.held_back) == count
    for part, trained in zip(found.parts, found.training.series, strict=True):
        assert part.test == length - windows * horizon
        whole, rest = divmod(part.test - part.train, horizon)
        assert (rest, whole >= 1) == (0, True)
        assert whole == 1 or whole * horizon <= part.test / 10
        assert len(trained.values) == part.train >= SHORTEST_TRAINING
    assert found.validation_windows <= max(count, 32 + count)


def test_few_series_are_validated_on_several_windows_and_many_on_one_each() -> None:
    assert split(wave("a", 5000)).validation_windows == 32
    assert split(*(wave("a" * k, 500) for k in range(1, 41))).validation_windows == 40


def test_series_too_short_are_left_out_and_named() -> None:
    notes: list[str] = []
    series = [
        wave("long"),
        wave("short", 19),
        wave("late", values=np.r_[np.full(110, np.nan), 1:11]),
    ]
    found = split_in_time("waves", series, HORIZON, 1, notes.append)
    assert [part.series.item_id for part in found.parts] == ["long"]
    assert notes == ["waves: left out, fewer than 20 values or too few observed: short, late"]


def test_a_file_too_short_says_how_many_values_a_series_needs() -> None:
    with pytest.raises(InputError) as error:
        split(wave("a", 19), wave("b", 12))
    assert "waves: no series is long enough: each needs at least 20 values" in str(error.value)
    assert "6 held back, 6 to validate on and 8 to train on; the longest has 19" in str(error.value)


def test_neither_training_nor_selection_sees_what_is_held_back(model: LagLlama) -> None:
    series = wave("a")
    changed = series.values.copy()
    changed[-HORIZON:] = 1e6
    results = [
        run_once(model, split(one), QUICK, context=None, tell=silent, progress=False)
        for one in (series, dataclasses.replace(series, values=changed))
    ]
    assert results[0].trials == results[1].trials
    first, second = (weights(result.best.model) for result in results)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_does_not_see_what_is_validated_on(model: LagLlama) -> None:
    series = wave("a")
    changed = series.values.copy()
    changed[-2 * HORIZON : -HORIZON] *= 1.001
    config = dataclasses.replace(QUICK, steps=4)  # one epoch: nothing to choose
    results = [
        fine_tune(model, split(one), config, progress=False)
        for one in (series, dataclasses.replace(series, values=changed))
    ]
    first, second = (weights(result.model) for result in results)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert results[0].wql != results[1].wql


def test_training_sees_all_values_before(model: LagLlama) -> None:
    series = wave("a", 40)
    changed = series.values.copy()
    changed[-2 * HORIZON - 1] += 3.0
    results = [
        fine_tune(model, split(one), dataclasses.replace(QUICK, steps=4), progress=False)
        for one in (series, dataclasses.replace(series, values=changed))
    ]
    first, second = (weights(result.model) for result in results)
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("head", "centre"),
    [
        ("studentT", {}),
        ("studentT", {"residual": True}),
        ("studentT", {"residual": True, "regression": True}),
        ("neg_bin", {}),
        ("mixtureT", {}),
    ],
)
def test_the_loss_is_what_a_backtest_of_the_exported_model_finds(
    export_to: Callable[[LagLlama, str], Path], head: str, centre: dict[str, bool]
) -> None:
    torch.manual_seed(2)
    model = LagLlama(dataclasses.replace(SPEC, head=head, num_covariates=1, **centre))
    model.initialise()
    model.eval()
    values = np.rint(wave("a", 400).values)
    values[[100, 386, 390]] = np.nan
    event = np.random.default_rng(0).random((400, 1))
    found = split(
        wave("a", values=values, covariates=event),
        wave("bb", 90, start=None, freq=None, covariates=event[:90]),
    )
    name = "_".join(["finetuning", head, *centre])
    forecaster = Forecaster.load(export_to(model, name), threads=1)
    errors = []
    for part in found.parts:
        timed = part.series.axis.start is not None
        assert part.series.covariates is not None
        for origin in range(part.train, part.test, HORIZON):
            forecast = forecaster.predict(
                part.series.values[:origin],
                horizon=HORIZON,
                start=part.series.axis.start if timed else None,
                freq="h" if timed else None,
                covariates=part.series.covariates.T[: origin + HORIZON],
                num_samples=20,
                seed=7,
            )
            actual = part.series.values[origin : origin + HORIZON].astype(float)
            quantiles = from_samples(forecast, levels_needed(DECILES))
            errors.append(window_errors(quantiles, actual, math.nan))
    assert len(errors) == found.validation_windows
    batches = SplitValidation(found, model.spec, model.spec.context_length, 3)
    loss = forecast_wql(model, batches.encoded, HORIZON, seed=7, paths=20)
    assert loss == pytest.approx(combine(errors).wql, rel=1e-3)


def test_a_forecast_that_is_not_finite_has_an_infinite_loss() -> None:
    torch.manual_seed(0)
    model = LagLlama(SPEC)
    with torch.no_grad():
        model.param_proj.proj[1].weight.fill_(1e38)
    batches = SplitValidation(split(), SPEC, 8, 4)
    assert forecast_wql(model, batches.encoded, HORIZON) == math.inf


def test_many_series_are_sampled_to_validate_on() -> None:
    found = split(*(wave("a" * k, 40) for k in range(1, 301)))
    batches = SplitValidation(found, SPEC, 8, 50)
    assert found.validation_windows == 300
    assert [len(windows) for windows in batches.windows] == [50, 50]


@pytest.mark.parametrize("context", [4, 8, 30])
def test_every_context_is_validated_on_the_same_values(context: int) -> None:
    found = split(wave("a", 300))
    batches = SplitValidation(found, SPEC, context, 4)
    seen = [batches[k].values[batches[k].weights > 0] for k in range(len(batches))]
    part = found.parts[0]
    np.testing.assert_array_equal(
        torch.cat(seen).numpy(), part.series.values[part.train : part.test]
    )


def test_fine_tuning_improves_the_validation_loss_and_leaves_the_base_alone(
    model: LagLlama,
) -> None:
    before = weights(model)
    config = dataclasses.replace(QUICK, steps=40, steps_per_epoch=10)
    outcome = run_once(model, split(), config, context=None, tell=silent, progress=False)
    assert outcome.improved
    assert outcome.best.wql < 0.7 * outcome.zero_shot.wql
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(model: LagLlama) -> None:
    first, again, other = (
        weights(fine_tune(model, split(), config, progress=False).model)
        for config in (QUICK, QUICK, dataclasses.replace(QUICK, seed=1))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_sample_paths_in_the_loss_move_the_weights_elsewhere(model: LagLlama) -> None:
    plain, with_paths = (
        weights(fine_tune(model, split(), config, progress=False).model)
        for config in (QUICK, dataclasses.replace(QUICK, rollout=0.5))
    )
    assert not any(torch.equal(plain[name], with_paths[name]) for name in plain)


@pytest.mark.parametrize(
    ("rule", "moved"),
    [
        ("none", ("transformer.",  "param_proj.")),
        ("head", ("transformer.ln_f.", "param_proj.")),
        ("last-1", ("transformer.h.2.", "transformer.ln_f.", "param_proj.")),
        ("last-2", ("transformer.h.1.", "transformer.h.2.", "transformer.ln_f.", "param_proj.")),
    ],
)  # fmt: skip
def test_frozen_weights_stay_to_the_bit_and_all_others_move(
    model: LagLlama, rule: str, moved: tuple[str, ...]
) -> None:
    config = dataclasses.replace(QUICK, freeze=rule, average=FineTuneConfig.average)
    trained = fine_tune(model, split(), config, progress=False).model
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]) != name.startswith(moved), name
    copy = with_context(model, 8)
    count = sum(p.numel() for name, p in copy.named_parameters() if name.startswith(moved))
    assert freeze(copy, rule) == count


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("tail", "freeze 'tail' is not known; one of: none, head, last-K"),
        ("last-", "freeze 'last-' is not known"),
        ("last-0", "freeze 'last-0': the model has 3 blocks; choose 1 to 3"),
        ("last-4", "freeze 'last-4': the model has 3 blocks; choose 1 to 3"),
    ],
)
def test_an_unknown_freeze_is_named(model: LagLlama, rule: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fine_tune(model, split(), dataclasses.replace(QUICK, freeze=rule), progress=False)


def test_weights_that_training_makes_worse_are_not_kept(model: LagLlama) -> None:
    good = fine_tune(
        model, split(), dataclasses.replace(QUICK, steps=40, steps_per_epoch=10), progress=False
    ).model
    harmful = dataclasses.replace(QUICK, learning_rate=0.5, average=0.0)
    told: list[str] = []
    outcome = run_once(good, split(), harmful, context=None, tell=told.append, progress=False)
    assert not outcome.improved
    assert outcome.best is outcome.zero_shot
    kept = weights(outcome.best.model)
    assert all(torch.equal(kept[name], tensor) for name, tensor in good.state_dict().items())
    assert [line.partition(":")[0] for line in told] == [
        "context 8, not trained",
        "context 8, learning rate 0.5, best of 8 steps",
    ]


def test_training_ends_once_the_loss_no_longer_improves(
    model: LagLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    from laglite_train import training

    build = training.ModelCheckpoint.on_validation_end

    def counted(self: Any, *arguments: Any) -> Any:
        seen.append(arguments[0].global_step)
        return build(self, *arguments)

    monkeypatch.setattr(training.ModelCheckpoint, "on_validation_end", counted)
    config = dataclasses.replace(QUICK, learning_rate=0.3, steps=400, patience=2, average=0.0)
    fine_tune(model, split(), config, progress=False)
    assert max(seen) < 200


def fake_losses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float, int]]:
    """Replace training by a loss that is lowest at context 16 and learning rate 1e-3."""
    runs: list[tuple[int, float, int]] = []

    def untrained(model: LagLlama, split: TimeSplit, context: int, _: FineTuneConfig) -> Candidate:
        return Candidate(with_context(model, context), 0.0, 0, 9 + abs(math.log2(context / 16)))

    def trained(
        model: LagLlama, split: TimeSplit, config: FineTuneConfig, *, progress: bool
    ) -> Candidate:
        rate, context = config.learning_rate, model.spec.context_length
        runs.append((context, rate, config.steps))
        if rate > 2e-3:
            raise LagliteError("the loss is not finite")
        loss = abs(math.log2(context / 16)) + abs(math.log10(rate / 1e-3)) - config.steps / 1e6
        return Candidate(model, rate, config.steps, loss)

    monkeypatch.setattr(finetuning_search, "as_it_came", untrained)
    monkeypatch.setattr(finetuning_search, "fine_tune", trained)
    return runs


def test_a_search_halves_its_runs_down_to_the_best(
    model: LagLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, told = fake_losses(monkeypatch), []
    outcome = search(
        model, split(), dataclasses.replace(QUICK, steps=400), contexts=(4, 8, 16, 32),
        learning_rates=(1e-4, 1e-3, 1e-2), tell=told.append, progress=False,
    )  # fmt: skip
    assert (outcome.best.context, outcome.best.learning_rate, outcome.best.steps) == (16, 1e-3, 400)
    assert outcome.zero_shot.context == 8
    assert {context for context, _, _ in runs} == {16, 8}  # where the untrained network is best
    assert [steps for _, _, steps in runs] == [50] * 6 + [200] * 2 + [400]
    assert len(outcome.trials) == len(told) == 4 + 9
    assert sum(math.isinf(trial.wql) for trial in outcome.trials) == 2
    assert "context 16, learning rate 0.01, 50 steps: the loss is not finite" in told


def test_a_last_run_that_diverges_costs_nothing_that_was_found_before(
    model: LagLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_losses(monkeypatch)
    trained = finetuning_search.fine_tune

    def diverging(
        model: LagLlama, split: TimeSplit, config: FineTuneConfig, *, progress: bool
    ) -> Candidate:
        if config.steps == 400:
            raise LagliteError("the loss is not finite")
        return trained(model, split, config, progress=progress)

    monkeypatch.setattr(finetuning_search, "fine_tune", diverging)
    outcome = search(
        model, split(), dataclasses.replace(QUICK, steps=400), contexts=(8, 16),
        learning_rates=(1e-4, 1e-3), tell=silent, progress=False,
    )  # fmt: skip
    assert (outcome.best.context, outcome.best.learning_rate, outcome.best.steps) == (16, 1e-3, 200)


def test_no_more_steps_are_taken_than_asked_for(model: LagLlama) -> None:
    config = dataclasses.replace(QUICK, steps=7, steps_per_epoch=4)
    assert fine_tune(model, split(), config, progress=False).steps == 4


def test_a_search_on_data_gives_the_same_model_again(model: LagLlama) -> None:
    config = dataclasses.replace(QUICK, steps=8)
    outcomes = [
        search(
            model, split(), config, contexts=(4, 8), learning_rates=(1e-3, 1e-2), tell=silent,
            progress=False,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert outcomes[0].trials == outcomes[1].trials
    best = outcomes[0].best
    assert best.wql == min(trial.wql for trial in outcomes[0].trials)
    assert best.model.spec == dataclasses.replace(SPEC, context_length=best.context)
    first, second = (weights(outcome.best.model) for outcome in outcomes)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_contexts_are_those_that_model_and_data_allow() -> None:
    assert allowed_contexts(SPEC, split(wave("a", 300))) == [8, 32]  # 64 + 6 - 1 is beyond 64
    assert allowed_contexts(SPEC, split(wave("a", 32))) == [8]
    large = dataclasses.replace(SPEC, max_context_length=2048)
    assert allowed_contexts(large, split(wave("a", 3000))) == [8, 32, 64, 128, 256, 512]


@pytest.mark.parametrize(
    ("context", "message"),
    [(0, "at least 1 token, not 0"), (60, "but this model has 64: shorten one of them")],
)
def test_a_context_beyond_the_model_is_refused(model: LagLlama, context: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_once(model, split(), QUICK, context=context, tell=silent, progress=False)
    check_context(SPEC, 59, HORIZON)
    check_context(dataclasses.replace(SPEC, rope_scaling="dynamic"), 60, HORIZON)


def test_windows_are_drawn_as_the_network_was_trained_before() -> None:
    record = {"sampling": {"short_history": 0.3, "calendar_dropout": 0.05, "horizon": 64}}
    found = inherited_sampling(SPEC, record)
    assert (found.short_history, found.calendar_dropout) == (0.3, 0.05)
    assert inherited_rollout({**record, "rollout": {"weight": 0.5, "begin": 0.2}}) == 0.5
    assert inherited_rollout(record) == inherited_rollout({"rollout": {"weight": "much"}}) == 0.0
    new = inherited_sampling(SPEC, {})
    assert (new.short_history, new.calendar_dropout) == (0.15, 0.15)
    published = inherited_sampling(
        dataclasses.replace(SPEC, history="zeros", calendar_optional=False), {"origin": "lag-llama"}
    )
    assert (published.short_history, published.calendar_dropout) == (0.0, 0.0)


def test_covariates_are_trained_on_and_must_be_those_of_the_model() -> None:
    event = (np.random.default_rng(5).random(126) < 0.4).astype(float)  # no past tells of it
    values = 10 + 4 * event[:120] + np.random.default_rng(0).normal(scale=0.1, size=120)
    series = wave("a", values=values, covariates=np.stack([event, event * 2], axis=1))
    found = split(series)
    with pytest.raises(InputError, match=r"series 'a': 2 covariates where the model has 0"):
        check_covariates(found, 0)
    with pytest.raises(InputError, match=r"series 'bb': 0 covariates where the model has 2"):
        check_covariates(split(wave("bb")), 2)
    check_covariates(found, 2)
    torch.manual_seed(1)
    model = LagLlama(dataclasses.replace(SPEC, num_covariates=2))
    model.initialise()
    config = dataclasses.replace(QUICK, steps=40, steps_per_epoch=10)
    blind = dataclasses.replace(series, covariates=np.zeros_like(series.covariates))
    losses = [fine_tune(model, split(one), config, progress=False).wql for one in (series, blind)]
    assert losses[0] < 0.8 * losses[1]


def test_values_beyond_single_precision_are_named() -> None:
    values = wave("a").values
    values[3] = 1e39
    with pytest.raises(InputError, match=r"'a': value 3 is 1e\+39, beyond what float32 can hold"):
        split(wave("a", values=values))


def test_rollouts_go_on_from_a_run_and_from_an_earlier_fine_tuning() -> None:
    assert inherited_rollout({"rollout": {"weight": 0.5}}) == 0.5
    assert inherited_rollout({"rollout": 0.5}) == 0.5
    assert inherited_rollout({"rollout": True, "data": []}) == inherited_rollout({}) == 0.0


def test_counts_cannot_be_learnt_from_negative_values() -> None:
    found = split(wave("a"), wave("b", values=wave("b").values - 100))
    check_counts(found, "studentT")
    with pytest.raises(InputError, match=r"waves, series 'b': negative values, where the model"):
        check_counts(found, "neg_bin")
