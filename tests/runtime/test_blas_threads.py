"""BLAS keeps to one thread while the regression is fitted, and gets its threads back."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from laglite import blas_threads
from laglite.blas_threads import one_blas_thread
from laglite.regression import fit_regression


def _threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_inside_there_is_one_thread_and_afterwards_as_many_as_before() -> None:
    before = _threads()
    with one_blas_thread():
        assert _threads() == {1}
    assert _threads() == before


def test_an_error_inside_gives_the_threads_back() -> None:
    before = _threads()
    with pytest.raises(RuntimeError), one_blas_thread():
        raise RuntimeError
    assert _threads() == before


def test_callers_in_many_threads_leave_the_threads_as_they_were() -> None:
    seen: list[set[int]] = []
    before = _threads()

    def call() -> None:
        for _ in range(20):
            with one_blas_thread():
                seen.append(_threads())

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert seen == [{1}] * 80
    assert _threads() == before


def test_a_regression_is_the_same_without_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=300).astype(np.float32)
    lags = np.arange(8)
    lagged = np.stack([values[292 - lag : 300 - lag] for lag in lags], axis=1)
    fit = fit_regression(values, np.ones(300, bool), lags, lagged)
    monkeypatch.setattr(blas_threads, "_controller", lambda: None)
    plain = fit_regression(values, np.ones(300, bool), lags, lagged)
    np.testing.assert_allclose(fit.weights, plain.weights, rtol=1e-5, atol=1e-6)
