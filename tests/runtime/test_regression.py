"""The regression on a series' own history, against least squares solved row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from laglite.lags import gather_lags
from laglite.regression import STRENGTHS, Regression, fit_regression
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode

LAGS = np.array([0, 1, 2, 3, 6, -1, 2])
SPEC = ModelSpec(
    1, 1, 4, 8, (0, 1, 2, 3, 6), scaling="iqr", history="carry", context_length=12,
    residual=True, regression=True,
)  # fmt: skip


def fit(values: NDArray[np.float64], tokens: int = 10, begin: int = 0) -> Regression:
    """Of a whole window, whose values before `begin` are padding; NaN where missing."""
    observed = ~np.isnan(values)
    observed[:begin] = False
    filled = values.copy()
    for place in np.flatnonzero(np.isnan(values)):
        filled[place] = filled[place - 1]
    scaled = filled.astype(np.float32)
    padded = np.concatenate([np.zeros(6, np.float32), scaled])
    return fit_regression(scaled, observed, LAGS, gather_lags(padded, LAGS, tokens))


def noise(length: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=length)


def recursion(length: int) -> NDArray[np.float64]:
    """x(t + 1) = 0.5 x(t) - 0.3 x(t - 2) + 0.3 x(t - 6) plus noise."""
    values, shocks = np.zeros(length), noise(length)
    for t in range(6, length - 1):
        values[t + 1] = 0.5 * values[t] - 0.3 * values[t - 2] + 0.3 * values[t - 6] + shocks[t]
    return values


def test_the_weights_of_a_linear_recursion_are_found() -> None:
    weights = fit(recursion(20_000)).weights
    np.testing.assert_allclose(weights, [0.5, 0, -0.3, 0, 0.3, 0, 0], atol=0.03)


def test_a_lag_that_is_absent_or_there_twice_has_no_weight() -> None:
    assert (fit(recursion(200)).weights[[5, 6]] == 0).all()


@pytest.mark.parametrize("gaps", [[], [20, 21, 75]])
def test_forecasts_within_the_history_are_those_of_fits_without_that_value(
    gaps: list[int],
) -> None:
    """By brute force: for each row and strength the ridge of all other rows."""
    values = recursion(85)
    values[gaps] = np.nan
    found = fit(values, tokens=16)
    filled = values.copy()
    for place in gaps:
        filled[place] = filled[place - 1]
    rows = [t for t in range(6, 84) if t + 1 not in gaps]
    x = np.array([[*(filled[t - lag] - filled[t] for lag in (1, 2, 3, 6)), -filled[t]]
                  for t in rows])  # fmt: skip
    y = np.array([filled[t + 1] - filled[t] for t in rows])
    unit = (x**2).sum() / x.shape[1]
    candidates = []
    for strength in STRENGTHS:
        left_out = np.empty(len(rows))
        for row in range(len(rows)):
            others = np.arange(len(rows)) != row
            gram = x[others].T @ x[others] + strength * unit * np.eye(5)
            left_out[row] = x[row] @ np.linalg.solve(gram, x[others].T @ y[others])
        candidates.append((np.abs(y - left_out).mean(), left_out))
    _, left_out = min(candidates, key=lambda pair: pair[0])
    gains = np.abs(y) - np.abs(y - left_out)
    sure = gains.mean() / stats.sem(gains, ddof=0)
    assert 1 < sure < 3  # the coefficients shrink, but not to nothing
    left_out *= (sure - 1) / 2
    assert found.error == pytest.approx(np.abs(y - left_out).mean(), rel=1e-4)
    assert found.naive == pytest.approx(np.abs(y).mean(), rel=1e-4)
    wanted = {t: filled[t] + change for t, change in zip(rows, left_out, strict=True)}
    for token, t in enumerate(range(69, 84)):
        if t in wanted:
            assert found.prompt[token] == pytest.approx(wanted[t], abs=1e-4)


@pytest.mark.parametrize(
    "values", [np.full(50, 3.0), np.arange(8.0) % 3, np.array([1.0]), np.array([1.0, np.nan, 2.0])]
)
def test_without_anything_to_learn_it_is_the_last_value(values: NDArray[np.float64]) -> None:
    found = fit(values, tokens=min(3, len(values)))
    np.testing.assert_array_equal(found.weights, [1, 0, 0, 0, 0, 0, 0])
    assert found.error == found.naive


def test_a_gain_that_may_be_chance_is_not_trusted() -> None:
    walk = noise(60, seed=4).cumsum()
    np.testing.assert_array_equal(fit(walk).weights, [1, 0, 0, 0, 0, 0, 0])


def test_what_lies_before_the_history_is_not_fitted_to() -> None:
    values = recursion(80)
    with_padding = fit(np.concatenate([np.zeros(30), values]), begin=30)
    np.testing.assert_array_equal(with_padding.weights, fit(values).weights)


def test_forecasts_go_beyond_the_history_by_its_range_at_most() -> None:
    found = fit(recursion(200))
    lags = np.zeros((2, len(LAGS)), np.float32)
    lags[:, 0] = 1e6, -1e6
    values = recursion(200).astype(np.float32)
    reach = values.max() - values.min()
    wanted = np.array([values.max() + reach, values.min() - reach])
    assert np.sign(found.weights[0]) == 1
    np.testing.assert_allclose(found.forecast(lags), wanted, rtol=1e-5)


def test_a_forecast_is_the_same_bits_in_any_batch() -> None:
    found = fit(recursion(200))
    lags = np.random.default_rng(1).normal(size=(101, len(LAGS))).astype(np.float32)
    together = found.forecast(lags)
    np.testing.assert_array_equal(found.forecast(np.asfortranarray(lags)), together)
    for row in range(0, 101, 20):
        assert found.forecast(lags[row : row + 1])[0] == together[row]


def test_tokens_hold_the_forecast_after_the_lags_and_the_errors_among_the_static_features() -> None:
    values = recursion(60) * 40 + 1000
    prompt = encode(SPEC, values[:50], TimeAxis(), 12, values[50:])
    found = prompt.regression
    assert found is not None
    tokens = prompt.tokens
    assert tokens.shape == (22, SPEC.num_features) == (22, 5 + 1 + 4 + 6)
    np.testing.assert_array_equal(tokens[:12, 5], found.prompt)
    np.testing.assert_array_equal(tokens[12:, 5], found.forecast(tokens[12:, :5]))
    np.testing.assert_array_equal(tokens[:, 8:10], np.tile(found.features, (22, 1)))
    alone = encode(SPEC, values[:50], TimeAxis(), 12)
    np.testing.assert_array_equal(alone.tokens, tokens[:12])


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_series_in_another_unit_has_the_same_regression(factor: float) -> None:
    values = recursion(60)
    one, other = (encode(SPEC, unit * values, TimeAxis(), 12).regression for unit in (1, factor))
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(other.weights, one.weights, atol=1e-3)


@given(
    st.lists(st.one_of(st.just(np.nan), st.floats(-1e30, 1e30)), min_size=1, max_size=60).filter(
        lambda values: not all(np.isnan(values))
    )
)
def test_tokens_of_any_series_are_finite(values: list[float]) -> None:
    prompt = encode(SPEC, np.array(values), TimeAxis(), 12)
    assert np.isfinite(prompt.tokens[:, : SPEC.num_past + 4]).all()
    assert prompt.regression is not None
    assert prompt.regression.error <= prompt.regression.naive * (1 + 1e-9)
