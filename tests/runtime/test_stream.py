"""Streams: the predictions of teacher-forced scoring, one token a value, restarts, alarms."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from laglite import Forecaster, LagliteError, LagliteWarning, Stream
from laglite.errors import InputError
from laglite.streaming import Update
from laglite.streaming.alarm import Alarm

Values = NDArray[np.float64]
TIMES: dict[str, Any] = {"start": "2024-01-01", "freq": "h"}


def daily(count: int) -> Values:
    """A day's season with noise and two gaps."""
    random = np.random.default_rng(0)
    values = 50 + 10 * np.sin(np.arange(count) * (2 * np.pi / 24)) + random.standard_normal(count)
    values[[count - 30, count - 29, count - 5]] = np.nan
    return values


@pytest.fixture(scope="module", params=["nano", "base"])
def shipped(request: pytest.FixtureRequest) -> Forecaster:
    return Forecaster.load(request.param, threads=1)


@pytest.fixture(scope="module")
def nano() -> Forecaster:
    return Forecaster.load("nano", threads=1)


def column(updates: list[Update], name: str) -> Values:
    return np.array([getattr(one, name) for one in updates])


def check_against_score(forecaster: Forecaster, values: Values, begin: int, **axis: Any) -> None:
    """Between two refreshes a stream gives what `score` gives."""
    stream = forecaster.stream(values[:begin], refresh=40, **axis)
    updates = [stream.update(value) for value in values[begin : begin + 40]]
    score = forecaster.score(values[:begin], values[begin : begin + 40], **axis)
    for name in ("cdf", "log_prob"):
        np.testing.assert_allclose(column(updates, name), getattr(score, name), atol=1e-4)


def test_predictions_between_refreshes_are_those_of_score(shipped: Forecaster) -> None:
    check_against_score(shipped, daily(300), 250, **TIMES)
    check_against_score(shipped, daily(1000), 940)


def test_so_they_are_for_every_published_kind_of_model(golden_bundle: Path) -> None:
    forecaster = Forecaster.load(golden_bundle, threads=1)
    if forecaster.spec.rope_scaling == "dynamic":
        pytest.skip("its positions depend on the length of the whole sequence")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LagliteWarning)
        check_against_score(forecaster, np.abs(np.rint(daily(200))), 150, **TIMES)


def test_after_a_refresh_a_stream_is_one_opened_there(nano: Forecaster) -> None:
    values = daily(1200)
    stream = nano.stream(values[:900], refresh=20, **TIMES)
    for value in values[900:960]:
        stream.update(value)
    fresh = nano.stream(values[:960], refresh=20, **TIMES)
    found = [stream.update(value) for value in values[960:975]]
    np.testing.assert_array_equal(found, [fresh.update(value) for value in values[960:975]])


def test_a_value_costs_one_token_and_every_refresh_a_prompt(nano: Forecaster) -> None:
    stream = nano.stream(daily(900), refresh=32, context_length=48)
    for value in daily(320):
        stream.update(value)
    counts = stream.counts
    assert (counts.values, counts.missing) == (320, 3)
    assert counts.refreshes == 1 + 10
    assert counts.tokens == 320 - 10  # the value before a refresh is part of its prompt
    assert counts.prompt_tokens == 48 * 11


def test_a_short_history_is_encoded_again_whenever_it_has_doubled(nano: Forecaster) -> None:
    stream = nano.stream()
    refreshed = []
    for number, value in enumerate(daily(300), 1):
        before = stream.counts.refreshes
        stream.update(value)
        if stream.counts.refreshes > before:
            refreshed.append(number)
    assert refreshed == [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]


def test_the_quantiles_are_where_the_distribution_function_has_their_levels(
    shipped: Forecaster,
) -> None:
    stream = shipped.stream(daily(400), **TIMES)
    levels = [0.01, 0.5, 0.99]
    found = stream.quantiles(levels)
    state = stream.state()
    for value, level in zip(found, levels, strict=True):
        assert Stream.restore(shipped, state).update(value).cdf == pytest.approx(level, abs=1e-9)


def test_quantile_levels_must_lie_inside(nano: Forecaster) -> None:
    with pytest.raises(InputError, match="between 0 and 1, not"):
        nano.stream(daily(100)).quantiles([0.5, 1.0])


