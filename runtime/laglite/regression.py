"""Regression: a linear forecast of the next value, fitted to the series' own history.

A network of a few million weights does not learn in its context how one series follows from its
lags; least squares does. The change to the next value is regressed on the differences between the
lags and the current value, and on the current value's distance from the centre of the scale: a
ridge (Hoerl & Kennard 1970) whose strength is chosen by leave-one-out error, in closed form (Allen
1974, PRESS). Its coefficients then shrink by how sure it is to be better than the last value: to
nothing where the gain is one standard error, not at all from three on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laglite.blas_threads import one_blas_thread

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # in units of the regressors' mean square
LONGEST_SHARE = 4  # lags up to a quarter of the history: the others leave too few rows
FEWEST_ROWS = 8
SMALLEST_ERROR = 1e-3  # scaled units


@dataclass(frozen=True)
class Regression:
    """The next value, in scaled units, as a weighted sum of a token's lags.

    `weights` float32 [num_lags] sum to 1 but for a pull to the centre. Forecasts stay between
    `low` and `high`, one range of the history beyond it on either side. `error` and `naive` are
    mean absolute errors of the next value over the history: left out of the fit, and of the last
    value as its forecast. `prompt` float32 [tokens] are the forecasts of the prompt's tokens;
    where the value that follows was fitted to, it is left out.
    """

    weights: NDArray[np.float32]
    low: float
    high: float
    error: float
    naive: float
    prompt: NDArray[np.float32]

    def forecast(self, lags: NDArray[np.float32]) -> NDArray[np.float32]:
        """Next values [...] after lags [..., num_lags]; each is the same bits in any batch."""
        return _bounded_sums(lags, self.weights, self.low, self.high)

    @property
    def features(self) -> NDArray[np.float32]:
        """The logarithms of both errors: float32 [2]."""
        errors = np.array([self.error, self.naive])
        return np.log(errors + SMALLEST_ERROR).astype(np.float32)


def fit_regression(
    scaled: NDArray[np.float32],
    observed: NDArray[np.bool_],
    lags: NDArray[np.int64],
    lagged: NDArray[np.float32],
) -> Regression:
    """Fit to a window of one history.

    `scaled` and `observed` are [length]: filled values, and which of them were there; at least one
    is. `lags` int64 [num_lags] begin with 0, -1 stands for none; `lagged` [tokens, num_lags] are
    those of the prompt, the window's last positions.
    """
    values = scaled.astype(np.float64)
    low, high = float(values[observed].min()), float(values[observed].max())
    low, high = 2 * low - high, 2 * high - low
    begin = int(observed.argmax())
    places = _usable(lags, len(values) - begin)
    start = begin + int(lags[places].max(initial=0))
    current, next_known = values[start:-1], observed[start + 1 :]
    moves = (values[start + 1 :] - current)[next_known]
    naive = error = float(np.abs(moves).mean()) if len(moves) else 0.0
    weights = np.zeros(len(lags))
    weights[0] = 1.0
    left_out = np.full(len(current), np.nan)
    if len(moves) >= FEWEST_ROWS:
        earlier = [values[start - lag : len(values) - 1 - lag] for lag in lags[places]]
        regressors = np.stack([*earlier, np.zeros_like(current)]) - current
        with one_blas_thread():
            fit = _ridge(regressors[:, next_known], moves)
        if fit is not None:
            trust = _trust(np.abs(moves) - np.abs(moves - fit.left_out))
            weights[places] = trust * fit.weights[:-1]
            weights[0] -= trust * fit.weights.sum()
            changes = trust * fit.left_out
            error = float(np.abs(moves - changes).mean())
            left_out[next_known] = current[next_known] + changes
    single = weights.astype(np.float32)
    prompt = _bounded_sums(lagged, single, low, high)
    shared = min(len(left_out), len(lagged) - 1)  # the last token's next value is not known
    fitted = np.clip(left_out[len(left_out) - shared :], low, high)
    np.copyto(prompt[len(lagged) - 1 - shared : -1], fitted, "same_kind", ~np.isnan(fitted))
    return Regression(single, low, high, error, naive, prompt)


def _bounded_sums(
    lags: NDArray[np.float32], weights: NDArray[np.float32], low: float, high: float
) -> NDArray[np.float32]:
    """Weighted sums [...] of lags [..., num_lags], cut to the bounds."""
    products = np.multiply(lags, weights, order="C")  # each row summed in one go
    sums: NDArray[np.float32] = products.sum(axis=-1)
    return np.clip(sums, np.float32(low), np.float32(high))


def _usable(lags: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Places of the lags that a history of `length` is regressed on, each lag once."""
    distinct, places = np.unique(lags, return_index=True)
    return np.sort(places[(distinct > 0) & (distinct <= length // LONGEST_SHARE)])


def _trust(gains: NDArray[np.float64]) -> float:
    """From 0, where the mean of gains [rows] is at most a standard error, to 1 from three on."""
    deviation = float(gains.std())
    if not deviation > 0:
        return float(gains[0] > 0)
    errors = float(gains.mean()) / deviation * math.sqrt(len(gains))
    return min(1.0, max(0.0, (errors - 1) / 2))


@dataclass(frozen=True)
class _Fit:
    """Weights [regressors], and fitted values [rows] each without its own row; their error."""

    weights: NDArray[np.float64]
    left_out: NDArray[np.float64]
    error: float


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64]) -> _Fit | None:
    """The ridge of y [rows] on x [regressors, rows] with the least leave-one-out error.

    None where all of x is zero, or not finite.
    """
    gram = x @ x.T
    unit = float(np.trace(gram)) / len(gram)
    if not 0 < unit < np.inf:
        return None
    powers, directions = np.linalg.eigh(gram / unit)
    turned = directions.T @ x  # [regressors, rows]
    moments = turned @ y / unit
    squares = turned**2 / unit
    best = None
    for strength in STRENGTHS:
        shrunk = 1 / (np.maximum(powers, 0.0) + strength)
        fitted = (shrunk * moments) @ turned
        leverage = np.minimum(shrunk @ squares, 1 - 1e-6)
        left_out = y - (y - fitted) / (1 - leverage)
        error = float(np.abs(y - left_out).mean())
        if best is None or error < best.error:
            best = _Fit(directions @ (shrunk * moments), left_out, error)
    return best
