"""Series that break naive scaling: constant, intermittent, gappy, short, and far out of range."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from laglite import Forecaster, LagliteError
from laglite.errors import InputError
from laglite.spec import HEAD_ARGUMENTS, ModelSpec
from laglite_train.model import LagLlama

NAN = np.nan
HORIZON = 12
RANDOM = np.random.default_rng(0)
DAY = 100 + 30 * np.sin(np.arange(600) * 2 * np.pi / 24) + RANDOM.standard_normal(600)


def with_gap(begin: int, end: int) -> NDArray[np.float64]:
    series = DAY.copy()
    series[begin:end] = NAN
    return series


def demand(share: float) -> NDArray[np.float64]:
    """Counts, of which only a share is not zero."""
    happens = RANDOM.random(600) < share
    return np.where(happens, 1 + RANDOM.poisson(3, 600), 0).astype(np.float64)


DIFFICULT = {
    "zeros": np.zeros(300),
    "constant": np.full(300, 5.0),
    "tiny constant": np.full(300, 1e-30),
    "huge negative constant": np.full(300, -1e30),
    "constant but for the last value": np.r_[np.full(299, 5.0), 6.0],
    "zeros but for the last value": np.r_[np.zeros(299), 1.0],
    "noise far below the level": 1e6 + 1e-3 * RANDOM.standard_normal(300),
    "demand in 30 %": demand(0.3),
    "demand in 10 %": demand(0.1),
    "demand in 3 %": demand(0.03),
    "demand in 1 %": demand(0.01),
    "one value": np.array([4.0]),
    "one value of zero": np.array([0.0]),
    "two equal values": np.array([3.0, 3.0]),
    "one value between gaps": np.r_[np.full(150, NAN), 4.0, np.full(30, NAN)],
    "a gap of 200": with_gap(300, 500),
    "a gap of 20 at the end": with_gap(580, 600),
    "a gap at the beginning": with_gap(0, 590),
    "nine of ten missing": np.where(RANDOM.random(600) < 0.9, NAN, DAY),
    "a level shift": np.r_[np.zeros(200), np.full(100, 50.0)],
    "three values": DAY[:3],
    "half a day": DAY[:12],
}


@pytest.fixture(scope="module")
def base() -> Forecaster:
    return Forecaster.load(threads=1)


@pytest.fixture(scope="module", params=sorted(HEAD_ARGUMENTS))
def robust(
    request: pytest.FixtureRequest,
    small_spec: ModelSpec,
    export_to: Callable[[LagLlama, str], Path],
) -> Forecaster:
    """Random weights under laglite's own rules for scale and history, with each head."""
    model = LagLlama(dataclasses.replace(small_spec, head=request.param))
    model.initialise()
    return Forecaster.load(export_to(model.eval(), f"robust_{request.param}"), threads=1)


@pytest.mark.parametrize("name", DIFFICULT)
def test_the_shipped_model_forecasts_it_within_reason(base: Forecaster, name: str) -> None:
    history = DIFFICULT[name]
    forecast = base.predict(history, horizon=HORIZON, seed=0)
    assert np.isfinite(forecast.samples).all()
    low, high = np.nanmin(history), np.nanmax(history)
    spread = (high - low) or 0.05 * abs(low) or 0.05
    assert (forecast.median >= low - spread).all()
    assert (forecast.median <= high + spread).all()
    lower, upper = forecast.interval(0.8)
    assert (upper - lower <= 4 * spread).all()


@pytest.mark.parametrize("name", DIFFICULT)
def test_every_head_stays_finite_and_at_or_above_zero_where_told(
    robust: Forecaster, name: str
) -> None:
    history = DIFFICULT[name]
    options: dict[str, Any] = {"horizon": 4, "seed": 0, "num_samples": 5}
    if robust.spec.head == "neg_bin" and "huge" in name:
        with pytest.raises(LagliteError, match="more than its negative binomial head can tell"):
            robust.predict(history, **options)
        return
    assert np.isfinite(robust.predict(history, **options).samples).all()
    alone = robust.predict(history, nonnegative=True, **options).samples
    assert alone.min() >= 0
    batch = robust.predict_batch([DAY, history], nonnegative=True, **options)
    np.testing.assert_array_equal(batch[1].samples, alone)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(st.just(NAN), st.just(0.0), st.floats(-1e6, 1e6, width=32)), min_size=1,
        max_size=60,
    )
)  # fmt: skip
def test_any_history_with_a_value_has_a_finite_nonnegative_forecast(
    base: Forecaster, history: list[float]
) -> None:
    if np.isnan(history).all():
        history[-1] = 1.0
    forecast = base.predict(history, horizon=3, seed=0, num_samples=5, nonnegative=True)
    assert np.isfinite(forecast.samples).all()
    assert forecast.samples.min() >= 0


def test_nonnegative_paths_go_on_from_the_values_they_show(base: Forecaster) -> None:
    """Flooring takes place within the loop, so that it changes what comes after a floored value."""
    options: dict[str, Any] = {"horizon": HORIZON, "seed": 0, "refine": False}
    free = base.predict(DIFFICULT["demand in 30 %"], **options).samples
    floored = base.predict(DIFFICULT["demand in 30 %"], nonnegative=True, **options).samples
    assert free.min() < 0
    assert not np.array_equal(np.maximum(free, 0), floored)
    before = np.minimum.accumulate(free, axis=1) >= 0
    np.testing.assert_allclose(floored[before], free[before], rtol=1e-3, atol=1e-3)


def test_a_history_that_float32_cannot_span_is_refused_without_a_numeric_warning(
    base: Forecaster,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LagliteError, match="may span too many orders of magnitude"):
            base.predict(np.r_[np.ones(200), 3e38], horizon=HORIZON, seed=0)
        with pytest.raises(LagliteError, match="from the history's scale, 0.05"):
            base.score(np.full(300, 5.0), [1e38, 5.0])


def test_a_gap_longer_than_the_window_is_refused_with_its_length(base: Forecaster) -> None:
    window = base.spec.max_lag + base.spec.context_length
    with pytest.raises(InputError, match=f"the last {window} values, all that the model looks at"):
        base.predict(np.r_[4.0, np.full(window, NAN)], horizon=HORIZON)
