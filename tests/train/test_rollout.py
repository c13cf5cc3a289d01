"""Rollouts: decoding with gradients equals the teacher-forced network; the score is the CRPS."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis
from laglite_train.corpus import Series, SeriesSet
from laglite_train.draws import SamplingConfig
from laglite_train.model import LagLlama
from laglite_train.rollout import (
    PathDecoder,
    RolloutConfig,
    crps,
    rollout_losses,
    rollout_uniforms,
)
from laglite_train.windows import Batch, TrainingBatches

SPEC = ModelSpec(
    2, 2, 8, 16, (0, 1, 2, 5, 7), scaling="iqr", history="carry", context_length=12,
    max_context_length=64,
)  # fmt: skip
CONFIG = RolloutConfig(weight=1.0, steps=6, paths=4, windows=5)


def network(spec: ModelSpec = SPEC) -> LagLlama:
    torch.manual_seed(0)
    model = LagLlama(spec)
    model.initialise()
    return model


def batch_of(values: np.ndarray, spec: ModelSpec = SPEC, short: float = 0.5) -> Batch:
    """Windows of many lengths, so that prompts end at different places."""
    series = [Series("a", TimeAxis.of("2024-01-01", "h"), values.astype(np.float32))]
    config = SamplingConfig(horizon=8, context_lengths=(12,), short_history=short)
    batches = TrainingBatches(
        [SeriesSet("s", series)], spec, config, batch_size=CONFIG.windows, steps=range(1), seed=3
    )
    return batches[0]


def walk(length: int = 300) -> np.ndarray:
    return np.random.default_rng(0).normal(size=length).cumsum() + 20


def losses_of(model: LagLlama, batch: Batch, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    first, caches = model.with_caches(batch.tokens)
    return rollout_losses(model, batch, caches, first, uniforms)


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("seasons", [False, True])
@pytest.mark.parametrize("towers", [(), ((1, 6), (1, 10))])
def test_decoding_true_values_gives_the_teacher_forced_arguments(
    seasons: bool, regression: bool, towers: tuple[tuple[int, int], ...]
) -> None:
    spec = dataclasses.replace(
        SPEC, seasons=seasons, lags=(0, 1, 2, 5, 24 if seasons else 7), residual=regression,
        regression=regression, towers=towers,
    )  # fmt: skip
    model, batch = network(spec), batch_of(walk(), spec)
    assert len(set(batch.prompts.tolist())) > 1
    wanted, caches = model.with_caches(batch.tokens)
    decoder, draws = PathDecoder(model, batch, caches, paths=2), []
    truth, rows = (batch.values - batch.loc) / batch.scale, torch.arange(CONFIG.windows)
    complete = batch.weights.sum(1) == batch.prompts + 7
    assert int(complete.sum()) >= 3
    for step in range(6):
        place = batch.prompts + step
        draws.append(truth[rows, place - 1][:, None].expand(-1, 2))
        for name, got in decoder.step(step, draws).items():
            for path in range(2):
                torch.testing.assert_close(
                    got[complete, path], wanted[name][rows, place][complete], rtol=1e-4, atol=1e-5
                )


def test_a_path_depends_on_its_own_draws_alone() -> None:
    model, batch = network(), batch_of(walk())
    _, caches = model.with_caches(batch.tokens)
    draws = [torch.randn(CONFIG.windows, 3)]
    before = PathDecoder(model, batch, caches, 3).step(0, draws)
    draws[0][:, 1] += 1.0
    after = PathDecoder(model, batch, caches, 3).step(0, draws)
    torch.testing.assert_close(after["loc"][:, [0, 2]], before["loc"][:, [0, 2]])
    assert (after["loc"][:, 1] != before["loc"][:, 1]).all()


def test_the_score_of_many_paths_is_the_closed_form_crps_of_a_normal() -> None:
    """Gneiting & Raftery (2007), eq. 21."""
    torch.manual_seed(0)
    truth = torch.tensor([[-1.0, 0.0, 0.4, 3.0]], dtype=torch.float64)
    paths = torch.randn(1, 20_000, 4, dtype=torch.float64)
    y = truth.numpy()
    wanted = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(crps(paths, truth), wanted, atol=0.02)


def test_the_score_of_few_paths_is_unbiased() -> None:
    torch.manual_seed(0)
    few = crps(torch.randn(40_000, 2, 1), torch.full((40_000, 1), 0.5)).mean()
    many = crps(torch.randn(1, 40_000, 1), torch.full((1, 1), 0.5)).mean()
    assert abs(float(few - many)) < 0.02


def test_the_score_equals_its_definition_over_pairs() -> None:
    paths, truth = torch.randn(3, 5, 2), torch.randn(3, 2)
    pairs = (paths[:, :, None] - paths[:, None]).abs().sum((1, 2)) / (5 * 4)
    wanted = (paths - truth[:, None]).abs().mean(1) - pairs / 2
    torch.testing.assert_close(crps(paths, truth), wanted)


@pytest.mark.parametrize("regression", [False, True])
def test_the_gradient_of_the_loss_is_that_of_finite_differences(regression: bool) -> None:
    spec = dataclasses.replace(SPEC, residual=regression, regression=regression)
    model, batch = network(spec).double(), batch_of(walk(), spec, short=0.0)
    batch = Batch(*(part.double() if part.is_floating_point() else part for part in batch))
    uniforms = rollout_uniforms(CONFIG, 0, 0).double()

    def loss() -> Tensor:
        losses, seen = losses_of(model, batch, uniforms)
        return losses.sum() / seen.sum()

    weight = model.transformer["h"][0].mlp.c_fc1.weight
    (gradient,) = torch.autograd.grad(loss(), weight)
    step, direction = 1e-3, torch.randn_like(weight)
    with torch.no_grad():
        weight += step * direction
        above = loss()
        weight -= 2 * step * direction
        below = loss()
    wanted = float((above - below) / (2 * step))
    assert float((gradient * direction).sum()) == pytest.approx(wanted, rel=1e-2)


def test_uniforms_depend_on_seed_and_step_and_are_split_by_window() -> None:
    uniforms = rollout_uniforms(CONFIG, 1, 5)
    assert uniforms.shape == (6, 2, 5, 4)
    assert bool(((uniforms > 0) & (uniforms <= 1)).all())
    torch.testing.assert_close(uniforms, rollout_uniforms(CONFIG, 1, 5), rtol=0, atol=0)
    for other in (rollout_uniforms(CONFIG, 1, 6), rollout_uniforms(CONFIG, 2, 5)):
        assert not torch.equal(uniforms, other)
    model, batch = network(), batch_of(walk())
    whole, _ = losses_of(model, batch, uniforms)
    half = Batch(*(part[1::2] for part in batch))
    torch.testing.assert_close(losses_of(model, half, uniforms[:, :, 1::2])[0], whole[1::2])


def test_a_window_without_known_future_has_weight_zero() -> None:
    model, batch = network(), batch_of(walk())
    blank = batch._replace(weights=torch.zeros_like(batch.weights))
    losses, seen = losses_of(model, blank, rollout_uniforms(CONFIG, 0, 0))
    assert seen.sum() == losses.detach().sum() == 0


def test_windows_whose_paths_run_away_keep_finite_losses_and_gradients() -> None:
    model, batch = network(), batch_of(walk())
    with torch.no_grad():
        model.param_proj.proj[2].bias.fill_(50.0)
    losses, _ = losses_of(model, batch, rollout_uniforms(CONFIG, 0, 0))
    losses.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
