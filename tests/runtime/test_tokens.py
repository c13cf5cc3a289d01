"""Windows, lags and tokens, against the published implementation's and against plain loops."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laglite.errors import InputError
from laglite.lags import gather_lags
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite.window import build_window, carry_forward
from tests.conftest import Golden

NAN = float("nan")


@pytest.mark.parametrize("row", [0, 1, 2])
def test_tokens_loc_and_scale_equal_the_published_ones(golden: Golden, row: int) -> None:
    config = golden.config
    spec = ModelSpec(
        num_layers=config["n_layer"],
        num_heads=config["n_head"],
        head_dim=config["n_embd_per_head"],
        mlp_width=256,
        lags=tuple(config["lags_seq"]),
        scaling=config["scaling"],
        calendar=config["time_feat"],
    )
    axis = TimeAxis.of(config["starts"][row], config["freq"])
    future = golden.arrays["future_target"][row, :-1].astype(np.float64)
    prompt = encode(spec, golden.series(row), axis, golden.context, future)
    np.testing.assert_allclose(prompt.tokens, golden.arrays["tokens"][row], atol=1e-5)
    assert prompt.window.loc == pytest.approx(golden.arrays["loc"][row, 0], rel=1e-6)
    assert prompt.window.scale == pytest.approx(golden.arrays["scale"][row, 0], rel=1e-6)


@given(st.integers(1, 20), st.sets(st.integers(0, 30), min_size=1, max_size=8))
def test_each_lag_is_the_value_that_many_steps_back(count: int, chosen: set[int]) -> None:
    lags = tuple(sorted(chosen))
    scaled = np.random.default_rng(0).standard_normal(count + lags[-1] + 3).astype(np.float32)
    gathered = gather_lags(scaled, np.array(lags), count)
    for token in range(count):
        position = len(scaled) - count + token
        assert [scaled[position - lag] for lag in lags] == gathered[token].tolist()


def test_lags_of_a_batch_are_those_of_each_row() -> None:
    scaled = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    lags = np.array([0, 2, 5])
    together = gather_lags(scaled, lags, 4)
    np.testing.assert_array_equal(together[1], gather_lags(scaled[1], lags, 4))


def test_a_lag_of_minus_one_is_none_and_gives_zero() -> None:
    gathered = gather_lags(np.arange(1, 9, dtype=np.float32), np.array([0, -1, 3]), 2)
    np.testing.assert_array_equal(gathered, [[7, 0, 4], [8, 0, 5]])


def test_carry_forward_repeats_the_last_value_before_a_gap() -> None:
    filled = carry_forward(np.array([1.0, NAN, NAN, 4.0, NAN]))
    assert filled.tolist() == [1.0, 1.0, 1.0, 4.0, 4.0]


def test_the_published_rule_pads_and_fills_with_raw_zeros(small_spec: ModelSpec) -> None:
    spec = dataclasses.replace(small_spec, history="zeros", scaling="none")
    window = build_window(np.array([3.0, NAN, 5.0]), spec, 16)
    assert window.tokens == 16
    assert len(window.scaled) == spec.max_lag + 16
    assert window.scaled[-4:].tolist() == [0.0, 3.0, 0.0, 5.0]
    assert not window.scaled[:-3].any()


def test_the_published_padding_has_no_calendar(small_spec: ModelSpec) -> None:
    spec = dataclasses.replace(small_spec, history="zeros")
    prompt = encode(spec, np.arange(10.0), TimeAxis.of("2024-01-01", "h"), 16)
    calendar = prompt.tokens[:, -6:]
    assert not calendar[:6].any()
    assert calendar[6:].any(axis=1).all()


def test_laglites_rule_starts_the_prompt_at_the_first_observed_value(
    small_spec: ModelSpec,
) -> None:
    window = build_window(np.array([NAN, NAN, 3.0, NAN, 5.0, 6.0]), small_spec, 16)
    assert window.tokens == 4
    assert not window.scaled[: small_spec.max_lag].any()
    restored = window.to_data(window.scaled[-4:])
    np.testing.assert_allclose(restored, [3.0, 3.0, 5.0, 6.0])


def test_a_gap_as_long_as_the_prompt_carries_the_value_before_it(small_spec: ModelSpec) -> None:
    history = np.concatenate([np.arange(20.0), np.full(30, NAN)])
    prompt = encode(small_spec, history, TimeAxis(), 16, np.array([NAN, 7.0]))
    current = prompt.window.to_data(prompt.tokens[:, 0])
    np.testing.assert_allclose(current, [19.0] * 17 + [7.0], rtol=1e-6)


def test_only_observed_values_decide_the_scale(small_spec: ModelSpec) -> None:
    values = np.random.default_rng(0).standard_normal(30)
    gappy = np.full(60, NAN)
    gappy[::2] = values
    spec = dataclasses.replace(small_spec, lags=(0, 80))
    plain, with_gaps = (build_window(v, spec, 16) for v in (values, gappy))
    assert (plain.loc, plain.scale) == (with_gaps.loc, with_gaps.scale)


def test_without_times_the_calendar_features_are_zero(small_spec: ModelSpec) -> None:
    prompt = encode(small_spec, np.arange(40.0), TimeAxis(), 16)
    assert not prompt.tokens[:, -6:].any()


def test_values_before_the_window_do_not_matter(small_spec: ModelSpec) -> None:
    length = small_spec.max_lag + 16
    recent = np.random.default_rng(0).standard_normal(length)
    longer = np.concatenate([np.full(50, 1e6), recent])
    short, long = (encode(small_spec, v, TimeAxis(), 16) for v in (recent, longer))
    np.testing.assert_array_equal(short.tokens, long.tokens)


@pytest.mark.parametrize("rule", ["zeros", "carry"])
def test_a_window_without_observed_values_is_refused(small_spec: ModelSpec, rule: str) -> None:
    spec = dataclasses.replace(small_spec, history=rule)
    history = np.concatenate([np.ones(5), np.full(100, NAN)])
    with pytest.raises(InputError, match="the last 40 values, all that the model looks at"):
        build_window(history, spec, 16)


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**-3, 2.0**30])
def test_scale_free_tokens_are_the_same_in_any_unit(small_spec: ModelSpec, factor: float) -> None:
    """Powers of two, so that not even the rounding differs."""
    spec = dataclasses.replace(small_spec, scaling="iqr", history="carry", scale_free=True)
    assert spec.num_static == 1
    history = 5 + np.random.default_rng(0).standard_normal(80)
    one, other = (encode(spec, unit * history, TimeAxis(), 8) for unit in (1.0, factor))
    np.testing.assert_array_equal(one.tokens, other.tokens)
    level = one.tokens[:, spec.num_lags]
    assert level == pytest.approx(np.arcsinh(one.window.loc / one.window.scale), rel=1e-6)
    moved = encode(spec, history + 100.0, TimeAxis(), 8)
    assert (moved.tokens[:, spec.num_lags] > level + 1).all()  # where zero lies is told


@given(st.floats(-1e8, 1e8), st.floats(1e-3, 1e6), st.integers(0, 2**32 - 1))
def test_scaled_units_lead_back_to_data_units(loc: float, scale: float, seed: int) -> None:
    spec = ModelSpec(1, 1, 2, 4, (0, 3), scaling="iqr", history="carry")
    values = loc + scale * np.random.default_rng(seed).standard_normal(30)
    window = build_window(values, spec, 10)
    back = window.to_data(window.to_scaled(values))
    np.testing.assert_allclose(back, values, rtol=1e-5, atol=1e-5 * window.scale)
