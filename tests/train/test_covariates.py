"""Covariates in training: the runtime's features, what a model learns, and its forecasts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from laglite import Forecaster
from laglite.errors import InputError
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode
from laglite_train.corpus import Series, SeriesSet, read_corpus
from laglite_train.distributions import negative_log_likelihood
from laglite_train.draws import RawWindow, SamplingConfig
from laglite_train.model import LagLlama
from laglite_train.window_augmentation import AugmentationConfig, augment
from laglite_train.windows import Batch, TrainingBatches, ValidationBatches, encode_window

WITHOUT = ModelSpec(
    1, 2, 8, 16, (0, 1, 2), scaling="iqr", history="carry", context_length=16,
    max_context_length=64,
)  # fmt: skip
WITH = dataclasses.replace(WITHOUT, num_covariates=1)
SAMPLING = SamplingConfig(horizon=8, context_lengths=(16,), short_history=0.0)
HOURLY = TimeAxis.of("2024-01-01", "h")
STEPS = 50
EFFECT = 3.0


def shop(seed: int, length: int = 200) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sales that a random promotion decides, but for a little noise: values and covariates."""
    random = np.random.default_rng(seed)
    promotion = random.standard_normal(length)
    sales = 50 + EFFECT * promotion + 0.1 * random.standard_normal(length)
    return sales.astype(np.float32), 2 * promotion[None].astype(np.float32) + 7


@pytest.fixture(scope="module")
def shops() -> list[SeriesSet]:
    return [SeriesSet("shops", [Series(f"{k}", HOURLY, *shop(k)) for k in range(8)])]


def loss_of(model: LagLlama, batch: Batch) -> torch.Tensor:
    """Mean negative log-likelihood in scaled units."""
    losses = negative_log_likelihood(
        model.spec.head, model(batch.tokens), batch.values, batch.loc, batch.scale
    )
    return ((losses - batch.scale.log()) * batch.weights).sum() / batch.weights.sum()


def train(spec: ModelSpec, corpus: list[SeriesSet]) -> tuple[LagLlama, float]:
    """A model after a few dozen steps, and its loss on held-out ends, in scaled units."""
    torch.manual_seed(0)
    model = LagLlama(spec)
    model.initialise()
    optimiser = torch.optim.Adam(model.parameters(), lr=1.5e-2)
    batches = TrainingBatches(corpus, spec, SAMPLING, batch_size=16, steps=range(STEPS), seed=0)
    for step in range(STEPS):
        batch = batches[step]
        optimiser.zero_grad()
        loss_of(model, batch).backward()
        optimiser.step()
    batch = ValidationBatches(corpus, spec, SAMPLING, batch_size=8, per_set=8)[0]
    with torch.no_grad():
        return model.eval(), float(loss_of(model, batch))


def test_a_covariate_that_decides_the_value_is_learned_and_followed_by_forecasts(
    shops: list[SeriesSet], export_to: Callable[[LagLlama, str], Path]
) -> None:
    model, loss = train(WITH, shops)
    _, blind = train(WITHOUT, shops)
    assert loss < blind - 1.0
    forecaster = Forecaster.load(export_to(model, "sales"), threads=1)
    sales, promotion = shop(99)
    ahead = np.array([2.0, -2.0, 0.0, 1.5, -1.5, 0.5])
    future = 2 * ahead + 7
    forecast = forecaster.predict(
        sales, horizon=6, start="2024-01-01", freq="h", seed=0,
        covariates=np.concatenate([promotion[0], future])[:, None],
    )  # fmt: skip
    assert np.corrcoef(forecast.median, 50 + EFFECT * ahead)[0, 1] > 0.95
    np.testing.assert_allclose(forecast.median, 50 + EFFECT * ahead, atol=EFFECT)
    score = forecaster.score(
        sales, 50 + EFFECT * ahead, start="2024-01-01", freq="h",
        covariates=np.concatenate([promotion[0], future])[:, None],
    )  # fmt: skip
    unexplained = 0.5 * math.log(2 * math.pi * math.e * EFFECT**2)  # entropy without promotions
    assert -score.log_prob.mean() < unexplained - 0.5


