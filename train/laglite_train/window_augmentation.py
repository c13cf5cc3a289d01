"""Augmentation of raw windows before they are encoded: spectra masked and mixed, series mixed.

Every window is changed by its own generator and partners drawn for it alone, so that it does not
depend on which other windows are in its batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laglite.scaling import fit_scale
from laglite_train.augmentation import (
    freq_mask,
    freq_mix,
    jitter,
    magnitude_scaling,
    mix_series,
    mixing_weights,
    sign_flip,
)
from laglite_train.draws import RawWindow

Floats = NDArray[np.float32]
SHORTEST_SPECTRUM = 16


@dataclass(frozen=True)
class AugmentationConfig:
    """Shares of windows that are changed, and how far.

    `frequency`: Freq-Mask with `mask_rate`, then Freq-Mix with `mix_rate` (Lag-Llama, section
    4.2: half of the batches, 0.5 and 0.25). `series_mix`: convex combination with up to
    `most_partners` other windows (TSMixup). `jitter` and `magnitude` are deviations in scaled
    units and of the logarithm, on every window; `sign_flip` mirrors a share at zero. Windows with
    covariates are neither mixed, masked nor mirrored: what their covariates say would no longer
    hold.
    """

    frequency: float = 0.0
    mask_rate: float = 0.5
    mix_rate: float = 0.25
    series_mix: float = 0.0
    most_partners: int = 2
    sign_flip: float = 0.0
    jitter: float = 0.0
    magnitude: float = 0.0


def augment(
    window: RawWindow,
    partner: Callable[[], RawWindow],
    config: AugmentationConfig,
    random: np.random.Generator,
) -> RawWindow:
    """The window changed as `config` says, in its own units; `partner` draws another one."""
    if window.covariates is not None:
        config = dataclasses.replace(config, frequency=0.0, series_mix=0.0, sign_flip=0.0)
    values = window.values
    if random.random() < config.frequency and len(values) >= SHORTEST_SPECTRUM:
        values = _in_scaled_units(
            values,
            lambda own: freq_mix(
                freq_mask(own, config.mask_rate, random),
                _partner_values(partner(), own.shape[-1])[None],
                config.mix_rate,
                random,
            ),
        )
    if random.random() < config.series_mix:
        weights = mixing_weights(random, 1, 1 + config.most_partners)
        count = int(np.count_nonzero(weights)) - 1
        if count:
            values = _in_scaled_units(
                values,
                lambda own: mix_series(
                    own,
                    np.stack([_partner_values(partner(), own.shape[-1]) for _ in range(count)])[
                        None
                    ],
                    weights[:, : 1 + count],
                ),
            )
    if config.sign_flip:
        values = sign_flip(values[None], config.sign_flip, random)[0]
    if config.magnitude:
        values = magnitude_scaling(values[None], config.magnitude, random)[0]
    if config.jitter:
        values = _in_scaled_units(values, lambda own: jitter(own, config.jitter, random))
    return window if values is window.values else dataclasses.replace(window, values=values)


def _in_scaled_units(values: Floats, change: Callable[[Floats], Floats]) -> Floats:
    """`change` applied to [1, length] values around 0 with an interquartile range of about 1."""
    observed = values[~np.isnan(values)]
    if not len(observed):
        return values
    loc, scale = fit_scale(observed, "iqr")
    changed = change(((values - loc) / scale).astype(np.float32)[None])[0]
    return (changed * np.float64(scale) + loc).astype(np.float32)


def _partner_values(window: RawWindow, length: int) -> Floats:
    """The last `length` values of a partner in scaled units, repeated where it is shorter.

    NaN where missing, all 0 for a partner without an observed value.
    """
    values = window.values
    observed = values[~np.isnan(values)]
    if not len(observed):
        return np.zeros(length, np.float32)
    loc, scale = fit_scale(observed, "iqr")
    scaled = ((values - loc) / scale).astype(np.float32)
    repeats = -(-length // len(scaled))
    return np.tile(scaled, repeats)[-length:]
