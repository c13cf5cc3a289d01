"""Batches of series: each gets what it would get alone, whatever stands beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from laglite import Forecaster, batch
from laglite.backends.protocol import Arguments
from laglite.errors import InputError, LagliteError
from laglite.kv_cache import PromptCache
from laglite.spec import ModelSpec

HORIZON = 5
TIMES: dict[str, Any] = {"start": "2024-01-01", "freq": "h"}


def ragged(lengths: list[int]) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [20 + random.standard_normal(length).cumsum() for length in lengths]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("refine", [True, False])
def test_every_series_gets_the_samples_it_gets_alone(
    tiny: Forecaster, threads: int, refine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_SERIES", 4)
    forecaster = Forecaster(tiny.bundle, tiny.backend, threads)
    series = ragged([3, 40, 40, 7, 1, 40, 300, 3, 41])
    together = forecaster.predict_batch(
        series, horizon=HORIZON, seed=2, num_samples=10, refine=refine, **TIMES
    )
    for values, one in zip(series, together, strict=True):
        alone = tiny.predict(
            values, horizon=HORIZON, seed=2, num_samples=10, refine=refine, **TIMES
        )
        np.testing.assert_array_equal(one.samples, alone.samples)
        np.testing.assert_array_equal(one.quantile(0.9), alone.quantile(0.9))


def test_each_series_may_have_a_seed_of_its_own(tiny: Forecaster) -> None:
    series, seeds = ragged([40, 40, 7]), [3, 8, 3]
    together = tiny.predict_batch(series, horizon=HORIZON, seed=seeds, num_samples=4, **TIMES)
    for values, seed, one in zip(series, seeds, together, strict=True):
        alone = tiny.predict(values, horizon=HORIZON, seed=seed, num_samples=4, **TIMES)
        np.testing.assert_array_equal(one.samples, alone.samples)
    with pytest.raises(InputError, match="seed has 2 entries for 3 series"):
        tiny.predict_batch(series, horizon=HORIZON, seed=[1, 2], **TIMES)


def test_prompts_of_one_length_are_encoded_together(
    tiny: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    class Counting:
        name, device, parallel = tiny.backend.name, None, True
        decoder = tiny.backend.decoder

        def prefill(
            self, tokens: np.ndarray, cos: np.ndarray, sin: np.ndarray
        ) -> tuple[Arguments, list[PromptCache]]:
            calls.append(len(tokens))
            return tiny.backend.prefill(tokens, cos, sin)

    forecaster = Forecaster(tiny.bundle, Counting(), 2)
    forecaster.predict_batch(ragged([100] * 6), horizon=2, num_samples=4, **TIMES)
    assert calls == [6]


def test_bad_series_are_named_before_anything_is_forecast(
    tiny: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laglite.forecaster.sample_many", None)
    series = [*ragged([30, 30]), np.full(4, np.nan)]
    with pytest.raises(InputError, match="^series 2: target: all 4 values are missing"):
        tiny.predict_batch(series, horizon=2, **TIMES)
    with pytest.raises(InputError, match="^series 'x': target: all 4 values are missing"):
        tiny.predict_batch(series, horizon=2, **TIMES, item_ids=["a", "b", "x"])


def test_no_series_give_no_forecasts(tiny: Forecaster) -> None:
    assert tiny.predict_batch([], horizon=2) == []


def test_chunks_hold_every_row_once_and_keep_to_the_memory_set_aside(
    small_spec: ModelSpec,
) -> None:
    for context, threads in ((64, 2), (1 << 14, 3), (1 << 30, 4)):
        parts = list(batch.chunks(small_spec, context, 1000, threads))
        assert [row for part in parts for row in part] == list(range(1000))
        size = len(parts[0])
        assert size % threads == 0
        one = 8 * small_spec.num_layers * small_spec.width * (context + 1)
        assert size == threads or size * one <= batch.CACHE_BYTES


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_forecast_that_is_not_finite_names_its_series(tiny: Forecaster, threads: int) -> None:
    forecaster = Forecaster(tiny.bundle, tiny.backend, threads)
    series = [*ragged([40, 40]), np.tile([3.3e38, -3.3e38], 20), *ragged([7])]
    with pytest.raises(LagliteError, match="^series 2: the model's forecast is not finite"):
        forecaster.predict_batch(series, horizon=HORIZON, seed=1, **TIMES)
    names = ["a", "b", "c", "d"]
    with pytest.raises(LagliteError, match="^series 'c': the model's forecast is not finite"):
        forecaster.predict_batch(series, horizon=HORIZON, seed=1, item_ids=names, **TIMES)
    with pytest.raises(LagliteError, match="^the model's forecast is not finite"):
        forecaster.predict(series[2], horizon=HORIZON, seed=1, **TIMES)
    with pytest.raises(LagliteError, match="^series 'c': the model's forecast is not finite"):
        forecaster.predict(series[2], horizon=HORIZON, seed=1, item_id="c", **TIMES)


def test_paths_that_do_not_fit_the_memory_are_refused_before_they_are_drawn(
    tiny: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(50.0)
    with pytest.raises(InputError, match="1,000,000,000 paths of 3 steps need about "):
        tiny.predict(values, horizon=3, num_samples=10**9)
    with pytest.raises(InputError, match=r"ask for fewer paths or a shorter horizon"):
        tiny.predict_batch([values], horizon=3, num_samples=10**9)
    monkeypatch.setattr("laglite.batch.UNASKED_BYTES", 0)
    monkeypatch.setattr("laglite.batch.available_memory", lambda: None)
    assert tiny.predict(values, horizon=3, num_samples=10).samples.shape == (10, 3)
