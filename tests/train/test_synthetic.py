"""Synthetic series: each family has the properties it is named for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import lfilter

from laglite.errors import FrequencyError, InputError
from laglite.frequency import parse_frequency
from laglite_train.synthetic import (
    FAMILIES,
    SyntheticConfig,
    TimeGrid,
    activity,
    demand,
    draw_series,
    draw_start,
    economic,
    observation,
    signals,
    structural,
)
from laglite_train.synthetic import gaussian_process as gp
from laglite_train.synthetic import stochastic_paths as paths
from laglite_train.synthetic.mixture import record
from laglite_train.synthetic.time_grid import draw_period

Array = NDArray[np.float64]
FREQUENCIES = ["10s", "min", "15min", "h", "D", "B", "W", "MS", "ME", "QS", "YE", "2YS"]
CLEAN = SyntheticConfig(positive=0, rounded=0, outliers=0, stuck=0, missing=0)


def grid_of(freq: str, length: int, start: str = "2021-01-01") -> TimeGrid:
    return TimeGrid(length, parse_frequency(freq), np.datetime64(start, "us"))


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([seed]) for seed in range(count)]


# The mixture


@given(
    st.integers(0, 2**32 - 1),
    st.integers(8, 700),
    st.sampled_from(FREQUENCIES),
)
@settings(max_examples=100, deadline=None)
def test_a_draw_is_finite_or_missing_never_empty_and_repeats(
    seed: int, length: int, freq: str
) -> None:
    values, again = (draw_series(np.random.default_rng(seed), length, freq) for _ in range(2))
    assert values.dtype == np.float32
    assert values.shape == (length,)
    assert not np.isinf(values).any()
    assert not np.isnan(values).all()
    np.testing.assert_array_equal(values, again)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("freq", ["15min", "D", "MS", "YS"])
def test_every_family_moves_and_is_finite_without_imperfections(family: str, freq: str) -> None:
    constant = 0
    for random in generators(20):
        freq_ = parse_frequency(freq)
        grid = TimeGrid(300, freq_, draw_start(random, freq_))
        values = record(random, FAMILIES[family](random, grid), family, CLEAN)
        assert np.isfinite(values).all()
        constant += values.min() == values.max()
    assert constant <= 4


def test_families_have_equal_shares_and_economics_need_steps_of_a_day() -> None:
    np.testing.assert_allclose(SyntheticConfig().probabilities(grid_of("D", 10)), 1 / 8)
    hourly = SyntheticConfig().probabilities(grid_of("h", 10))
    assert hourly[list(FAMILIES).index("economic")] == 0
    np.testing.assert_allclose(np.delete(hourly, list(FAMILIES).index("economic")), 1 / 7)


def test_a_weight_of_0_leaves_a_family_out() -> None:
    only = dict.fromkeys(FAMILIES, 0.0) | {"demand": 2.0}
    config = SyntheticConfig(**only, missing=0)
    for random in generators(20):
        values = draw_series(random, 100, "D", config=config)
        np.testing.assert_array_equal(values, np.round(values))


def test_missing_values_are_drawn_in_the_share_asked_for() -> None:
    config = SyntheticConfig(missing=0.5)
    gaps = [
        np.isnan(draw_series(random, 200, "D", config=config)).any() for random in generators(200)
    ]
    assert 0.35 < np.mean(gaps) < 0.6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"demand": -1.0}, "synthetic.demand must be a weight of at least 0, not -1.0"),
        ({"signals": float("nan")}, "synthetic.signals must be a weight"),
        ({"missing": 1.5}, "synthetic.missing must be a share from 0 to 1, not 1.5"),
        ({name: 0.0 for name in FAMILIES if name != "economic"}, "at least one family"),
    ],
)
def test_impossible_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SyntheticConfig(**values)


def test_too_short_a_length_or_an_unknown_frequency_is_refused() -> None:
    with pytest.raises(InputError, match="at least 8, not 7"):
        draw_series(np.random.default_rng(0), 7, "D")
    with pytest.raises(FrequencyError, match="'fortnight' is not known"):
        draw_series(np.random.default_rng(0), 70, "fortnight")


# The calendar


@pytest.mark.parametrize(
    "freq",
    ["30s", "15min", "6h", "D", "B", "W", "W-WED", "MS", "ME", "QS", "QE", "QE-JAN", "QS-FEB",
     "YS", "YE", "YE-JUN", "YS-APR"],
)  # fmt: skip
def test_starts_lie_on_the_grid_that_pandas_has_for_the_frequency(freq: str) -> None:
    offset = pd.tseries.frequencies.to_offset(freq)
    for random in generators(50):
        start = pd.Timestamp(draw_start(random, parse_frequency(freq)))
        assert 1949 <= start.year <= 2025
        if isinstance(offset, pd.tseries.offsets.Tick):
            assert start == start.floor("D" if freq == "D" else freq)
        else:
            assert offset.is_on_offset(start)
            assert start == start.normalize()


@pytest.mark.parametrize(
    ("freq", "periods"),
    [
        ("min", [60, 1440, 10080]),
        ("15min", [96, 672, 2922]),
        ("h", [24, 168, 730.5, 8766]),
        ("6h", [4, 28, 121.75, 1461]),
        ("D", [7, 30.4375, 365.25]),
        ("B", [5, 22, 261]),
        ("W", [4.348, 52.179]),
        ("MS", [12]),
        ("QS", [4]),
        ("YS", []),
    ],
)
def test_natural_periods_of_a_frequency(freq: str, periods: list[float]) -> None:
    grid = grid_of(freq, 20_000)
    np.testing.assert_allclose(grid.periods, periods, rtol=1e-3)
    if periods:
        assert grid.period_weights.sum() == pytest.approx(1.0)


def test_periods_are_natural_in_most_draws_and_exist_for_years_too() -> None:
    draws = [draw_period(random, grid_of("MS", 200)) for random in generators(400)]
    assert 0.78 < np.mean([period == 12 for period in draws]) < 0.92
    assert all(3 <= draw_period(random, grid_of("YS", 60)) <= 20 for random in generators(50))


def test_weekends_and_hours_are_those_of_the_calendar() -> None:
    grid = grid_of("7h", 200, "2019-12-28 03:00")
    expected = [time.astype(datetime) for time in grid.times]
    np.testing.assert_array_equal(grid.is_weekend, [time.weekday() >= 5 for time in expected])
    np.testing.assert_array_equal(grid.hour, [time.hour for time in expected])
    days = [(time - datetime(time.year, 1, 1)).total_seconds() / 86400 for time in expected]
    np.testing.assert_allclose(grid.year_fraction, np.array(days) / 365.25, rtol=1e-9)


# Building blocks


@given(st.integers(1, 100_000))
def test_fast_lengths_are_not_below_and_have_small_factors(length: int) -> None:
    size = paths.fast_length(length)
    assert length <= size < 1.34 * length + 1
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    assert size == 1


def test_the_filter_on_the_circle_is_the_recursive_filter() -> None:
    noise = np.zeros(512)
    noise[300:] = np.random.default_rng(0).standard_normal(212)
    numerator, denominator = np.array([1.0, 0.4]), np.array([1.0, -1.2, 0.5])
    expected = lfilter(numerator, denominator, noise)
    np.testing.assert_allclose(
        paths.filtered(noise, numerator, denominator, 212), expected[300:], atol=1e-10
    )


def test_an_autoregression_has_its_coefficient_and_unit_variance() -> None:
    path = paths.autoregression(np.random.default_rng(0), 60_000, 0.8)
    assert path.var() == pytest.approx(1.0, abs=0.05)
    assert np.corrcoef(path[1:], path[:-1])[0, 1] == pytest.approx(0.8, abs=0.01)


def test_profiles_repeat_with_their_period_and_have_about_unit_variance() -> None:
    cycles = np.arange(240) / 24
    draws = np.array([paths.harmonic_profile(r, cycles, 5, 1.0) for r in generators(400)])
    np.testing.assert_allclose(draws[:, :24], draws[:, 24:48], atol=1e-9)
    assert draws.var() == pytest.approx(1.0, abs=0.1)
    table = paths.table_profile(np.random.default_rng(0), np.arange(70.0), 7)
    np.testing.assert_array_equal(table[:7], table[63:])


# Gaussian processes


def dense(kernel: gp.Kernel, length: int) -> Array:
    """The covariance matrix that the terms of a kernel stand for. [length, length]."""
    position = np.linspace(0.0, 1.0, length)
    lag = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    product = np.multiply.outer(position, position)
    terms = [product**power * term[lag] for power, term in enumerate(kernel.terms)]
    return np.sum(terms, axis=0)


def test_kernels_are_their_formulas() -> None:
    lags = np.arange(50.0)
    (sine,) = gp.periodic(lags, 12.0, 0.7).terms
    np.testing.assert_allclose(sine, np.exp(-2 * np.sin(np.pi * lags / 12) ** 2 / 0.7**2))
    (squared,) = gp.squared_exponential(lags, 9.0).terms
    np.testing.assert_allclose(squared, np.exp(-(lags**2) / (2 * 9.0**2)))
    (quadratic,) = gp.rational_quadratic(lags, 9.0, 1e8).terms
    np.testing.assert_allclose(quadratic, squared, atol=1e-6)  # its limit for large alpha
    position = np.linspace(0, 1, 20)
    np.testing.assert_allclose(
        dense(gp.linear(lags, 0.5), 20), 0.25 + np.multiply.outer(position, position)
    )
    np.testing.assert_allclose(dense(gp.white(lags, 0.3), 20), 0.3 * np.eye(20))


def test_composition_is_sum_and_product_of_covariances() -> None:
    lags = np.arange(30.0)
    a, b = gp.periodic(lags, 7.0, 1.0), gp.linear(lags, 0.5)
    c, d = gp.rational_quadratic(lags, 5.0, 0.5), gp.linear(lags, 2.0)
    composed = ((a + b) * c + gp.white(lags, 0.1)) * d
    expected = ((dense(a, 30) + dense(b, 30)) * dense(c, 30) + 0.1 * np.eye(30)) * dense(d, 30)
    np.testing.assert_allclose(dense(composed, 30), expected, rtol=1e-12)


def test_sampled_paths_have_the_covariance_of_their_kernel() -> None:
    length, count = 40, 4000
    lags = gp.embedding_lags(length)
    kernel = gp.periodic(lags, 9.0, 0.8) * gp.linear(lags, 0.6) + gp.squared_exponential(lags, 8.0)
    kernel = gp.drifting(kernel + gp.white(lags, 0.2), lags, length)
    random = np.random.default_rng(0)
    draws = np.array([gp.sample_path(random, kernel, length) for _ in range(count)])
    expected = dense(kernel, length)
    deviation = np.sqrt(
        (np.multiply.outer(np.diag(expected), np.diag(expected)) + expected**2) / count
    )
    error = (draws.T @ draws / count - expected) / deviation
    assert np.abs(error).max() < 5.0
    assert np.abs(draws.mean(axis=0) / np.sqrt(np.diag(expected) / count)).max() < 5.0


@pytest.mark.parametrize("period", [12.0, 24.0, 36.5])
def test_the_spectrum_of_a_periodic_path_peaks_at_the_period(period: float) -> None:
    length = 876
    lags = gp.embedding_lags(length)
    kernel = gp.drifting(gp.periodic(lags, period, 2.0), lags, length)
    for random in generators(10):
        path = gp.sample_path(random, kernel, length)
        spectrum = np.abs(np.fft.rfft(path))
        slow = int(length / period / 2)  # the level wanders, as the kernel's mean is above 0
        peak = slow + spectrum[slow:].argmax()
        assert length / peak == pytest.approx(period, rel=0.06)


# Demand


def test_intermittent_demand_is_mostly_zeros_and_whole_numbers() -> None:
    shares = []
    for random in generators(100):
        values = demand.intermittent_demand(random, grid_of("D", 400))
        assert (values >= 0).all()
        np.testing.assert_array_equal(values, np.round(values))
        shares.append((values == 0).mean())
    assert np.median(shares) > 0.7
    assert min(shares) > 0.1


def test_counts_are_whole_numbers_that_vary_more_than_poisson_around_their_mean() -> None:
    dispersion = []
    for random in generators(60):
        values = demand.counts(random, grid_of("D", 400))
        assert (values >= 0).all()
        np.testing.assert_array_equal(values, np.round(values))
        dispersion.append(values.var() / max(values.mean(), 1e-9))
    assert np.median(dispersion) > 1.5


# Activity


def test_rest_days_are_saturdays_sundays_and_a_few_fixed_dates() -> None:
    grid = grid_of("D", 3 * 365)
    weekday = np.array([time.astype(datetime).weekday() for time in grid.times])
    for random in generators(30):
        factor, resting = activity.rest_days(random, grid)
        assert resting[weekday >= 5].all()
        assert resting[weekday < 5].mean() < 0.04
        for day in range(5):  # every working Monday has the factor of Mondays
            assert len(np.unique(factor[(weekday == day) & ~resting])) == 1
        effect = np.abs(np.array([np.median(factor[weekday == day]) for day in range(7)]) - 1)
        assert effect[6] > effect[:4].max() or effect[6] > 0.04


def test_offices_are_closed_at_weekends_and_nights_and_open_on_working_days() -> None:
    grid = grid_of("h", 24 * 7 * 8, "2021-02-01")
    for random in generators(20):
        values = activity.opening_hours(random, grid)
        assert (values[grid.hour < 6] == 0).all()
        noon = values[(grid.hour == 12) & (grid.weekday == 2)]
        assert (noon > 0).mean() > 0.6


def test_solar_power_is_0_at_night_and_highest_around_noon() -> None:
    grid = grid_of("h", 24 * 60, "2021-03-01")
    for random in generators(20):
        values = activity.solar(random, grid)
        assert (values >= 0).all()
        assert (values[grid.hour <= 2] == 0).all()
        means = [values[grid.hour == hour].mean() for hour in range(24)]
        assert 9 <= int(np.argmax(means)) <= 15


def test_daily_solar_energy_follows_the_length_of_the_day() -> None:
    grid = grid_of("D", 365 * 4)
    summers = []
    for random in generators(40):
        values = activity.solar(random, grid)
        july = values[np.abs(grid.year_fraction - 0.53) < 0.08].mean()
        january = values[grid.year_fraction < 0.08].mean()
        summers.append(july > january)
    # Latitudes are uniform from -45 to 58 degrees, so northern summers are in the majority.
    assert 0.4 < np.mean(summers) < 0.8


def test_december_is_the_peak_of_yearly_retail() -> None:
    grid = grid_of("D", 365 * 4)
    above = []
    for random in generators(40):
        values = activity.events_by_calendar(random, grid)
        advent = np.abs(grid.year_fraction - 0.95) < 0.02
        above.append(values[advent].mean() > values.mean())
    assert np.mean(above) > 0.7


def test_load_is_positive_and_repeats_by_the_day() -> None:
    grid = grid_of("h", 24 * 56)
    similar = []
    for random in generators(20):
        values = activity.load(random, grid)
        assert (values > 0).all()
        day, half = (np.corrcoef(values[lag:], values[:-lag])[0, 1] for lag in (24, 12))
        similar.append(day > half)
    assert np.mean(similar) > 0.8


# The other families


def test_components_with_a_season_have_its_period_in_their_spectrum() -> None:
    grid = grid_of("MS", 240)
    for random in generators(30):
        path = structural.season(random, grid, evolving=False)
        energy = np.abs(np.fft.rfft(path - path.mean())) ** 2
        natural = energy[20::20].sum() / energy.sum()  # the multiples of once in 12 months
        assert natural > 0.999 or natural < 0.9  # a natural period, or an arbitrary one
    natural_periods = [
        np.allclose(path[:228], path[12:], atol=1e-6)
        for path in (structural.season(r, grid, evolving=False) for r in generators(100))
    ]
    assert np.mean(natural_periods) > 0.7


def test_a_moving_average_is_the_mean_of_what_lies_around() -> None:
    path = np.random.default_rng(0).standard_normal(30)
    means = activity.moving_average(path, 6)
    expected = [path[max(0, i - 3) : i + 4].mean() for i in range(30)]
    np.testing.assert_allclose(means, expected)


def test_a_business_cycle_turns_in_3_to_11_years() -> None:
    peaks = []
    for random in generators(60):
        path = economic.business_cycle(random, 2400, 12.0)
        spectrum = np.abs(np.fft.rfft(path)) ** 2
        frequencies = np.fft.rfftfreq(2400) * 12
        peaks.append((spectrum * frequencies).sum() / spectrum.sum())
    assert 3 < 1 / np.median(peaks) < 11


def test_economic_levels_are_positive() -> None:
    for random in generators(100):
        assert (np.exp(economic.growth(random, 100)) > 0).all()
        assert (economic.crises(random, 100, 12.0) <= 0).all()


def test_states_of_charge_stay_within_0_and_1() -> None:
    for random in generators(20):
        values = signals.bounded(random, grid_of("h", 500))
        assert values.min() >= 0
        assert values.max() <= 1


def test_pulses_are_rare_and_stand_out() -> None:
    for random in generators(20):
        values = signals.pulses(random, grid_of("h", 2000))
        assert np.median(values) < 0.5 * values.max()


# Observation


def test_missing_values_never_cover_everything_and_change_nothing_else() -> None:
    path = np.arange(30.0)
    for random in generators(200):
        observed = observation.with_missing(random, path)
        known = ~np.isnan(observed)
        assert known.any()
        np.testing.assert_array_equal(observed[known], path[known])


def test_rounded_values_lie_on_few_levels() -> None:
    path = np.random.default_rng(0).uniform(0, 1, 5000)
    for random in generators(20):
        assert 5 <= len(np.unique(observation.rounded(random, path))) <= 530


def test_transformed_values_are_not_negative() -> None:
    path = np.random.default_rng(0).standard_normal(500)
    for random in generators(50):
        assert (observation.positive_transform(random, path) >= 0).all()


def test_a_stuck_stretch_is_at_most_a_third_and_the_rest_is_kept() -> None:
    path = np.arange(1.0, 301.0)
    for random in generators(100):
        changed = observation.with_stuck_stretch(random, path) != path
        assert changed.mean() <= 1 / 3
