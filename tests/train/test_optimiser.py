"""The optimiser: which weights it updates how, the state it keeps, the course of its rates."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from laglite.spec import ModelSpec
from laglite_train.model import LagLlama
from laglite_train.optimiser import (
    BETAS,
    MatrixAndRest,
    OptimiserConfig,
    build_optimiser,
    rate_factor,
)

SPEC = ModelSpec(2, 2, 4, 8, (0, 1, 2, 5), context_length=8, max_context_length=64)
MUON = OptimiserConfig(name="muon", warmup_steps=4)


def fresh_model() -> LagLlama:
    torch.manual_seed(0)
    model = LagLlama(SPEC)
    model.initialise()
    return model


def give_gradients(model: LagLlama, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(model: LagLlama) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def named_groups(model: LagLlama, optimiser: torch.optim.Optimizer) -> list[tuple[set[str], Any]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        ({names[id(parameter)] for parameter in group["params"]}, group)
        for group in optimiser.param_groups
    ]


def test_adamw_decays_matrices_and_spares_vectors() -> None:
    model = fresh_model()
    config = OptimiserConfig(learning_rate=0.004, weight_decay=0.3)
    (matrices, first), (vectors, second) = named_groups(model, build_optimiser(model, config))
    shapes = {name: parameter.dim() for name, parameter in model.named_parameters()}
    assert matrices == {name for name, dims in shapes.items() if dims == 2}
    assert vectors == {name for name, dims in shapes.items() if dims == 1}
    assert (first["weight_decay"], second["weight_decay"]) == (0.3, 0.0)
    assert first["lr"] == second["lr"] == 0.004


def test_muon_takes_all_matrices_but_the_heads_and_adamw_the_rest() -> None:
    model = fresh_model()
    optimiser = build_optimiser(model, MUON)
    assert isinstance(optimiser, MatrixAndRest)
    (inner, first), (outer, _), (vectors, _) = named_groups(model, optimiser)
    assert all(name.startswith("transformer.") for name in inner)
    assert len(inner) == 6 * SPEC.num_layers + 1
    assert "transformer.wte.weight" in inner
    assert outer == {f"param_proj.proj.{k}.weight" for k in range(3)}
    assert inner | outer | vectors == {name for name, _ in model.named_parameters()}
    assert first["lr"] == MUON.matrix_learning_rate


def test_frozen_weights_stay_and_a_head_alone_needs_no_muon() -> None:
    model = fresh_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("param_proj" in name)
    optimiser = build_optimiser(model, MUON)
    assert isinstance(optimiser, torch.optim.AdamW)
    trained = {name for names, _ in named_groups(model, optimiser) for name in names}
    assert trained == {name for name, _ in model.named_parameters() if "param_proj" in name}


def test_both_parts_update_as_torchs_own_optimisers_side_by_side() -> None:
    one, two = fresh_model(), fresh_model()
    together = build_optimiser(one, MUON)
    named = dict(two.named_parameters())
    inner = [p for name, p in named.items() if p.dim() == 2 and "param_proj" not in name]
    rest = [
        {"params": [p for name, p in named.items() if p.dim() == 2 and "param_proj" in name],
         "weight_decay": MUON.weight_decay},
        {"params": [p for p in named.values() if p.dim() == 1], "weight_decay": 0.0},
    ]  # fmt: skip
    apart = [
        torch.optim.Muon(inner, lr=MUON.matrix_learning_rate, weight_decay=MUON.weight_decay),
        torch.optim.AdamW(rest, lr=MUON.learning_rate, betas=BETAS),
    ]
    for step in range(3):
        for model in (one, two):
            give_gradients(model, step)
        together.step()
        for part in apart:
            part.step()
    assert_equal(weights(one), weights(two))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_saved_and_restored_optimiser_goes_on_to_the_last_bit(name: str) -> None:
    config = OptimiserConfig(name=name, warmup_steps=4)

    def steps(model: LagLlama, optimiser: Any, schedule: Any, places: range) -> None:
        for step in places:
            give_gradients(model, step)
            optimiser.step()
            schedule.step()

    def fresh() -> tuple[LagLlama, Any, Any]:
        model = fresh_model()
        optimiser = build_optimiser(model, config)
        return (
            model,
            optimiser,
            torch.optim.lr_scheduler.LambdaLR(optimiser, rate_factor(config, 20)),
        )

    whole, first = fresh(), fresh()
    steps(*whole, range(8))
    steps(*first, range(3))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    second = fresh()
    for part, state in zip(second, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    steps(*second, range(3, 8))
    assert_equal(weights(second[0]), weights(whole[0]))
    rates = [[group["lr"] for group in run[1].param_groups] for run in (second, whole)]
    assert rates[0] == rates[1]


def test_a_schedule_moves_the_rates_of_both_parts() -> None:
    model = fresh_model()
    optimiser = build_optimiser(model, MUON)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 / (1 + step))
    give_gradients(model, 0)
    optimiser.step()
    schedule.step()
    assert isinstance(optimiser, MatrixAndRest)
    rates = [[group["lr"] for group in part.param_groups] for part in optimiser.parts]
    assert rates == [
        [MUON.matrix_learning_rate / 2],
        [MUON.learning_rate / 2, MUON.learning_rate / 2],
    ]


def test_a_closure_is_evaluated_with_gradients_once() -> None:
    model, calls = fresh_model(), []

    def closure() -> float:
        calls.append(torch.is_grad_enabled())
        give_gradients(model, 0)
        return 3.0

    assert build_optimiser(model, MUON).step(closure) == 3.0
    assert calls == [True]


def test_the_rate_warms_up_linearly_and_falls_along_torchs_cosine() -> None:
    config = OptimiserConfig(warmup_steps=10, final_share=0.1)
    factor = rate_factor(config, 110)
    assert [factor(step) for step in range(10)] == pytest.approx([k / 10 for k in range(1, 11)])
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 100, eta_min=0.1)
    for step in range(10, 111):
        assert factor(step) == pytest.approx(cosine.get_last_lr()[0], rel=1e-6), step
        optimiser.step()
        cosine.step()
    assert factor(500) == pytest.approx(0.1)


@pytest.mark.parametrize("decay_share", [0.25, 0.5])
def test_the_rate_may_stay_before_it_falls_in_the_last_share_of_the_steps(
    decay_share: float,
) -> None:
    config = OptimiserConfig(warmup_steps=10, decay_share=decay_share)
    factor, decay = rate_factor(config, 110), round(100 * decay_share)
    assert {factor(step) for step in range(10, 111 - decay)} == {1.0}
    assert factor(110 - decay // 2) == pytest.approx(0.5, abs=0.04)
    assert factor(110) == pytest.approx(0.0)


def test_a_run_may_have_no_warm_up_or_nothing_else() -> None:
    assert rate_factor(OptimiserConfig(warmup_steps=0), 10)(0) == 1.0
    assert rate_factor(OptimiserConfig(warmup_steps=10), 5)(4) == 0.5
