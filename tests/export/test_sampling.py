"""One forecast step of exported models against reference quantiles, for every head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laglite import Forecaster, Score
from laglite.spec import HEAD_ARGUMENTS, ModelSpec
from laglite_train.model import LagLlama
from tests.head_references import reference

PATHS = 100_000
HISTORY = np.random.default_rng(0).poisson(20, 60).astype(float)
TIMES: dict[str, Any] = {"start": "2024-01-01", "freq": "D"}
LEVELS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def distribution(head: str, score: Score) -> Any:
    """The next value's distribution in data units, from the scored arguments."""
    arguments = {name: float(values[0]) for name, values in score.params.items()}
    return reference(head, arguments, score.loc, score.scale)


@pytest.fixture(params=list(HEAD_ARGUMENTS))
def forecaster(
    request: pytest.FixtureRequest,
    small_spec: ModelSpec,
    export_to: Callable[[LagLlama, str], Path],
) -> Forecaster:
    """A small model with random weights, one for each head."""
    head = request.param
    scaling = "mean" if head == "neg_bin" else "iqr"
    torch.manual_seed(1)
    model = LagLlama(dataclasses.replace(small_spec, head=head, scaling=scaling))
    model.initialise()
    return Forecaster.load(export_to(model.eval(), f"sampling_{head}"))


def test_quantiles_of_one_step_at_a_hundred_thousand_paths_are_the_references(
    forecaster: Forecaster,
) -> None:
    head = forecaster.spec.head
    forecast = forecaster.predict(HISTORY, horizon=1, num_samples=PATHS, seed=5, **TIMES)
    expected = distribution(head, forecaster.score(HISTORY, [20.0], **TIMES))
    samples = forecast.samples[:, 0]
    for level in LEVELS:
        quantile = expected.ppf(level)
        target = expected.cdf(quantile)
        # The share of draws below a quantile is binomial: five standard deviations of it.
        margin = 5 * np.sqrt(target * (1 - target) / PATHS)
        assert np.mean(samples <= quantile + 1e-3) == pytest.approx(target, abs=margin + 1e-4)
    if head == "neg_bin":
        np.testing.assert_array_equal(samples, np.rint(samples))
        assert samples.min() >= 0


@pytest.mark.parametrize("threads", [2, 5, 23])
def test_samples_are_the_same_on_any_number_of_threads(
    forecaster: Forecaster, threads: int
) -> None:
    alone = Forecaster.load(forecaster.bundle.path, threads=1)
    other = Forecaster.load(forecaster.bundle.path, threads=threads)
    wanted, got = (
        f.predict(HISTORY, horizon=9, num_samples=23, seed=4, **TIMES) for f in (alone, other)
    )
    np.testing.assert_array_equal(got.samples, wanted.samples)


def test_nonnegative_samples_are_so_and_finite(forecaster: Forecaster) -> None:
    forecast = forecaster.predict(
        HISTORY - 19, horizon=12, num_samples=200, seed=2, nonnegative=True, **TIMES
    )
    assert forecast.samples.min() == 0
    assert np.isfinite(forecast.samples).all()


def test_scored_values_have_a_density_and_a_rising_distribution_function(
    forecaster: Forecaster,
) -> None:
    levels = [
        forecaster.score(HISTORY, [value], **TIMES).cdf[0]
        for value in (-1e3, 10.0, 20.0, 30.0, 1e3)
    ]
    assert np.all(np.diff(levels) > 0)
    assert levels[0] < 0.01
    assert levels[-1] > 0.99
    score = forecaster.score(HISTORY, [20.0, np.nan, 18.0], **TIMES)
    assert np.isfinite(score.log_prob).tolist() == [True, False, True]
    assert tuple(score.params) == forecaster.spec.arguments
