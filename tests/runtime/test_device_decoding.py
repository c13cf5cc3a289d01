"""Decoding on a device, by its double on the CPU, against the host's own sampling."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laglite import Forecast, Forecaster, device_decoding
from laglite.backends.device import DEVICE_STEP, PREFILL, Capacity
from laglite.batch import Paths
from laglite.bundle import open_bundle
from laglite.decoding import PathRequest, prefill, sample_paths
from laglite.device_workspace import Workspace
from laglite.errors import BackendError, CapacityError, DeviceMemoryError, LagliteError
from laglite.randomness import IndependentNoise, LatticeNoise, Noise, path_uniforms
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode, known_features
from laglite_train.model import LagLlama
from tests.cpu_device import CpuBuffer, CpuDevice, CpuProgram, on_device

TIMES: dict[str, Any] = {"start": "2024-01-01", "freq": "h"}
LENGTHS = (300, 90, 41, 40, 9, 1)


def walks(lengths: Sequence[int] = LENGTHS) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [
        20 + 5 * np.sin(np.arange(length) / 4) + random.standard_normal(length).cumsum()
        for length in lengths
    ]


def alike(found: Forecast, expected: Forecast, *, refined: bool, tolerance: float = 1e-4) -> None:
    """The same draws to rounding, over the spread of the samples.

    Of refined forecasts near-equal paths may have changed places: then values at a step are still
    about the same set.
    """
    spread = expected.samples.std()
    assert found.samples.shape == expected.samples.shape
    if not refined:
        rounding = 4 * np.spacing(np.abs(expected.samples).max())
        assert np.abs(found.samples - expected.samples).max() < tolerance * spread + rounding
        return
    apart = np.abs(np.sort(found.samples, axis=0) - np.sort(expected.samples, axis=0)) / spread
    assert np.median(apart) < tolerance
    for level in (0.1, 0.5, 0.9):
        difference = np.abs(found.quantile(level) - expected.quantile(level)).max()
        assert difference < 0.05 * spread


@pytest.fixture(scope="module", params=["base", "nano"])
def shipped(request: pytest.FixtureRequest) -> tuple[Forecaster, Forecaster]:
    """A shipped model on the host, and on the double."""
    host = Forecaster.load(request.param, threads=1)
    return host, on_device(host.bundle)[0]


def random_model(spec: ModelSpec) -> LagLlama:
    torch.manual_seed(2)
    model = LagLlama(spec)
    model.initialise()
    return model.eval()


@pytest.fixture(scope="module")
def small(small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path]) -> Forecaster:
    return Forecaster.load(export_to(random_model(small_spec), "on_device"), threads=1)


@pytest.mark.parametrize("refine", [False, True])
def test_shipped_models_draw_what_the_host_draws_for_ragged_prompts_in_one_batch(
    shipped: tuple[Forecaster, Forecaster], refine: bool
) -> None:
    host, device = shipped
    options: dict[str, Any] = {"horizon": 24, "num_samples": 40, "seed": 3, "refine": refine}
    series = walks((900, 300, 41, 9, 1))
    found = device.predict_batch(series, **options, **TIMES)
    for one, expected in zip(found, host.predict_batch(series, **options, **TIMES), strict=True):
        alike(one, expected, refined=refine)
        assert (one.marginals is None) == (not refine)


@pytest.mark.parametrize("refine", [False, True])
def test_golden_models_draw_what_the_host_draws(golden_bundle: Path, refine: bool) -> None:
    host = Forecaster.load(golden_bundle, threads=1)
    device, _ = on_device(host.bundle)
    options: dict[str, Any] = {"horizon": 24, "num_samples": 20, "seed": 3, "refine": refine}
    for series in walks((200, 9)):
        found, expected = (f.predict(series, **options, **TIMES) for f in (device, host))
        alike(found, expected, refined=refine)


KINDS: dict[str, dict[str, Any]] = {
    "normal": {"head": "normal"},
    "covariates": {"num_covariates": 2, "calendar": False},
    "nothing known": {"calendar": False},
    "absent seasons": {"seasons": True, "residual": True, "regression": True},
    "no lag but the value": {"lags": (0,)},
    "no value itself": {"lags": (1, 3)},
    "adapting positions": {
        "rope_scaling": "dynamic", "rope_factor": 2.0, "max_context_length": 16
    },
    "published rules": {"history": "zeros", "scaling": "robust"},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_draws_what_the_host_draws(
    small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path], kind: str
) -> None:
    spec = dataclasses.replace(small_spec, **KINDS[kind])
    host = Forecaster.load(export_to(random_model(spec), f"on_device {kind}"), threads=1)
    device, _ = on_device(host.bundle)
    series = walks((60, 30, 9, 1))
    covariates = None
    if spec.num_covariates:
        random = np.random.default_rng(0)
        covariates = [random.standard_normal((len(each) + 7, 2)) for each in series]
    options: dict[str, Any] = {"horizon": 7, "num_samples": 9, "seed": 3, "refine": False}
    if kind != "absent seasons":  # without times there is no season
        options |= TIMES
    found = device.predict_batch(series, covariates=covariates, **options)
    expected = host.predict_batch(series, covariates=covariates, **options)
    for one, other in zip(found, expected, strict=True):
        alike(one, other, refined=False)


def test_a_horizon_of_one_takes_the_prefill_alone(small: Forecaster) -> None:
    device, double = on_device(small.bundle)
    options: dict[str, Any] = {"horizon": 1, "num_samples": 50, "seed": 1}
    found, expected = (f.predict(walks()[0], **options) for f in (device, small))
    np.testing.assert_allclose(found.samples, expected.samples, rtol=1e-5)
    assert found.marginals is not None
    assert found.marginals.shape == (1, 1000)
    assert [name for name, _ in double.programs] == [PREFILL]


def test_nonnegative_draws_are_floored_on_the_device(small: Forecaster) -> None:
    device, _ = on_device(small.bundle)
    demand = np.where(np.arange(80) % 4 == 0, 3.0, 0.0)
    options: dict[str, Any] = {"horizon": 9, "num_samples": 60, "seed": 0, "refine": False}
    found, expected = (
        f.predict_batch([demand, demand + 5], nonnegative=True, **options) for f in (device, small)
    )
    for one, other in zip(found, expected, strict=True):
        alike(one, other, refined=False)
    assert found[0].samples.min() == 0


@pytest.mark.parametrize("refine", [False, True])
def test_fixed_sizes_are_padded_and_more_series_than_they_hold_are_cut(
    small: Forecaster, refine: bool
) -> None:
    capacity = Capacity(series=4, paths=48, context=20, steps=9)
    device, double = on_device(small.bundle, capacity=capacity)
    options: dict[str, Any] = {"horizon": 5, "num_samples": 40, "seed": 4, "refine": refine}
    found, expected = (f.predict_batch(walks(), **options) for f in (device, small))
    for one, other in zip(found, expected, strict=True):
        alike(one, other, refined=refine)
    assert double.launches(PREFILL) == [2]
    assert double.launches(DEVICE_STEP) == [8]


@pytest.mark.parametrize(
    ("needed", "text"),
    [
        ({"horizon": 10}, "10 steps exceed the 9"),
        ({"num_samples": 49}, "49 paths exceed the 48"),
        ({"context_length": 1021}, "1,021 prompt tokens exceed the 16"),
    ],
)
def test_what_a_compiled_engine_cannot_hold_is_said(
    small_spec: ModelSpec,
    export_to: Callable[[LagLlama, str], Path],
    needed: dict[str, int],
    text: str,
) -> None:
    spec = dataclasses.replace(small_spec, max_context_length=2048)
    bundle = open_bundle(export_to(random_model(spec), "on_device long"))
    capacity = Capacity(series=4, paths=48, context=16, steps=9)
    device, double = on_device(bundle, capacity=capacity)
    options = {"horizon": 2, "num_samples": 4, **needed}
    with pytest.raises(BackendError, match=f"^{text} that the engine .* laglite compile"):
        device.predict(np.arange(2000.0), **options)
    assert double.programs == []


def test_memory_decides_how_many_series_go_together(small: Forecaster) -> None:
    double = CpuDevice(small.bundle)
    size = Capacity(series=1, paths=30, context=32, steps=8)
    one = device_decoding.series_bytes(small.spec, double, size)
    device, double = on_device(small.bundle, free=int(2.5 * one / device_decoding.SHARE))
    options: dict[str, Any] = {"horizon": 6, "num_samples": 30, "seed": 5, "refine": False}
    found, expected = (f.predict_batch(walks(), **options) for f in (device, small))
    for one_series, other in zip(found, expected, strict=True):
        alike(one_series, other, refined=False)
    assert double.launches(PREFILL) == [3]  # two series at a time, in one memory
    assert double.launches(DEVICE_STEP) == [15]
    device.predict_batch(walks(), **options | {"num_samples": 29})
    device.predict_batch(walks(), **options)
    assert len(double.launches(PREFILL)) == 3  # the first made room for the second


def test_programs_are_kept_for_the_next_call_of_about_their_size(small: Forecaster) -> None:
    device, double = on_device(small.bundle)
    for count in (5, 6, 5):
        device.predict_batch(walks()[:count], horizon=4, num_samples=8)
    device.predict_batch(walks(), horizon=8, num_samples=8)
    assert double.launches(PREFILL) == [4]
    device.predict_batch(walks(), horizon=9, num_samples=8)
    device.predict_batch(walks(), horizon=4, num_samples=8)
    assert double.launches(PREFILL) == [5, 1]


def test_the_size_not_used_for_longest_makes_room(
    small: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_decoding, "MOST_KEPT", 2)
    device, double = on_device(small.bundle)
    for paths in (3, 4, 3, 5, 3, 4):
        device.predict(walks()[0], horizon=2, num_samples=paths)
    assert double.launches(PREFILL) == [3, 1, 1, 1]


def test_what_is_kept_for_other_sizes_goes_where_there_is_no_room(
    small: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is counted beforehand, but only about."""
    double = CpuDevice(small.bundle)
    sampler = device_decoding.DeviceSampler(double, small.spec, 1)
    wide, narrow = (requested(small.spec, walks()[0], paths, 4, even=False) for paths in (9, 5))
    ((expected, _),) = sampler.sample([narrow])
    sampler.sample([wide])
    assert len(sampler._kept) == 2
    allocate = double.allocate

    def crowded(shape: tuple[int, ...], dtype: str) -> CpuBuffer:
        if sampler._kept:
            raise DeviceMemoryError("full")
        return allocate(shape, dtype)

    monkeypatch.setattr(double, "allocate", crowded)
    other = requested(small.spec, walks()[0], 7, 4, even=False)
    ((samples, _),) = sampler.sample([other])
    np.testing.assert_allclose(samples, by_host(small, other)[0], rtol=1e-4, atol=1e-4)
    assert [size.paths for size in sampler._kept] == [7]

    def full(shape: tuple[int, ...], dtype: str) -> CpuBuffer:
        raise DeviceMemoryError("full")

    monkeypatch.setattr(double, "allocate", full)
    with pytest.raises(DeviceMemoryError, match="1 series x 5 paths of .* need about .*: full"):
        sampler.sample([narrow])
    monkeypatch.undo()
    ((samples, _),) = sampler.sample([narrow])
    np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize("free", [None, 1 << 40])