def test_a_forecast_is_that_of_predict_and_leaves_the_stream_where_it_is(
    nano: Forecaster,
) -> None:
    values = daily(1000)
    stream = nano.stream(values[:800], refresh=50, **TIMES)
    for value in values[800:930]:
        stream.update(value)
    before = json.dumps(stream.state())
    found = stream.forecast(5, num_samples=10, seed=3)
    expected = nano.predict(values[:930], horizon=5, num_samples=10, seed=3, **TIMES)
    np.testing.assert_array_equal(found.samples, expected.samples)
    np.testing.assert_array_equal(found.index, expected.index)
    assert json.dumps(stream.state()) == before


def test_times_go_on_from_the_very_first_value(nano: Forecaster) -> None:
    stream = nano.stream(np.arange(1.0, 14.0), start="2020-01-30", freq="M")
    assert stream.next_time == np.datetime64("2021-02-28")
    stream.update(14.0)
    np.testing.assert_array_equal(
        stream.forecast(2, num_samples=2).index.astype("datetime64[D]"),  # type: ignore[union-attr]
        np.array(["2021-03-30", "2021-04-30"], "datetime64[D]"),
    )


@pytest.mark.parametrize("cut", [0, 1, 31, 32, 33, 100, 777])
def test_a_restored_stream_goes_on_to_the_last_bit(nano: Forecaster, cut: int) -> None:
    values = daily(900)
    stream = nano.stream((), warm_up=20, refresh=32, adaptive=True, **TIMES)
    for value in values[:cut]:
        stream.update(value)
    restored = Stream.restore(nano, json.loads(json.dumps(stream.state())))
    for value in values[cut : cut + 70]:
        np.testing.assert_array_equal(
            np.array(list(vars(stream.update(value)).values())),
            np.array(list(vars(restored.update(value)).values())),
        )
    assert json.dumps(restored.state()) == json.dumps(stream.state())
    assert restored.next_time == stream.next_time


def test_a_gap_beyond_the_calendar_is_refused_and_changes_nothing(nano: Forecaster) -> None:
    stream = nano.stream(daily(100), **TIMES)
    before = stream.state()
    with pytest.raises(InputError, match="outside the years 1 to 9999"):
        stream.skip(10**9)
    assert stream.state() == before


def test_a_whole_number_that_no_float_holds_is_refused(nano: Forecaster) -> None:
    with pytest.raises(InputError, match="beyond what float32 can hold"):
        nano.stream(daily(100)).update(10**400)


def test_reset_goes_back_to_the_opening_history(nano: Forecaster) -> None:
    values = daily(400)
    stream = nano.stream(values[:200], adaptive=True, **TIMES)
    first = [stream.update(value) for value in values[200:300]]
    restored = Stream.restore(nano, stream.state())
    for one in (stream, restored):
        one.reset()
        assert one.counts.values == 0
        again = [one.update(value) for value in values[200:300]]
        np.testing.assert_array_equal(column(again, "cdf"), column(first, "cdf"))


def test_nothing_is_predicted_before_the_warm_up_is_over(nano: Forecaster) -> None:
    stream = nano.stream(warm_up=3)
    updates = [stream.update(value) for value in (1.0, np.nan, 2.0, 3.0, 4.0)]
    assert np.isnan(column(updates[:4], "cdf")).all()
    assert np.isfinite(updates[4].cdf)
    assert np.isnan(nano.stream().quantiles([0.5])).all()
    with pytest.raises(InputError, match="empty"):
        nano.stream().forecast(3)


def test_a_missing_value_has_no_probability_and_raises_no_alarm(nano: Forecaster) -> None:
    update = nano.stream(daily(100)).update(np.nan)
    assert np.isnan([update.cdf, update.log_prob]).all()
    assert not update.outside


def test_a_short_gap_costs_tokens_and_a_long_one_a_prompt(nano: Forecaster) -> None:
    values = daily(1000)
    stepped, skipped = (nano.stream(values, refresh=32, **TIMES) for _ in range(2))
    for _ in range(20):
        stepped.update(np.nan)
    skipped.skip(20)
    assert skipped.update(50.0) == stepped.update(50.0)
    skipped.skip(300)
    assert skipped.counts.refreshes == 2
    assert skipped.counts.values == skipped.counts.missing + 1 == 321
    told = nano.stream([*values, *[np.nan] * 20, 50.0, *[np.nan] * 300], **TIMES)
    assert skipped.update(51.0) == told.update(51.0)
    assert skipped.next_time == told.next_time


