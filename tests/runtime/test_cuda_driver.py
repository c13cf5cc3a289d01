"""What the NVIDIA driver says of its GPU, by a stand-in for its library."""

from __future__ import annotations

import ctypes

import pytest

from laglite.backends.cuda_driver import LIBRARY, Gpu, find_gpu, free_memory
from laglite.backends.library_errors import Fault
from tests.runtime.cuda_driver_double import FakeDriver


def install(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver) -> FakeDriver:
    def load(name: str) -> FakeDriver:
        assert name == LIBRARY
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)
    return driver


def test_the_first_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver())
    found = find_gpu()
    assert found == Gpu("Test GPU", (8, 7), (12, 6))
    assert str(found) == "Test GPU (compute capability 8.7)"


def test_free_memory_is_asked_for_and_the_context_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = install(monkeypatch, FakeDriver(free=123_456))
    assert free_memory() == 123_456
    assert (driver.contexts, driver.pushed) == (0, 0)


def test_free_memory_is_unknown_where_the_driver_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = install(monkeypatch, FakeDriver({"cuMemGetInfo_v2": 2}))
    assert free_memory() is None
    assert (driver.contexts, driver.pushed) == (0, 0)


def test_a_driver_without_a_gpu_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver({"cuInit": 100}))
    found = find_gpu()
    assert isinstance(found, Fault)
    assert found.problem == "the NVIDIA driver finds no GPU"


def test_an_error_without_words_is_named_by_call_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver({"cuDeviceGet": 4242}))
    found = find_gpu()
    assert isinstance(found, Fault)
    assert found.problem == "CUDA failure 4242: cuDeviceGet"


def test_a_missing_driver_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", load)
    found = find_gpu()
    assert isinstance(found, Fault)
    assert "there is no NVIDIA driver" in found.problem
    assert free_memory() is None
