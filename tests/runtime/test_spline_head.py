"""The spline head: a monotone map with a closed-form inverse, and a density that adds up to 1."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from laglite.heads import HEADS
from laglite.heads.spline import BOUND, forward, inverse
from laglite.window import Window

UNIT = Window(np.zeros(1, np.float32), 0.0, 1.0, 1, 0)
LEAST = 5e-3


def knots(seed: int, spread: float) -> dict[str, NDArray[np.float32]]:
    """A random spline as the domain map may give it; a wide spread makes very uneven bins."""
    random = np.random.default_rng(seed)
    arguments = {"loc": np.float32([0.5]), "scale": np.float32([2.0])}
    for kind in ("width", "height"):
        shares = np.exp(spread * random.standard_normal(8))
        sizes = 2 * BOUND * (LEAST + (1 - 8 * LEAST) * shares / shares.sum())
        arguments |= {f"{kind}_{k + 1}": np.float32([sizes[k]]) for k in range(8)}
    slopes = random.uniform(0.1, 1.9, 7)
    return arguments | {f"slope_{k + 1}": np.float32([slopes[k]]) for k in range(7)}


random_knots = st.builds(knots, st.integers(0, 2**32 - 1), st.floats(0, 6))


@given(random_knots)
def test_the_inverse_undoes_the_map(arguments: dict[str, NDArray[np.float32]]) -> None:
    x = np.concatenate([np.linspace(-5.5, 5.5, 1001), [-36.7, 36.7, -BOUND, BOUND]])
    again, _ = inverse(arguments, forward(arguments, x))
    np.testing.assert_allclose(again, x, atol=1e-9)


@given(random_knots)
def test_the_map_rises_and_keeps_to_its_square(arguments: dict[str, NDArray[np.float32]]) -> None:
    x = np.linspace(-2 * BOUND, 2 * BOUND, 4001)
    y = forward(arguments, x)
    assert (np.diff(y) > 0).all()
    np.testing.assert_allclose(forward(arguments, np.array([-BOUND, BOUND])), [-BOUND, BOUND])
    assert (np.abs(y[np.abs(x) < BOUND]) < BOUND).all()


@given(random_knots)
def test_the_slope_is_the_maps_by_differences(arguments: dict[str, NDArray[np.float32]]) -> None:
    x = np.random.default_rng(0).uniform(-8, 8, 200)
    step = 1e-6
    rise = forward(arguments, x + step) - forward(arguments, x - step)
    _, log_slope = inverse(arguments, forward(arguments, x))
    # Second derivatives jump at knots, and first ones at the ends of the square: within a step of
    # them the two differ.
    close = np.isclose(np.exp(log_slope), rise / (2 * step), rtol=1e-3, atol=1e-7)
    assert close.mean() >= 0.99


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
def test_the_density_adds_up_to_one_and_its_integral_is_the_distribution_function(
    spread: float,
) -> None:
    arguments = knots(3, spread)
    head = HEADS["spline"]
    x = np.linspace(-20, 20, 200_001)
    values = 0.5 + 2.0 * forward(arguments, x)
    density = np.exp(head.log_prob(arguments, values, UNIT))
    integral = scipy.integrate.cumulative_trapezoid(density, values, initial=0)
    np.testing.assert_allclose(integral, head.cdf(arguments, values, UNIT), atol=2e-4)
    assert integral[-1] == pytest.approx(1, abs=2e-4)


@given(random_knots, st.floats(2.0**-53, 1 - 2.0**-53))
def test_the_distribution_function_of_a_draw_is_its_uniform(
    arguments: dict[str, NDArray[np.float32]], uniform: float
) -> None:
    head = HEADS["spline"]
    draw = head.sample(arguments, np.array([[uniform], [0.5]]), UNIT)
    assert head.cdf(arguments, draw, UNIT) == pytest.approx(uniform, rel=1e-6, abs=1e-15)


def test_equal_bins_and_slopes_of_one_are_the_logistic_distribution_between_its_tails() -> None:
    equal = {"loc": np.float32([0]), "scale": np.float32([1])}
    for kind, size, count in (("width", 1.25, 8), ("height", 1.25, 8), ("slope", 1.0, 7)):
        equal |= {f"{kind}_{k}": np.float32([size]) for k in range(1, count + 1)}
    values = np.linspace(-4.99, 4.99, 101)
    np.testing.assert_allclose(
        HEADS["spline"].log_prob(equal, values, UNIT),
        scipy.stats.logistic.logpdf(values),
        atol=1e-12,
    )


def test_tails_are_as_heavy_as_students_t_with_four_degrees_of_freedom() -> None:
    arguments = knots(5, 1.0)
    far = np.array([1e4, 2e4])
    for side in (-1.0, 1.0):
        density = HEADS["spline"].log_prob(arguments, side * far, UNIT)
        power = (density[1] - density[0]) / np.log(2.0)
        assert power == pytest.approx(-5, abs=0.01)
