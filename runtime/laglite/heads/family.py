"""What every head offers, and what they share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from laglite.window import Window

FINE_DRAWS = 20
Array = NDArray[np.float64]
Arguments = Mapping[str, NDArray[np.floating]]


class Head(Protocol):
    """A distribution family; arrays broadcast over any shape, uniforms are [2, ...].

    `fine_draws` are as many draws of a path's distribution at one step as show it well, 0 where
    they cost more than they tell.
    """

    fine_draws: int

    def sample(self, arguments: Arguments, uniforms: Array, window: Window) -> Array:
        """One draw for each pair of uniforms in (0, 1], in scaled units."""

    def log_prob(self, arguments: Arguments, values: Array, window: Window) -> Array:
        """Log density (mass, for counts) of `values` in data units."""

    def cdf(self, arguments: Arguments, values: Array, window: Window) -> Array:
        """Probability of a value at most `values`."""

    def quantile(self, arguments: Arguments, levels: Array, window: Window) -> Array:
        """The value in data units whose cdf is `levels`, each in (0, 1); the least, for counts."""


def affine(arguments: Arguments, draws: Array) -> Array:
    """Draws of the standard distribution to scaled units."""
    return np.asarray(arguments["loc"] + arguments["scale"] * draws, np.float64)


def to_data(scaled: Array, window: Window) -> Array:
    """Scaled units to data units in double precision."""
    values: Array = scaled * window.scale + window.loc
    return values


def standardise(arguments: Arguments, values: Array, window: Window) -> tuple[Array, Array]:
    """Standard units of `values`, and the log of the distribution's scale in data units."""
    scale = np.asarray(arguments["scale"], np.float64)
    z = ((values - window.loc) / window.scale - arguments["loc"]) / scale
    return z, np.log(scale) + math.log(window.scale)


def numbered(arguments: Arguments, kind: str) -> Array:
    """The arguments `kind_1`, `kind_2`, ..., stacked along a first axis: [count, ...]."""
    names = [name for name in arguments if name.startswith(f"{kind}_")]
    return np.stack([np.asarray(arguments[name], np.float64) for name in names])


def choose(stacked: Array, number: NDArray[np.intp]) -> Array:
    """Of numbers [count, ...] that broadcast, those at `number` [...] along the first axis."""
    each = np.broadcast_to(stacked, (len(stacked), *number.shape))
    chosen: Array = np.take_along_axis(each, number[None], axis=0)[0]
    return chosen