def test_where_there_is_no_room_after_all_fewer_series_go_together(
    small: Forecaster, monkeypatch: pytest.MonkeyPatch, free: int | None
) -> None:
    """As long as there are several, and from then on at once."""
    double = CpuDevice(small.bundle, free=free)
    sampler = device_decoding.DeviceSampler(double, small.spec, 1)
    requests = [requested(small.spec, one, 7, 4, even=False) for one in walks([20, 30, 40, 50, 60])]
    expected = sampler.sample(requests)
    sampler._kept.clear()
    allocate = double.allocate
    refused: list[int] = []
    key_shape = (small.spec.num_heads, small.spec.head_dim + 1)  # of prompts

    def crowded(shape: tuple[int, ...], dtype: str) -> CpuBuffer:
        if shape[1:3] == key_shape and shape[0] > 2:
            refused.append(shape[0])
            raise DeviceMemoryError("full")
        return allocate(shape, dtype)

    monkeypatch.setattr(double, "allocate", crowded)
    for _ in range(2):
        found = sampler.sample(requests)
        for (ours, _), (theirs, _) in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert refused == [8, 4]


def test_what_does_not_fit_alone_is_not_said_to_fit(
    small: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = CpuDevice(small.bundle, free=1 << 40)
    sampler = device_decoding.DeviceSampler(double, small.spec, 1)

    def full(shape: tuple[int, ...], dtype: str) -> CpuBuffer:
        raise DeviceMemoryError("full")

    monkeypatch.setattr(double, "allocate", full)
    requests = [requested(small.spec, one, 9, 4, even=False) for one in walks([20, 30])]
    with pytest.raises(DeviceMemoryError, match="1 series x 9 paths .* 1 series x 8 paths fit"):
        sampler.sample(requests)


def test_threads_share_a_device_and_get_their_own_forecasts(small: Forecaster) -> None:
    device, _ = on_device(small.bundle)
    series = walks()

    def forecast(number: int) -> Forecast:
        return device.predict(
            series[number % len(series)], horizon=6, num_samples=8, seed=number, refine=False
        )

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(forecast, range(24)))
    for number, found in enumerate(together):
        np.testing.assert_array_equal(found.samples, forecast(number).samples)


