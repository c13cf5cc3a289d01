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
LEVELS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def distribution(head: str, score: Score) -> Any:
    """The next value's distribution in data units, from the scored arguments."""
    arguments = {name: float(values[0]) for name, values in score.params.items()}
    return reference(head, arguments, score.loc, score.scale)


@pytest.mark.parametrize("head", list(HEAD_ARGUMENTS))
def test_quantiles_of_one_step_at_a_hundred_thousand_paths_are_the_references(
    small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path], head: str
) -> None:
    scaling = "mean" if head == "neg_bin" else "iqr"
    torch.manual_seed(1)
    model = LagLlama(dataclasses.replace(small_spec, head=head, scaling=scaling))
    model.initialise()
    forecaster = Forecaster.load(export_to(model.eval(), f"sampling_{head}"))
    history = np.random.default_rng(0).poisson(20, 60).astype(float)
    times: dict[str, Any] = {"start": "2024-01-01", "freq": "D"}
    forecast = forecaster.predict(history, horizon=1, num_samples=PATHS, seed=5, **times)
    expected = distribution(head, forecaster.score(history, [20.0], **times))
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
