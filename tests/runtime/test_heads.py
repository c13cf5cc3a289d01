"""Heads against scipy and torch: densities, distribution functions, quantiles of many draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from laglite.errors import LagliteError
from laglite.heads import HEADS
from laglite.special import log_beta, log_gamma, normal_cdf, regularized_beta
from laglite.window import Window
from tests.head_references import log_density, reference

LOC, SCALE = 50.0, 3.0
WINDOW = Window(np.zeros(1, np.float32), LOC, SCALE, 1, 0)
COUNTS = Window(np.zeros(1, np.float32), 0.0, SCALE, 1, 0)
LEVELS = np.array([0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999])
PATHS = 100_000

SPLINE_AT_REST = {"loc": 0.3, "scale": 0.7} | {
    f"{kind}_{number}": value
    for kind, value, count in (("width", 1.25, 8), ("height", 1.25, 8), ("slope", 1.0, 7))
    for number in range(1, count + 1)
}
ARGUMENTS = {
    "studentT": [
        {"df": 2.1, "loc": 0.3, "scale": 0.7},
        {"df": 5.0, "loc": -2.0, "scale": 2.0},
        {"df": 1e6, "loc": 0.0, "scale": 1.0},
    ],
    "normal": [{"loc": 0.3, "scale": 0.7}],
    "mixtureT": [
        {"weight_1": 0.5, "weight_2": 0.3, "weight_3": 0.2}
        | {"df_1": 2.5, "df_2": 4.0, "df_3": 40.0}
        | {"loc_1": -1.0, "loc_2": 0.2, "loc_3": 3.0}
        | {"scale_1": 0.7, "scale_2": 0.05, "scale_3": 1.5},
        {"weight_1": 1e-4, "weight_2": 0.9998, "weight_3": 1e-4}
        | {"df_1": 3.0, "df_2": 3.0, "df_3": 3.0}
        | {"loc_1": 0.0, "loc_2": 0.0, "loc_3": 0.0}
        | {"scale_1": 100.0, "scale_2": 1.0, "scale_3": 1e-3},
    ],
    "spline": [
        SPLINE_AT_REST,
        SPLINE_AT_REST
        | {"width_1": 0.25, "width_2": 2.25, "width_4": 2.0, "width_5": 0.5}
        | {"height_3": 0.125, "height_4": 2.375, "height_7": 2.4375, "height_8": 0.0625}
        | {"slope_1": 0.125, "slope_2": 1.875, "slope_3": 0.25, "slope_7": 1.5},
    ],
    "neg_bin": [
        {"total_count": 0.4, "logits": 0.5},
        {"total_count": 3.0, "logits": 2.0},
        {"total_count": 50.0, "logits": 4.0},
    ],
}
CASES = [(head, arguments) for head, choices in ARGUMENTS.items() for arguments in choices]
all_cases = pytest.mark.parametrize(("head", "arguments"), CASES)


def window_of(head: str) -> Window:
    return COUNTS if head == "neg_bin" else WINDOW


def in_data_units(head: str, arguments: dict[str, float]) -> Any:
    """The same distribution, from scipy."""
    window = window_of(head)
    return reference(head, arguments, window.loc, window.scale)


def as_arrays(arguments: dict[str, float]) -> dict[str, NDArray[np.float32]]:
    return {name: np.float32([value]) for name, value in arguments.items()}


@all_cases
def test_log_density_and_distribution_function_are_scipys(
    head: str, arguments: dict[str, float]
) -> None:
    rounded = {k: float(np.float32(v)) for k, v in arguments.items()}
    expected = in_data_units(head, rounded)
    values = expected.ppf(np.linspace(0.0005, 0.9995, 41))
    given_arguments, window = as_arrays(arguments), window_of(head)
    np.testing.assert_allclose(
        HEADS[head].log_prob(given_arguments, values, window),
        log_density(expected)(values),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        HEADS[head].cdf(given_arguments, values, window), expected.cdf(values), atol=1e-9
    )


@all_cases
def test_quantiles_are_scipys(head: str, arguments: dict[str, float]) -> None:
    rounded = {k: float(np.float32(v)) for k, v in arguments.items()}
    expected = in_data_units(head, rounded)
    levels = np.array([1e-6, 1e-4, *LEVELS, 0.49, 0.51, 1 - 1e-4])
    found = HEADS[head].quantile(as_arrays(arguments), levels, window_of(head))
    if head == "neg_bin":
        np.testing.assert_array_equal(found, expected.ppf(levels))
    else:
        np.testing.assert_allclose(expected.cdf(found), levels, rtol=1e-6, atol=2e-8)
    at_zero = Window(np.zeros(1, np.float32), 0.0, 1.0, 1, 0)
    if head in ("studentT", "normal"):
        still = as_arrays(rounded | {"loc": 0.0})
        assert HEADS[head].quantile(still, np.array([0.5]), at_zero) == 0


@given(st.floats(2.0001, 1e4), st.floats(1e-9, 1 - 1e-9))
def test_student_t_quantiles_are_scipys_at_any_level(df: float, level: float) -> None:
    window = Window(np.zeros(1, np.float32), 0.0, 1.0, 1, 0)
    arguments = {
        name: np.array([value])
        for name, value in zip(("df", "loc", "scale"), (df, 0, 1), strict=True)
    }
    (found,) = HEADS["studentT"].quantile(arguments, np.array([level]), window)
    assert found == pytest.approx(scipy.stats.t.ppf(level, df), rel=1e-8, abs=1e-9)


@all_cases
def test_quantiles_of_a_hundred_thousand_draws_are_scipys(
    head: str, arguments: dict[str, float]
) -> None:
    uniforms = 1.0 - np.random.default_rng(7).random((2, PATHS))
    window = window_of(head)
    draws = HEADS[head].sample(as_arrays(arguments), uniforms, window) * window.scale + window.loc
    expected = in_data_units(head, arguments)
    # The draws' share below a true quantile is binomial: five standard deviations of it.
    for quantile in expected.ppf(LEVELS):
        target = expected.cdf(quantile)
        share = np.mean(draws <= quantile + 1e-4)
        assert share == pytest.approx(target, abs=5 * np.sqrt(target * (1 - target) / PATHS))


def test_negative_binomial_draws_are_the_exact_inverse_of_the_distribution_function() -> None:
    uniforms = 1.0 - np.random.default_rng(3).random((2, 500))
    draws = HEADS["neg_bin"].sample(as_arrays(ARGUMENTS["neg_bin"][1]), uniforms, COUNTS) * SCALE
    expected = in_data_units("neg_bin", ARGUMENTS["neg_bin"][1]).ppf(uniforms[0])
    np.testing.assert_array_equal(np.rint(draws), expected)


def test_negative_binomial_gives_fractions_and_negatives_no_mass_of_their_own() -> None:
    arguments = as_arrays(ARGUMENTS["neg_bin"][1])
    head = HEADS["neg_bin"]
    assert head.log_prob(arguments, np.array([-1.0]), COUNTS) == -np.inf
    assert head.cdf(arguments, np.array([-1.0]), COUNTS) == 0
    below, at = (head.cdf(arguments, np.array([v]), COUNTS) for v in (4.7, 4.0))
    assert below == at


@pytest.mark.parametrize("head", list(HEADS))
def test_the_smallest_and_largest_uniforms_give_finite_draws(head: str) -> None:
    edges = np.array([[2.0**-53, 1.0, 0.5], [1.0, 2.0**-53, 0.25]])
    for arguments in ARGUMENTS[head]:
        draws = HEADS[head].sample(as_arrays(arguments), edges, window_of(head))
        assert np.isfinite(draws).all()


@pytest.mark.parametrize("head", ["studentT", "normal", "mixtureT", "spline"])
def test_distribution_functions_of_draws_are_uniform(head: str) -> None:
    uniforms = 1.0 - np.random.default_rng(11).random((2, PATHS))
    for arguments in ARGUMENTS[head]:
        given_arguments = as_arrays(arguments)
        draws = HEADS[head].sample(given_arguments, uniforms, WINDOW) * SCALE + LOC
        levels = HEADS[head].cdf(given_arguments, draws, WINDOW)
        assert scipy.stats.kstest(levels, "uniform").pvalue > 0.001


@pytest.mark.parametrize("head", list(HEADS))
def test_draws_of_a_path_do_not_depend_on_the_paths_beside_it(head: str) -> None:
    random = np.random.default_rng(12)
    uniforms = 1.0 - random.random((2, 37))
    spread = {
        name: np.float32(value * (1 + 0.1 * random.random(37)))
        for name, value in ARGUMENTS[head][-1].items()
    }
    together = HEADS[head].sample(spread, uniforms, window_of(head))
    for part in (slice(0, 1), slice(5, 6), slice(6, 9), slice(9, 37)):
        own = {name: values[part] for name, values in spread.items()}
        alone = HEADS[head].sample(own, uniforms[:, part], window_of(head))
        np.testing.assert_array_equal(alone, together[part])


@given(st.floats(0.05, 500), st.floats(0.05, 500), st.floats(0, 1))
def test_the_incomplete_beta_function_is_scipys(a: float, b: float, x: float) -> None:
    assert regularized_beta(a, b, x) == pytest.approx(
        scipy.special.betainc(a, b, x), rel=1e-8, abs=1e-12
    )


@settings(max_examples=50)  # the number of terms grows with the larger argument
@given(st.floats(1e2, 1e7), st.floats(0.05, 20), st.floats(-6, 6))
def test_the_incomplete_beta_function_holds_where_one_argument_is_large(
    a: float, b: float, z: float
) -> None:
    x = a / (a + z * z / 2)
    assert regularized_beta(a, b, x) == pytest.approx(scipy.special.betainc(a, b, x), abs=1e-7)
    assert regularized_beta(b, a, 1 - x) == pytest.approx(
        scipy.special.betainc(b, a, 1 - x), abs=1e-7
    )


@given(st.floats(-30, 30))
def test_the_normal_distribution_function_keeps_its_tails(z: float) -> None:
    assert normal_cdf(z) == pytest.approx(scipy.special.ndtr(z), rel=1e-10)


@given(st.floats(1e-3, 1e6))
def test_log_gamma_is_scipys(x: float) -> None:
    assert log_gamma(x) == pytest.approx(scipy.special.gammaln(x), rel=1e-10, abs=1e-12)


@given(st.floats(1e-3, 1e4), st.floats(1e-3, 1e15))
def test_log_beta_is_scipys_however_far_apart_its_arguments_are(a: float, b: float) -> None:
    expected = scipy.special.betaln(a, b)
    assert log_beta(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert log_beta(b, a) == log_beta(a, b)


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e9])
def test_negative_binomial_takes_large_counts(scale: float) -> None:
    window = Window(np.zeros(1, np.float32), 0.0, scale, 1, 0)
    arguments = {"total_count": np.full(5, 3.0), "logits": np.zeros(5)}
    uniforms = np.array([[0.001, 0.1, 0.5, 0.9, 0.999]] * 2)
    counts = HEADS["neg_bin"].sample(arguments, uniforms, window) * scale
    reference = scipy.stats.nbinom(3, 1 / (1 + scale))
    np.testing.assert_allclose(counts, reference.ppf(uniforms[0]), rtol=1e-6)
    log_prob = HEADS["neg_bin"].log_prob(arguments, np.rint(counts), window)
    # scipy's comes from logarithms of gamma functions near 1e11, each rounded to about 1e-5.
    np.testing.assert_allclose(log_prob, reference.logpmf(np.rint(counts)), rtol=1e-6, atol=1e-4)


def test_negative_binomial_refuses_counts_it_cannot_tell_apart() -> None:
    window = Window(np.zeros(1, np.float32), 0.0, 1e14, 1, 0)
    arguments = {"total_count": np.ones(1), "logits": np.zeros(1)}
    for call in (
        lambda: HEADS["neg_bin"].sample(arguments, np.full((2, 1), 0.5), window),
        lambda: HEADS["neg_bin"].quantile(arguments, np.array([0.5]), window),
        lambda: HEADS["neg_bin"].cdf(arguments, np.array([5.0]), window),
    ):
        with pytest.raises(LagliteError, match=r"counts of about 1e\+14, more than"):
            call()


def test_counts_beyond_all_bounds_are_certain_to_be_greater_at_once() -> None:
    arguments = as_arrays(ARGUMENTS["neg_bin"][1])
    assert HEADS["neg_bin"].cdf(arguments, np.array([1e30]), COUNTS) == 1


def test_negative_binomial_refuses_what_is_no_number_and_takes_an_underflow() -> None:
    head, uniforms = HEADS["neg_bin"], np.full((2, 3), 0.5)
    for name in ("total_count", "logits"):
        arguments = as_arrays({"total_count": 2.0, "logits": 0.0} | {name: np.nan})
        with pytest.raises(LagliteError, match="not finite"):
            head.sample(arguments, uniforms, COUNTS)
    gone = as_arrays({"total_count": 0.0, "logits": 0.0})
    np.testing.assert_array_equal(head.sample(gone, uniforms, COUNTS), np.zeros(3))