def test_all_launches_are_one_threads_whoever_asks(
    small: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA graph is captured anew, and kept, for every thread that launches it."""
    launching: set[int] = set()
    launch = CpuProgram.launch

    def noted(self: CpuProgram) -> None:
        launching.add(threading.get_ident())
        launch(self)

    monkeypatch.setattr(CpuProgram, "launch", noted)
    device, _ = on_device(small.bundle)
    for _ in range(3):
        caller = threading.Thread(target=device.predict, args=(walks()[0],), kwargs={"horizon": 3})
        caller.start()
        caller.join()
    device.predict(walks()[0], horizon=3)
    assert len(launching) == 1
    assert threading.get_ident() not in launching


def test_a_forked_process_is_told_to_load_the_model_itself(
    small: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, double = on_device(small.bundle)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(BackendError, match="load the model after the fork"):
        device.predict(walks()[0], horizon=3)
    assert double.programs == []


def test_no_tensor_has_more_numbers_than_kernels_count(
    small: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small.spec
    options: dict[str, Any] = {"horizon": 6, "num_samples": 30, "seed": 5, "refine": False}
    one = device_decoding.largest_tensor(spec, Capacity(series=1, paths=30, context=32, steps=8))
    assert one == 30 * 8 * spec.width  # keys of a layer
    monkeypatch.setattr(device_decoding, "MOST_NUMBERS", 3 * one - 1)
    device, double = on_device(small.bundle)
    device.predict_batch(walks(), **options)
    assert double.launches(PREFILL) == [3]  # two series at a time
    monkeypatch.setattr(device_decoding, "MOST_NUMBERS", one - 1)
    with pytest.raises(CapacityError, match=r"30 paths of \d+ prompt tokens and 6 steps need a"):
        device.predict_batch(walks(), **options)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_a_floor_in_the_place_of_what_is_not_a_number_is_refused(
    small: Forecaster, monkeypatch: pytest.MonkeyPatch, nonnegative: bool
) -> None:
    """As a device's maximum may give it; the arguments then tell."""
    decode = Workspace.decode

    def floored(self: Workspace, *given: Any) -> Any:
        values, arguments = decode(self, *given)
        values[2], arguments[2] = 0.0, np.nan
        return values, arguments

    monkeypatch.setattr(Workspace, "decode", floored)
    device, _ = on_device(small.bundle)
    options: dict[str, Any] = {"horizon": 6, "num_samples": 5, "refine": False}
    with pytest.raises(LagliteError, match="not finite"):
        device.predict(walks()[0], nonnegative=nonnegative, **options)


def requested(
    spec: ModelSpec, values: np.ndarray, paths: int, horizon: int, *, even: bool
) -> PathRequest:
    prompt = encode(spec, values, TimeAxis(), 16)
    known = known_features(spec, TimeAxis(), None, len(values), horizon - 1)
    noise: Noise = IndependentNoise(path_uniforms(1, prompt.window, horizon, paths))
    if even:
        noise = LatticeNoise(1, prompt.window, horizon, paths, 3)
    return PathRequest(prompt, known, noise, nonnegative=False)


def by_host(host: Forecaster, request: PathRequest) -> Paths:
    (start,) = prefill(host.backend, [request.prompt], request.rotary(host.spec))
    return sample_paths(host.backend, host.spec, request, start, 1)


def test_what_is_not_finite_is_refused_and_leaves_nothing_behind(small: Forecaster) -> None:
    double = CpuDevice(small.bundle)
    sampler = device_decoding.DeviceSampler(double, small.spec, 1)
    fine = requested(small.spec, walks()[0], 5, 4, even=False)
    nothing = np.full_like(fine.prompt.tokens, np.nan)
    wild = dataclasses.replace(fine, prompt=dataclasses.replace(fine.prompt, tokens=nothing))
    with pytest.raises(LagliteError, match="not finite"):
        sampler.sample([wild])
    ((samples, _),) = sampler.sample([fine])
    np.testing.assert_allclose(samples, by_host(small, fine)[0], rtol=1e-4, atol=1e-4)
    assert len(double.launches(PREFILL)) == 2  # the first memory was given up


def test_requests_of_unlike_groups_and_horizons_are_drawn_as_the_host_would(
    small: Forecaster,
) -> None:
    spec, double = small.spec, CpuDevice(small.bundle)
    sampler = device_decoding.DeviceSampler(double, spec, 1)
    sizes = ((10, 9, True), (70, 9, True), (10, 4, True), (70, 1, True), (5, 9, False))
    requests = [
        requested(spec, values, paths, horizon, even=even)
        for values, (paths, horizon, even) in zip(walks(), sizes, strict=False)
    ]
    for request, (samples, fine) in zip(requests, sampler.sample(requests), strict=True):
        expected, expected_fine = by_host(small, request)
        np.testing.assert_allclose(samples, expected, rtol=1e-4, atol=1e-4)
        if expected_fine is None:
            assert fine is None
        else:
            assert fine is not None
            np.testing.assert_allclose(fine, expected_fine, rtol=1e-4, atol=1e-4)
    assert double.launches(PREFILL) == [1, 1, 1]  # by grouping of paths


def test_half_precision_draws_nearly_the_same_on_host_and_device(small: Forecaster) -> None:
    device, double = on_device(small.bundle, "fp16")
    assert double.cache_dtype == "float16"
    host = Forecaster.load(small.bundle.path, precision="fp16", threads=1)
    options: dict[str, Any] = {"horizon": 12, "num_samples": 20, "seed": 3, "refine": False}
    found, expected, exact = (f.predict(walks()[0], **options) for f in (device, host, small))
    alike(found, expected, refined=False, tolerance=0.02)
    alike(found, exact, refined=False, tolerance=0.05)
    assert not np.allclose(found.samples, exact.samples, rtol=1e-6)
