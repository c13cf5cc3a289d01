"""Refined forecasts: true paths, and quantiles of what every path's distribution was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from laglite import Forecast, Forecaster
from laglite.heads import HEADS
from laglite.spec import ModelSpec
from laglite_train.model import LagLlama

DECILES = np.arange(1, 10) / 10


@pytest.fixture(scope="module")
def nano() -> Forecaster:
    return Forecaster.load("nano", threads=1)


def deciles(forecast: Forecast) -> np.ndarray:
    return np.stack([forecast.quantile(level) for level in DECILES])


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    return 50 + np.random.default_rng(5).normal(size=300).cumsum()


@pytest.fixture(scope="module")
def many(nano: Forecaster, walk: np.ndarray) -> Forecast:
    """Independent paths enough to know the distribution."""
    return nano.predict(walk, horizon=12, num_samples=8000, seed=99, refine=False)


def error(forecast: Forecast, known: Forecast) -> float:
    """Root mean square of the deciles' errors over the 80 % interval's width."""
    truth = deciles(known)
    return float(np.sqrt(np.mean(((deciles(forecast) - truth) / (truth[-1] - truth[0])) ** 2)))


def test_a_quarter_of_the_paths_gives_better_quantiles(
    nano: Forecaster, walk: np.ndarray, many: Forecast
) -> None:
    def typical(paths: int, refine: bool) -> float:
        errors = [
            error(nano.predict(walk, horizon=12, num_samples=paths, seed=seed, refine=refine), many)
            for seed in range(12)
        ]
        return float(np.sqrt(np.mean(np.square(errors))))

    assert typical(25, refine=True) < typical(100, refine=False)
    assert typical(100, refine=True) < 0.6 * typical(100, refine=False)


def test_the_first_steps_marginals_are_the_heads_distribution(
    nano: Forecaster, walk: np.ndarray
) -> None:
    forecast = nano.predict(walk, horizon=1, seed=0)
    score = nano.score(walk, [0.0])
    params = {name: float(values[0]) for name, values in score.params.items()}
    law = stats.t(
        params["df"], score.loc + score.scale * params["loc"], score.scale * params["scale"]
    )
    np.testing.assert_allclose(deciles(forecast)[:, 0], law.ppf(DECILES), atol=0.03 * law.std())
    assert forecast.mean[0] == pytest.approx(law.mean(), abs=0.03 * law.std())


def test_paths_are_true_joint_draws(nano: Forecaster, walk: np.ndarray, many: Forecast) -> None:
    """What depends on several steps of a path has the distribution it has in independent ones."""
    samples = np.concatenate(
        [nano.predict(walk, horizon=12, num_samples=50, seed=seed).samples for seed in range(40)]
    )
    for feature in (lambda s: s.sum(axis=1), lambda s: np.diff(s, axis=1).max(axis=1)):
        assert stats.ks_2samp(feature(samples), feature(many.samples)).pvalue > 1e-3


def test_marginals_and_samples_agree(nano: Forecaster, walk: np.ndarray) -> None:
    forecast = nano.predict(walk, horizon=12, num_samples=400, seed=1)
    assert forecast.marginals is not None
    assert forecast.marginals.shape == (12, 400 * HEADS["studentT"].fine_draws)
    spread = np.diff(np.quantile(forecast.samples, [0.1, 0.9], axis=0), axis=0)[0]
    for level in (0.1, 0.5, 0.9):
        rough = np.quantile(forecast.samples, level, axis=0)
        np.testing.assert_allclose(forecast.quantile(level), rough, atol=0.12 * spread.max())
    np.testing.assert_allclose(
        forecast.quantile(0.3), np.quantile(forecast.marginals, 0.3, axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(forecast.mean, forecast.marginals.mean(axis=1), rtol=1e-5)
    assert (forecast.interval(0.8)[0] < forecast.median).all()


def test_unrefined_forecasts_are_of_independent_paths_alone(
    nano: Forecaster, walk: np.ndarray
) -> None:
    forecast = nano.predict(walk, horizon=3, num_samples=20, seed=1, refine=False)
    assert forecast.marginals is None
    np.testing.assert_allclose(
        forecast.quantile(0.25), np.quantile(forecast.samples, 0.25, axis=0), rtol=1e-6
    )
    (same,) = nano.predict_batch([walk], horizon=3, num_samples=20, seed=1, refine=False)
    np.testing.assert_array_equal(same.samples, forecast.samples)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_change_neither_quantiles_nor_mean(threads: int, walk: np.ndarray) -> None:
    one, more = (
        Forecaster.load("nano", threads=count).predict(walk, horizon=6, num_samples=120, seed=2)
        for count in (1, threads)
    )
    np.testing.assert_array_equal(one.samples, more.samples)
    np.testing.assert_array_equal(deciles(one), deciles(more))
    np.testing.assert_array_equal(one.mean, more.mean)


def test_nonnegative_quantiles_are_not_below_zero(nano: Forecaster) -> None:
    demand = np.where(np.arange(80) % 4 == 0, 3.0, 0.0)
    free = nano.predict(demand, horizon=5, seed=0)
    floored = nano.predict(demand, horizon=5, seed=0, nonnegative=True)
    assert free.quantile(0.01).min() < 0
    assert floored.quantile(0.01).min() >= 0
    assert floored.marginals is not None
    assert floored.marginals.min() == 0


@pytest.mark.parametrize("head", ["normal", "mixtureT", "spline"])
def test_every_cheap_head_is_refined(
    export_to: Callable[[LagLlama, str], Path], head: str, walk: np.ndarray
) -> None:
    forecaster = Forecaster.load(export_to(network(head), f"refined_{head}"), threads=1)
    assert HEADS[head].fine_draws > 1
    rough = forecaster.predict(walk, horizon=2, num_samples=3000, seed=4, refine=False)
    fine = forecaster.predict(walk, horizon=2, num_samples=60, seed=3)
    assert fine.marginals is not None
    assert error(fine, rough) < 0.05


def test_counts_keep_the_draws_of_their_paths(
    export_to: Callable[[LagLlama, str], Path],
) -> None:
    forecaster = Forecaster.load(export_to(network("neg_bin"), "refined_counts"), threads=1)
    forecast = forecaster.predict(np.arange(60.0) % 7, horizon=2, num_samples=40, seed=3)
    assert forecast.marginals is None
    np.testing.assert_array_equal(forecast.samples, np.rint(forecast.samples))


def network(head: str) -> LagLlama:
    torch.manual_seed(1)
    model = LagLlama(
        ModelSpec(
            1, 2, 8, 16, (0, 1, 2, 7), head=head, scaling="mean" if head == "neg_bin" else "iqr",
            history="zeros" if head == "neg_bin" else "carry", context_length=16,
            calendar_optional=True,
        )
    )  # fmt: skip
    model.initialise()
    return model.eval()
