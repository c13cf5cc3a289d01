"""Augmentation of training windows, on whole batches: frequencies, mixtures, noise, scale, steps.

A window is past and future together, in scaled units, so that both change alike: float32
`[batch, length]` with NaN where nothing was observed. Every function returns a new float32 array,
leaves its arguments as they are, and draws from the generator given, so that a seed repeats.
NaN stays NaN; the functions that work on frequencies fill it meanwhile (`fill_missing`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError

Windows = NDArray[np.float32]
Bins = NDArray[np.bool_]

DOMINANT_BINS = 3


def fill_missing(values: Windows) -> Windows:
    """NaN replaced by the line between its neighbours, at the ends by the nearest value.

    A window without any value becomes zeros. `[batch, length]`.
    """
    filled = values.astype(np.float32, copy=True)
    steps = np.arange(values.shape[-1])
    missing = np.isnan(filled)
    for row in np.flatnonzero(missing.any(axis=-1)):
        known = ~missing[row]
        if known.any():
            filled[row, ~known] = np.interp(steps[~known], steps[known], filled[row, known])
        else:
            filled[row] = 0.0
    return filled


def changeable_bins(
    spectrum: NDArray[np.complex128], rate: float, random: np.random.Generator
) -> Bins:
    """A random share `rate` of the bins of each row, without its mean and its dominant bins.

    The DOMINANT_BINS of largest amplitude carry trend and season and are kept, as the paper means
    it; the mean (bin 0) is kept so that a window's level still fits its scale. bool
    `[batch, bins]`.
    """
    _check_share(rate, "rate")
    chosen = random.random(spectrum.shape) < rate
    amplitude = np.abs(spectrum)
    amplitude[:, 0] = -1.0
    kept = min(DOMINANT_BINS, amplitude.shape[1])
    dominant = np.argpartition(amplitude, -kept, axis=-1)[:, -kept:]
    np.put_along_axis(chosen, dominant, False, axis=-1)
    chosen[:, 0] = False
    return chosen


def freq_mask(values: Windows, rate: float, random: np.random.Generator) -> Windows:
    """Freq-Mask (FrAug, arXiv 2302.09292): random bins of the spectrum set to zero.

    The spectrum is that of past and future as one window (Lag-Llama uses rate 0.5).
    The result never has more energy than the filled window. Raises InputError for a rate outside
    0 to 1.
    """
    spectrum = np.fft.rfft(fill_missing(values), axis=-1)
    spectrum[changeable_bins(spectrum, rate, random)] = 0.0
    return _from_spectrum(spectrum, values)


def freq_mix(values: Windows, others: Windows, rate: float, random: np.random.Generator) -> Windows:
    """Freq-Mix (FrAug, arXiv 2302.09292): random bins taken from another window's spectrum.

    `others` is `[batch, length]`, a partner for each window, such as the batch in another order
    (Lag-Llama uses rate 0.25). The partner's missing values are filled; missing values of `values`
    stay so. Raises InputError for other shapes or a rate outside 0 to 1.
    """
    _check_shapes(values, others)
    spectrum = np.fft.rfft(fill_missing(values), axis=-1)
    partners = np.fft.rfft(fill_missing(others), axis=-1)
    mixed = np.where(changeable_bins(spectrum, rate, random), partners, spectrum)
    return _from_spectrum(mixed, values)


def _from_spectrum(spectrum: NDArray[np.complex128], values: Windows) -> Windows:
    mixed = np.fft.irfft(spectrum, values.shape[-1], axis=-1).astype(np.float32)
    mixed[np.isnan(values)] = np.nan
    return mixed


def mixing_weights(
    random: np.random.Generator, batch: int, count: int, concentration: float = 1.5
) -> NDArray[np.float32]:
    """Weights of TSMixup (arXiv 2403.07815, algorithm 1): Dirichlet over the first k of `count`.

    k is uniform from 1 to `count`; the rest weighs 0. Rows sum to 1. float32 `[batch, count]`.
    """
    weights = random.standard_gamma(concentration, (batch, count))
    weights *= np.arange(count) < random.integers(1, count + 1, (batch, 1))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights.astype(np.float32)


def mix_series(values: Windows, others: Windows, weights: NDArray[np.float32]) -> Windows:
    """Convex combinations of scaled windows (TSMixup, arXiv 2403.07815).

    `others` is `[batch, count, length]`, `weights` `[batch, 1 + count]`, non-negative with rows
    that sum to 1; the first column weighs `values`. A step is missing where it is in any window
    of a weight above 0. Raises InputError for other shapes or weights.
    """
    batch, length = values.shape
    count = others.shape[1] if others.ndim == 3 else 0
    if others.shape != (batch, count, length) or weights.shape != (batch, 1 + count):
        raise InputError(
            f"mix_series: others {others.shape} and weights {weights.shape} do not fit values "
            f"{values.shape}; they must be [batch, count, length] and [batch, 1 + count]"
        )
    if not ((weights >= 0).all() and np.allclose(weights.sum(axis=-1), 1, atol=1e-4)):
        raise InputError("mix_series: weights must be at least 0 and sum to 1 in every row")
    windows = np.concatenate([values[:, None], others], axis=1)
    used = weights[:, :, None] > 0
    parts = np.where(used, windows, 0) * weights[:, :, None]
    return np.asarray(parts.sum(axis=1), dtype=np.float32)


def jitter(values: Windows, deviation: float, random: np.random.Generator) -> Windows:
    """Independent normal noise of `deviation` in scaled units (Um et al. 2017)."""
    noise = random.standard_normal(values.shape, dtype=np.float32)
    noisy: Windows = values.astype(np.float32) + np.float32(deviation) * noise
    return noisy


def magnitude_scaling(values: Windows, deviation: float, random: np.random.Generator) -> Windows:
    """Each window times one log-normal factor of log-deviation `deviation`, median 1.

    Um et al. (2017) draw a normal factor; the logarithm keeps it positive.
    """
    factors = np.exp(deviation * random.standard_normal((len(values), 1)))
    scaled: Windows = (values * factors).astype(np.float32)
    return scaled


def sign_flip(values: Windows, rate: float, random: np.random.Generator) -> Windows:
    """A share `rate` of the windows mirrored at zero. Raises InputError for no share."""
    _check_share(rate, "rate")
    signs = np.where(random.random((len(values), 1)) < rate, -1.0, 1.0)
    flipped: Windows = (values * signs).astype(np.float32)
    return flipped


def aggregate(values: Windows, factor: int, anchor: Literal["start", "end"] = "end") -> Windows:
    """Means over blocks of `factor` steps, such as hours from quarters of an hour.

    `values` is `[..., length]`, the result `[..., length // factor]`; blocks begin at the first
    value or finish at the last one, and what is left over at the other end is dropped. A mean is
    that of the observed values, NaN where there is none. Raises InputError for a factor below 1
    or beyond the length.
    """
    length = values.shape[-1]
    if not 1 <= factor <= length:
        raise InputError(f"aggregate: factor {factor} must be from 1 to the length {length}")
    if anchor not in ("start", "end"):
        raise InputError(f"aggregate: anchor {anchor!r} is not 'start' or 'end'")
    count = length // factor
    kept = values[..., : count * factor] if anchor == "start" else values[..., -count * factor :]
    blocks = kept.reshape(*values.shape[:-1], count, factor)
    observed = ~np.isnan(blocks)
    number = observed.sum(axis=-1)
    totals = np.where(observed, blocks, 0).sum(axis=-1, dtype=np.float64)
    means = np.where(number > 0, totals / np.maximum(number, 1), np.nan)
    return means.astype(np.float32)


def _check_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name} {value!r} must be a share from 0 to 1")


def _check_shapes(values: Windows, others: Windows) -> None:
    if values.shape != others.shape:
        raise InputError(
            f"freq_mix: others {others.shape} must have the shape of values {values.shape}"
        )
