"""Known-future covariates: their units, their place in the tokens, and what is refused."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from laglite import Forecaster, LagliteWarning
from laglite.covariates import as_covariates, standardise
from laglite.errors import InputError
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_train.model import LagLlama

NAN = np.nan
TIMES: dict[str, Any] = {"start": "2024-01-01", "freq": "h"}
HISTORY = 60 + np.random.default_rng(0).standard_normal(50)


def noise(rows: int, columns: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((rows, columns)) * 3 + 40


@pytest.fixture(scope="module")
def spec(small_spec: ModelSpec) -> ModelSpec:
    return dataclasses.replace(small_spec, num_covariates=2)


@pytest.fixture(scope="module")
def forecaster(spec: ModelSpec, export_to: Callable[[LagLlama, str], Path]) -> Forecaster:
    """Random weights, of which those of the first covariate are large."""
    torch.manual_seed(1)
    model = LagLlama(spec)
    model.initialise()
    with torch.no_grad():
        model.transformer["wte"].weight[:, -2:] *= 5
    return Forecaster.load(export_to(model.eval(), "two_covariates"), threads=1)


@given(st.integers(2, 60), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_window_has_standard_units(rows: int, columns: int, seed: int) -> None:
    covariates = noise(rows + 5, columns, seed)
    units = standardise(covariates, 2, rows)
    if rows > 3:
        expected = stats.zscore(covariates[2:rows], axis=0)
        np.testing.assert_allclose(units[2:rows], np.clip(expected, -10, 10), atol=1e-4)
    assert (np.abs(units) <= 10).all()


def test_only_known_values_of_the_window_decide_the_units() -> None:
    covariates = noise(30, 2)
    gappy = covariates.copy()
    gappy[[3, 7], 0] = NAN
    units = standardise(gappy, 0, 20)
    expected = (covariates[:, 0] - np.nanmean(gappy[:20, 0])) / np.nanstd(gappy[:20, 0])
    expected[[3, 7]] = 0
    np.testing.assert_allclose(units[:, 0], expected, atol=1e-5)
    gappy[20:] = 1e6
    np.testing.assert_array_equal(standardise(gappy, 0, 20)[:20], units[:20])


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(0, 2**32 - 1))
def test_the_unit_of_a_covariate_does_not_matter(shift: float, unit: float, seed: int) -> None:
    covariates = np.random.default_rng(seed).standard_normal((20, 1))
    first, second = (standardise(c, 0, 15) for c in (covariates, shift + unit * covariates))
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.1, -7e5])
def test_a_covariate_constant_so_far_is_only_centred(level: float) -> None:
    covariates = np.full((12, 1), level)
    covariates[10:, 0] += [1, -30]
    units = standardise(covariates, 0, 10)
    np.testing.assert_allclose(units[:, 0], [0] * 10 + [1, -10], atol=1e-6)


def test_a_window_that_knows_no_covariate_leaves_them_as_they_are() -> None:
    units = standardise(np.array([[NAN], [NAN], [2.0], [NAN]]), 0, 2)
    assert units[:, 0].tolist() == [0, 0, 2, 0]


@pytest.mark.parametrize("rule", ["zeros", "carry"])
@pytest.mark.parametrize("length", [5, 100])
def test_each_token_carries_the_covariates_of_the_value_it_predicts(
    spec: ModelSpec, rule: str, length: int
) -> None:
    spec = dataclasses.replace(spec, history=rule)
    covariates = noise(length + 4, 2)
    prompt = encode(
        spec, np.arange(float(length)), TimeAxis(), 16, np.arange(3.0), covariates=covariates
    )
    window = covariates[max(0, length - 16 - spec.max_lag) : length]
    expected = (covariates - window.mean(axis=0)) / window.std(axis=0)
    inside = min(len(prompt.tokens), length + 3)
    np.testing.assert_allclose(prompt.tokens[-inside:, -2:], expected[-inside:], atol=1e-5)
    early = prompt.tokens[:-inside, -2:]  # the padding before the series
    np.testing.assert_allclose(early[-1:], expected[:1][: len(early)], atol=1e-5)
    assert not early[:-1].any()


def test_without_covariates_the_features_are_zero(spec: ModelSpec, small_spec: ModelSpec) -> None:
    tokens = encode(spec, HISTORY, TimeAxis.of(*TIMES.values()), 16).tokens
    assert not tokens[:, -2:].any()
    plain = encode(small_spec, HISTORY, TimeAxis.of(*TIMES.values()), 16).tokens
    np.testing.assert_array_equal(tokens[:, :-2], plain)


def test_forecasts_follow_the_covariates_from_their_own_step_on(forecaster: Forecaster) -> None:
    covariates = noise(len(HISTORY) + 6, 2)
    changed = covariates.copy()
    changed[len(HISTORY) + 3] += 9
    options: dict[str, Any] = {"horizon": 6, "seed": 0, "num_samples": 8, **TIMES}
    first, second = (
        forecaster.predict(HISTORY, covariates=c, **options).samples for c in (covariates, changed)
    )
    np.testing.assert_array_equal(first[:, :3], second[:, :3])
    assert (first[:, 3] != second[:, 3]).all()


def test_decoding_and_scoring_see_the_same_covariates(forecaster: Forecaster) -> None:
    """A path scored as observed values has the probabilities that its uniforms came from."""
    covariates = noise(len(HISTORY) + 5, 2)
    paths = forecaster.predict(
        HISTORY, horizon=5, covariates=covariates, num_samples=400, seed=2, **TIMES
    ).samples
    cdf = np.array(
        [forecaster.score(HISTORY, p, covariates=covariates, **TIMES).cdf for p in paths]
    )
    for step in range(5):
        assert stats.kstest(cdf[:, step], "uniform").pvalue > 1e-3


def test_a_batch_takes_covariates_for_each_series(forecaster: Forecaster) -> None:
    series = [HISTORY, HISTORY[:20]]
    known = [noise(len(one) + 3, 2, seed) for seed, one in enumerate(series)]
    options: dict[str, Any] = {"horizon": 3, "seed": 5, **TIMES}
    together = forecaster.predict_batch(series, covariates=known, **options)
    for one, covariates, forecast in zip(series, known, together, strict=True):
        alone = forecaster.predict(one, covariates=covariates, **options)
        np.testing.assert_array_equal(alone.samples, forecast.samples)
    with pytest.raises(InputError, match="covariates has 1 entries for 2 series"):
        forecaster.predict_batch(series, covariates=known[:1], **options)
    with pytest.raises(InputError, match=r"series 1: covariates: expected .* \[23, 2\]"):
        forecaster.predict_batch(series, covariates=[known[0], known[0]], **options)


def test_covariates_may_come_as_lists_frames_flags_or_with_gaps_in_the_past(
    forecaster: Forecaster,
) -> None:
    flags = np.random.default_rng(0).random((len(HISTORY) + 2, 2)) < 0.5
    options: dict[str, Any] = {"horizon": 2, "seed": 5, **TIMES}
    expected = forecaster.predict(HISTORY, covariates=flags.astype(float), **options).samples
    for kind in (flags, flags.tolist(), pd.DataFrame(flags, columns=["a", "b"]), flags * 1):
        given = forecaster.predict(HISTORY, covariates=kind, **options)
        np.testing.assert_array_equal(given.samples, expected)
    gappy: list[list[Any]] = flags.astype(float).tolist()
    gappy[40][1] = None
    masked = np.ma.masked_array(flags.astype(float), np.zeros_like(flags))
    masked[40, 1] = np.ma.masked
    first, second = (forecaster.predict(HISTORY, covariates=c, **options) for c in (gappy, masked))
    np.testing.assert_array_equal(first.samples, second.samples)
    assert not np.array_equal(first.samples, expected)


def test_a_model_that_misses_its_covariates_warns(forecaster: Forecaster) -> None:
    with pytest.warns(LagliteWarning, match="trained with 2 covariates; without them they are 0"):
        forecaster.predict(HISTORY, horizon=2, **TIMES)
    with pytest.warns(LagliteWarning, match="trained with 2 covariates"):
        forecaster.score(HISTORY, HISTORY[:3], **TIMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecaster.predict(HISTORY, horizon=2, covariates=noise(52, 2), **TIMES)


def test_a_model_without_covariates_refuses_them_by_name(tiny: Forecaster) -> None:
    with pytest.raises(InputError, match="the model 'lag_llama_tiny' was trained without any"):
        tiny.predict(HISTORY, horizon=2, covariates=noise(52, 1), **TIMES)
    with pytest.raises(InputError, match="was trained without any"):
        tiny.score(HISTORY, HISTORY[:2], covariates=noise(52, 1), **TIMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:-1], r"of shape \[52, 2\].* got shape \[51, 2\]"),
        (lambda c: c[:, :1], r"got shape \[52, 1\]"),
        (lambda c: c.T, r"got shape \[2, 52\]"),
        (lambda c: c[:, 0], r"got shape \[52\]"),
        (lambda c: [[1.0, 2.0], [1.0]], "a row for each of the 50 values of the history"),
        (lambda c: c.astype(str), "expected numbers .* got <U"),
        (lambda c: c.astype("datetime64[s]"), "got datetime64"),
        (lambda c: [[object(), 1]] * 52, "expected numbers"),
        (lambda c: 3.0, r"got shape \[\]"),
        (lambda c: np.where(np.arange(52)[:, None] == 4, np.inf, c), "covariate 0 of row 4 is inf"),
        (
            lambda c: np.where(np.arange(104).reshape(52, 2) == 103, NAN, c),
            "covariate 1 of row 51 is missing; the 2 rows after the history must be known",
        ),
    ],
)
def test_covariates_that_cannot_be_used_are_refused(
    change: Callable[[NDArray[Any]], Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"covariates: .*{message}"):
        as_covariates(change(noise(52, 2)), 2, 50, 2)
