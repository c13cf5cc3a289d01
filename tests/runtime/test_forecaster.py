"""The public API: parity with the published numbers, seeds, and what it refuses."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from laglite import Forecaster, LagliteError, LagliteWarning
from laglite.errors import InputError
from tests.conftest import Golden

TIMES: dict[str, Any] = {"start": "2024-01-01", "freq": "h"}


def wave(length: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(length)
    return 100 + 30 * np.sin(np.arange(length) * 2 * np.pi / 24) + 3 * noise


@pytest.mark.parametrize("row", [0, 1, 2])
def test_scores_equal_the_published_teacher_forced_numbers(
    golden: Golden, golden_bundle: Path, row: int
) -> None:
    score = Forecaster.load(golden_bundle).score(
        golden.series(row),
        golden.arrays["future_target"][row],
        start=golden.config["starts"][row],
        freq=golden.config["freq"],
        context_length=golden.context,
    )
    assert score.loc == pytest.approx(golden.arrays["loc"][row, 0], abs=1e-4)
    assert score.scale == pytest.approx(golden.arrays["scale"][row, 0], abs=1e-4)
    ahead = slice(golden.context - 1, None)
    for name, values in score.params.items():
        np.testing.assert_allclose(values, golden.arrays[f"param_{name}"][row, ahead], atol=1e-4)
    np.testing.assert_allclose(-score.log_prob, golden.arrays["nll"][row, ahead], rtol=1e-3)


def test_a_series_gets_the_same_samples_alone_or_in_any_batch(tiny: Forecaster) -> None:
    series = [wave(length, seed) for seed, length in enumerate((40, 1200, 300, 2, 77, 1500, 5))]
    options: dict[str, Any] = {"horizon": 6, "num_samples": 9, "seed": 3, **TIMES}
    together = tiny.predict_batch(series, **options)
    backwards = tiny.predict_batch(series[::-1], **options)[::-1]
    for one, first, second in zip(series, together, backwards, strict=True):
        alone = tiny.predict(one, **options)
        np.testing.assert_array_equal(alone.samples, first.samples)
        np.testing.assert_array_equal(alone.samples, second.samples)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_the_number_of_threads_does_not_change_the_samples(
    tiny: Forecaster, tiny_bundle: Path, threads: int
) -> None:
    options: dict[str, Any] = {"horizon": 40, "num_samples": 50, "seed": 3, **TIMES}
    other = Forecaster.load(tiny_bundle, threads=threads)
    np.testing.assert_array_equal(
        tiny.predict(wave(1200), **options).samples, other.predict(wave(1200), **options).samples
    )


def test_another_seed_gives_other_samples_and_none_gives_fresh_ones(tiny: Forecaster) -> None:
    drawn = [
        tiny.predict(wave(100), horizon=3, seed=seed, **TIMES).samples
        for seed in (1, 2, None, None)
    ]
    for first in range(4):
        for second in range(first):
            assert not np.array_equal(drawn[first], drawn[second])


def test_a_longer_horizon_begins_with_the_shorter_one(tiny: Forecaster) -> None:
    short, long = (
        tiny.predict(wave(1200), horizon=h, seed=0, num_samples=8, **TIMES).samples for h in (4, 40)
    )
    np.testing.assert_allclose(long[:, :4], short, rtol=1e-5)


def test_samples_have_the_shape_and_type_promised(tiny: Forecaster) -> None:
    forecast = tiny.predict(wave(100), horizon=5, num_samples=7, seed=0, item_id="a", **TIMES)
    assert forecast.samples.shape == (7, 5)
    assert forecast.samples.dtype == np.float32
    assert forecast.item_id == "a"
    expected = pd.date_range("2024-01-01", periods=105, freq="h")[100:]
    np.testing.assert_array_equal(forecast.index, expected.to_numpy())


def test_nonnegative_forecasts_stay_at_or_above_zero(tiny: Forecaster) -> None:
    history = np.abs(np.random.default_rng(0).standard_normal(300))
    options: dict[str, Any] = {"horizon": 10, "seed": 0, **TIMES}
    assert tiny.predict(history, **options).samples.min() < 0
    assert tiny.predict(history, nonnegative=True, **options).samples.min() >= 0


@pytest.mark.parametrize("level", [0.0, 7.5, -3e6])
def test_a_constant_series_stays_constant(tiny: Forecaster, level: float) -> None:
    forecast = tiny.predict(np.full(1200, level), horizon=5, seed=0, **TIMES)
    np.testing.assert_allclose(forecast.median, level, atol=0.01 * abs(level) + 0.05)


@pytest.mark.parametrize("length", [1, 2, 20])
def test_a_series_shorter_than_the_context_is_forecast(tiny: Forecaster, length: int) -> None:
    assert np.isfinite(tiny.predict(wave(length), horizon=5, seed=0, **TIMES).samples).all()


def test_numbers_may_come_as_lists_integers_masked_arrays_or_pandas(tiny: Forecaster) -> None:
    values = [1.0, 3.0, np.nan, 4.0, 2.0]
    options: dict[str, Any] = {"horizon": 2, "seed": 0, **TIMES}
    expected = tiny.predict(np.array(values), **options).samples
    masked = np.ma.masked_array([1, 3, 9, 4, 2], mask=[0, 0, 1, 0, 0])
    for target in ([1, 3, None, 4, 2], masked, pd.Series(values), np.float32(values)):
        np.testing.assert_array_equal(tiny.predict(target, **options).samples, expected)


def test_a_score_of_a_missing_value_is_missing_and_the_rest_goes_on(tiny: Forecaster) -> None:
    observed = wave(6, 5)
    observed[2] = np.nan
    score = tiny.score(wave(200), observed, **TIMES)
    assert np.isnan(score.log_prob).tolist() == [False, False, True, False, False, False]
    assert np.isnan(score.cdf).tolist() == [False, False, True, False, False, False]


def test_scores_use_only_values_before_each_one(tiny: Forecaster) -> None:
    observed, changed = wave(6, 5), wave(6, 5)
    changed[3:] += 40
    first, second = (tiny.score(wave(200), known, **TIMES) for known in (observed, changed))
    np.testing.assert_allclose(first.params["loc"][:4], second.params["loc"][:4], atol=1e-6)
    assert not np.allclose(first.params["loc"][4:], second.params["loc"][4:])


def test_a_model_that_needs_times_warns_without_them(tiny: Forecaster) -> None:
    with pytest.warns(LagliteWarning, match="trained with calendar features"):
        tiny.predict(wave(50), horizon=2)
    with pytest.warns(LagliteWarning, match="start without freq"):
        tiny.predict(wave(50), horizon=2, start="2024-01-01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.predict(wave(50), horizon=2, **TIMES)


def test_without_times_there_is_no_index(tiny: Forecaster) -> None:
    with pytest.warns(LagliteWarning):
        forecast = tiny.predict(wave(50), horizon=2)
    assert forecast.index is None
    assert forecast.start is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([], "the series is empty"),
        ([np.nan, np.nan], "all 2 values are missing"),
        ([1.0, np.inf], "value 1 is inf"),
        ([1.0, 1e39], "value 1 is 1e\\+39, beyond what float32"),
        ([[1.0, 2.0]], "a series is 1-D"),
        (["1", "x"], "values must be numbers"),
        ([1.0, object()], "values must be numbers"),
        ([1 + 2j], "values must be numbers"),
        ([True, False], "values must be numbers"),
        ([10**400, 1], "values must be numbers"),
        (np.ma.array(["a", "b"]), "values must be numbers"),
        (np.ma.array([1 + 2j, 2]), "values must be numbers.*complex"),
        (np.ma.array(np.array(["2024", "2025"], "M8[Y]")), "values must be numbers.*datetime"),
        (3.0, "a series is 1-D"),
    ],
)
def test_a_series_that_cannot_be_forecast_is_refused(
    tiny: Forecaster, target: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tiny.predict(target, horizon=2, **TIMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon must be a whole number of at least 1, not 0"),
        ({"horizon": 2.5}, "horizon must be a whole number"),
        ({"horizon": True}, "horizon must be a whole number"),
        ({"num_samples": 0}, "num_samples must be a whole number"),
        ({"context_length": -1}, "context_length must be a whole number"),
        ({"horizon": 3000}, "need 3031 positions, but this model has 2048"),
        ({"context_length": 2048}, "need 2049 positions"),
        ({"freq": "fortnight"}, "frequency 'fortnight' is not known"),
        ({"start": "yesterday"}, "'yesterday' is not a timestamp"),
        ({"seed": 1.5}, "seed must be a whole number"),
    ],
)
def test_impossible_arguments_are_refused(
    tiny: Forecaster, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tiny.predict(wave(50), **{"horizon": 2, **TIMES, **options})


def test_a_batch_names_the_series_that_is_wrong(tiny: Forecaster) -> None:
    with pytest.raises(InputError, match="series 1: target: the series is empty"):
        tiny.predict_batch([wave(20), []], horizon=2, **TIMES)
    with pytest.raises(InputError, match="start has 1 entries for 2 series"):
        tiny.predict_batch([wave(20), wave(20)], horizon=2, start=["2024-01-01"], freq="h")


def test_an_unknown_backend_precision_or_thread_count_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(LagliteError, match="backend 'tpu' is not known"):
        Forecaster.load(tiny_bundle, backend="tpu")
    with pytest.raises(LagliteError, match="no precision 'int4'; this bundle has fp32"):
        Forecaster.load(tiny_bundle, precision="int4")
    with pytest.raises(LagliteError, match="threads must be a whole number"):
        Forecaster.load(tiny_bundle, threads=0)
