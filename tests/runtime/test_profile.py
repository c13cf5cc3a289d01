"""Loss by step, central intervals and PIT, beside the metrics and counts made one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from laglite.evaluation.backtest import NAIVE, NAIVE_POINT, compare
from laglite.evaluation.metrics import DECILES, INTERVALS, QuantileForecast, levels_needed
from laglite.evaluation.profile import CENTRAL, PIT_EDGES, PROFILE_LEVELS, Profile, profile_of
from laglite.evaluation.windows import Window

LEVELS = tuple(sorted({*PROFILE_LEVELS, *levels_needed(DECILES)}))
HORIZON = 6


def from_distribution(quantile: np.ndarray) -> QuantileForecast:
    """A forecast of one distribution at every step."""
    values = np.tile(np.asarray(quantile, np.float64)[:, None], (1, HORIZON))
    return QuantileForecast(LEVELS, values, values[0])


NORMAL = from_distribution(stats.norm.ppf(LEVELS))


def some_windows(count: int, missing: float = 0.2) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    actuals = rng.standard_normal((count, HORIZON))
    actuals[rng.random(actuals.shape) < missing] = np.nan
    return list(actuals)


def test_each_step_has_the_loss_of_its_own_values() -> None:
    actuals = some_windows(9)
    profile = profile_of([NORMAL] * 9, actuals, DECILES)
    for step, column in enumerate(np.transpose(actuals)):
        known = column[~np.isnan(column)]
        loss = sum(
            2 * max(level * (y - q), (level - 1) * (y - q)) / 9
            for y in known
            for level, q in zip(DECILES, stats.norm.ppf(DECILES), strict=True)
        )
        assert profile.values[step] == len(known)
        np.testing.assert_allclose(profile.wql_by_step[step], loss / np.abs(known).sum())


def test_profiles_agree_with_the_metrics_of_the_same_backtest() -> None:
    rng = np.random.default_rng(2)
    windows = [
        Window(str(row), rng.standard_normal(50), actual, None, None, 7)
        for row, actual in enumerate(some_windows(70))
    ]
    result = compare(windows, {"normal": lambda some, levels: [
        QuantileForecast(tuple(levels), np.tile(stats.norm.ppf(levels)[:, None], HORIZON),
                         np.zeros(HORIZON)) for _ in some]})  # fmt: skip
    assert list(result.profiles) == ["normal", NAIVE, NAIVE_POINT]
    for method, profile in result.profiles.items():
        metrics = result.overall[method]
        mean = np.average(profile.wql_by_step, weights=profile.magnitude)
        np.testing.assert_allclose(mean, metrics.wql)
        assert sum(profile.values) == metrics.values
        for interval in INTERVALS:
            assert profile.coverage[interval] == metrics.coverage[interval]
        np.testing.assert_allclose(sum(profile.pit), metrics.values)


def test_each_value_is_counted_in_the_bin_between_its_quantiles() -> None:
    actuals = some_windows(50)
    profile = profile_of([NORMAL] * 50, actuals, DECILES)
    there = np.concatenate(actuals)
    probabilities = stats.norm.cdf(there[~np.isnan(there)])
    expected, _ = np.histogram(probabilities, np.linspace(0, 1, 21))
    np.testing.assert_array_equal(profile.pit, expected)
    for percent, (low, high) in CENTRAL.items():
        inside = ((low <= probabilities) & (probabilities <= high)).mean()
        np.testing.assert_allclose(profile.coverage[percent], inside, err_msg=str(percent))


@pytest.mark.parametrize("rate", [0.3, 1.5, 6.0])
def test_counts_from_their_own_distribution_give_a_nearly_level_pit(rate: float) -> None:
    forecast = from_distribution(stats.poisson.ppf(LEVELS, rate))
    shares = np.zeros(len(PIT_EDGES) + 1)
    for count in range(40):
        one = profile_of([forecast], [np.full(HORIZON, float(count))], DECILES)
        shares += stats.poisson.pmf(count, rate) * np.array(one.pit_shares)
    np.testing.assert_allclose(shares, 0.05, atol=0.03)  # half a bin at its ends


def test_a_certain_forecast_that_comes_true_has_a_level_pit() -> None:
    certain = from_distribution(np.full(len(LEVELS), 3.0))
    profile = profile_of([certain], [np.full(HORIZON, 3.0)], DECILES)
    np.testing.assert_allclose(profile.pit_shares, 0.05)
    below = profile_of([certain], [np.full(HORIZON, 2.0)], DECILES)
    assert below.pit_shares == (1.0, *[0.0] * 19)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(1, 7))
def test_parts_add_up_to_the_whole(values: list[int], cut: int) -> None:
    forecast = from_distribution(stats.poisson.ppf(LEVELS, 1.0))
    actuals = [np.full(HORIZON, float(value)) for value in values]
    whole = profile_of([forecast] * len(actuals), actuals, DECILES)
    parts = [some for some in (actuals[:cut], actuals[cut:]) if some]
    profiles = [profile_of([forecast] * len(some), some, DECILES) for some in parts]
    total: Profile = profiles[0] if len(profiles) == 1 else profiles[0] + profiles[1]
    for name in ("values", "magnitude", "loss", "inside", "pit"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), atol=1e-12)
    assert total.as_one_step().values == (sum(whole.values),)
    np.testing.assert_allclose(total.as_one_step().loss, sum(whole.loss))


def test_the_loss_of_a_step_of_zeros_is_undefined() -> None:
    profile = profile_of([NORMAL], [np.array([0.0, 1, 1, np.nan, 1, 1])], DECILES)
    np.testing.assert_array_equal(np.isnan(profile.wql_by_step), [1, 0, 0, 1, 0, 0])