@pytest.mark.parametrize("gap", [736, 737, 1000, 10**9])
def test_a_gap_of_all_that_the_model_looks_at_begins_anew(nano: Forecaster, gap: int) -> None:
    stream = nano.stream(daily(1000))
    stream.skip(gap)
    assert stream.passed == 1000 + gap
    assert not stream.ready
    assert np.isnan(stream.update(5.0).cdf)
    assert np.isfinite(stream.update(5.0).cdf)


def test_a_new_level_is_given_a_scale_of_its_own_after_eight_values(nano: Forecaster) -> None:
    random = np.random.default_rng(1)
    stream = nano.stream(np.full(30, 7.0))
    for value in 7 + 50 * random.standard_normal(9):
        stream.update(value)
    assert stream.counts.refreshes == 2
    low, high = stream.quantiles([0.1, 0.9])
    assert high - low > 10


@settings(max_examples=15)
@given(
    st.lists(
        st.one_of(
            st.floats(-3e38, 3e38, allow_nan=False),
            st.sampled_from([0.0, 1e-40, 1e30, -1e30, np.nan]),
        ),
        max_size=40,
    )
)
def test_whatever_comes_the_stream_goes_on(nano: Forecaster, values: list[float]) -> None:
    stream = nano.stream(daily(60), refresh=16)
    for value in values:
        update = stream.update(value)
        assert np.isnan(update.cdf) or 0 <= update.cdf <= 1
    for value in daily(40):
        update = stream.update(value)
        assert np.isnan(update.cdf) or 0 <= update.cdf <= 1


@pytest.mark.parametrize(
    ("value", "message"),
    [("x", "must be a number"), (np.inf, "beyond what float32"), (1e39, "beyond what float32")],
)
def test_a_refused_value_leaves_the_stream_as_it_was(
    nano: Forecaster, value: Any, message: str
) -> None:
    stream = nano.stream(daily(100))
    before = json.dumps(stream.state())
    with pytest.raises(InputError, match=message):
        stream.update(value)
    assert json.dumps(stream.state()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refresh": 0}, "refresh must be a whole number"),
        ({"refresh": 2000}, "positions"),
        ({"horizon": 2000}, "positions"),
        ({"warm_up": 0}, "warm_up must be"),
        ({"alarm_rate": 0.0}, "alarm_rate must lie between"),
        ({"start": "2024-01-01", "freq": "x"}, "frequency 'x' is not known"),
    ],
)
def test_wrong_settings_are_named(nano: Forecaster, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LagliteError, match=message):
        nano.stream(daily(50), **options)


def test_memory_does_not_grow_with_the_stream(nano: Forecaster) -> None:
    stream = nano.stream(refresh=16)
    sizes = set()
    for number, value in enumerate(np.tile(daily(100), 12)):
        stream.update(value)
        if number > 900:
            sizes.add(len(stream.state()["values"]))
    kept = nano.spec.max_lag + nano.spec.context_length
    assert sizes <= set(range(kept, kept + 17))


@pytest.mark.parametrize("power", [1.0, 0.6, 1.5])
def test_an_adaptive_alarm_keeps_its_rate_where_the_model_is_not_calibrated(power: float) -> None:
    random = np.random.default_rng(2)
    tails = random.random(40_000) ** (1 / power)  # P(tail < level) = level ** power
    sides = random.random(40_000) < 0.5
    alarm, raw = Alarm(0.01, adaptive=True), Alarm(0.01, adaptive=False)
    cdf = np.where(sides, tails / 2, 1 - tails / 2)
    shares = [np.mean([one.judge(float(level)) for level in cdf]) for one in (alarm, raw)]
    assert shares[0] == pytest.approx(0.01, abs=0.001)
    assert shares[1] == pytest.approx(0.01**power, rel=0.25)
    assert 0.01 / 100 <= alarm.level <= 0.2


def test_an_alarm_is_two_sided() -> None:
    alarm = Alarm(0.1, adaptive=False)
    assert [alarm.judge(cdf) for cdf in (0.04, 0.06, 0.5, 0.94, 0.96, np.nan)] == [
        True, False, False, False, True, False,
    ]  # fmt: skip