@pytest.mark.parametrize("history", ["zeros", "carry"])
@pytest.mark.parametrize("begin", [0, 170])
def test_training_covariates_are_those_of_the_runtime(history: str, begin: int) -> None:
    spec = dataclasses.replace(WITH, history=history)
    sales, promotion = shop(1)
    axis = HOURLY.shifted(begin)
    window = encode_window(
        spec, sales[begin:180], axis, sales[180:188], 16, covariates=promotion[:, begin:188]
    )
    assert window is not None
    seen = sales[begin:180].astype(np.float64), axis, 16, sales[180:187].astype(np.float64)
    prompt = encode(spec, *seen, promotion[:, begin:188].T.astype(np.float64))
    np.testing.assert_array_equal(window.tokens, prompt.tokens)
    assert window.tokens[:, -1].std() > 0.5


def test_series_without_covariates_train_beside_those_with(shops: list[SeriesSet]) -> None:
    values, _ = shop(20)
    batches = TrainingBatches(
        [*shops, SeriesSet("plain", [Series("p", HOURLY, values)])],
        WITH, SAMPLING, batch_size=32, steps=range(1), seed=0,
    )  # fmt: skip
    batch = batches[0]
    silent = (batch.tokens[:, :, -1] == 0).all(dim=1)
    assert silent.tolist() == (batch.sources == 1).tolist()
    assert 0 < int(silent.sum()) < 32


def test_a_model_without_covariates_trains_on_data_that_has_them(shops: list[SeriesSet]) -> None:
    batch = TrainingBatches(shops, WITHOUT, SAMPLING, batch_size=4, steps=range(1), seed=0)[0]
    assert batch.tokens.shape[-1] == WITHOUT.num_features


def test_covariates_of_a_parquet_file_reach_the_tokens(tmp_path: Path) -> None:
    sales, promotion = shop(3)
    row = {
        "item_id": "a", "start": "2024-01-01", "freq": "h", "target": sales.tolist(),
        "covariates": promotion.tolist(),
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "shops.parquet")
    corpus = read_corpus([tmp_path], shortest=10, cache=tmp_path / "cache")
    batch, direct = (
        TrainingBatches(sets, WITH, SAMPLING, batch_size=4, steps=range(1), seed=0)[0]
        for sets in (corpus, [SeriesSet("shops", [Series("a", HOURLY, sales, promotion)])])
    )
    torch.testing.assert_close(batch.tokens, direct.tokens, rtol=0, atol=0)


def test_data_that_lack_the_covariates_a_model_wants_are_named(shops: list[SeriesSet]) -> None:
    options = {"batch_size": 4, "steps": range(1), "seed": 0}
    three = dataclasses.replace(WITH, num_covariates=3)
    with pytest.raises(InputError, match="'shops' has series with 1 covariates where .* is 3"):
        TrainingBatches(shops, three, SAMPLING, **options)
    plain = [SeriesSet("plain", [Series("p", HOURLY, shop(0)[0])])]
    with pytest.raises(InputError, match="no series of the data has covariates"):
        TrainingBatches(plain, WITH, SAMPLING, **options)


def test_augmentation_keeps_what_covariates_say_of_the_values() -> None:
    sales, promotion = shop(5)
    everything = AugmentationConfig(frequency=1.0, series_mix=1.0, sign_flip=1.0)
    window = RawWindow(sales, 150, HOURLY, 0, promotion)
    random = np.random.default_rng(0)
    kept = augment(window, lambda: window, everything, random)
    np.testing.assert_array_equal(kept.values, sales)
    plain = dataclasses.replace(window, covariates=None)
    assert not np.array_equal(augment(plain, lambda: plain, everything, random).values, sales)
