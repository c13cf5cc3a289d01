"""Randomness: one counter-based stream per series, independent of batch, order and threads.

A forecast's paths are drawn from uniforms `[horizon, 2, paths]`. `IndependentNoise` draws each
anew. `LatticeNoise` gets more out of the same paths: at each step the paths of a group, in the
order of their values, take the points of one randomly shifted lattice (array-RQMC, L'Ecuyer,
Lécot & Tuffin 2008, Operations Research 56), so that together they cover the distribution evenly
where independent ones leave gaps and clusters. The shift makes every uniform uniform, so each path
is as true a draw as before.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from laglite.window import Window

Array = NDArray[np.float64]

# Paths that share a lattice: small enough that groups keep several cores busy.
MOST_IN_GROUP = 32
# 1 / g and 1 / g**2 with g**3 = g + 1: the plane's counterpart of the golden ratio.
LATTICE = np.array([0.7548776662466927, 0.5698402909980532])


def fresh_seed() -> int:
    """A seed from the operating system, for calls that give none."""
    return secrets.randbits(63)


def series_stream(seed: int, window: Window) -> np.random.Generator:
    """Philox keyed by a hash of the seed and the series' own window, not its place in a batch."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(str(seed).encode())
    digest.update(np.array([window.loc, window.scale], "<f8").tobytes())
    digest.update(window.scaled.astype("<f4").tobytes())
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))


def path_uniforms(seed: int, window: Window, horizon: int, paths: int) -> Array:
    """Uniforms in (0, 1] for every step and path: float64 [horizon, 2, paths].

    A longer horizon continues a shorter one.
    """
    return 1.0 - series_stream(seed, window).random((horizon, 2, paths))


class Noise(Protocol):
    """What decides the draws of one forecast's paths; a part is a slice of the paths.

    `groups` int64 [paths] rise from 0, and are equal where paths share a lattice: among
    these, `uniforms` deals the points of a step in the order of the values of the last.
    """

    horizon: int
    paths: int
    groups: NDArray[np.int64]

    def points(self) -> Array:
        """The uniforms of all steps as they are before they are dealt: [horizon, 2, paths]."""

    def parts(self, shards: int) -> list[slice]:
        """At most `shards` parts that can be decoded apart, and give what the whole gives."""

    def uniforms(self, step: int, part: slice, state: NDArray[np.floating] | None) -> Array:
        """Uniforms [2, part] in (0, 1] for a step, after the values `state` [part] of the last."""

    def fine(self, step: int, part: slice) -> Array | None:
        """Uniforms [2, draws, part] that show the distribution of each path's next value."""


class IndependentNoise:
    """Each path by itself."""

    def __init__(self, uniforms: Array) -> None:
        self._uniforms = uniforms
        self.horizon, _, self.paths = uniforms.shape
        self.groups = np.arange(self.paths)

    def points(self) -> Array:
        return self._uniforms

    def parts(self, shards: int) -> list[slice]:
        # At least two paths each: products with a single row are rounded by kernels of their own.
        return _split(np.arange(self.paths + 1), min(shards, max(1, self.paths // 2)))

    def uniforms(self, step: int, part: slice, _: NDArray[np.floating] | None) -> Array:
        drawn: Array = self._uniforms[step][:, part]
        return drawn

    def fine(self, _: int, __: slice) -> Array | None:
        return None


class LatticeNoise:
    """Groups of paths on a lattice each, and `draws` more of every path's next value at each step.

    A longer horizon continues a shorter one.
    """

    def __init__(self, seed: int, window: Window, horizon: int, paths: int, draws: int) -> None:
        self.horizon, self.paths = horizon, paths
        groups = -(-paths // MOST_IN_GROUP)
        self._bounds = np.linspace(0, paths, groups + 1).astype(int)
        sizes = np.diff(self._bounds)
        self.groups = np.repeat(np.arange(groups), sizes)
        places = np.concatenate([np.arange(size) for size in sizes])
        shifts = series_stream(seed, window).random((horizon, 2, groups + 1))
        self._lattice = LATTICE[:, None] * places  # [2, paths]
        self._shifts = np.repeat(shifts[:, :, :-1], sizes, axis=2)  # [horizon, 2, paths]
        # A path's own points follow each other, so that they too are spread evenly.
        numbers = np.arange(paths) * draws + np.arange(draws)[:, None]
        self._fine = LATTICE[:, None, None] * numbers  # [2, draws, paths]
        self._fine_shifts = shifts[:, :, -1, None, None]

    def points(self) -> Array:
        return _shifted(self._lattice, self._shifts)

    def parts(self, shards: int) -> list[slice]:
        return _split(self._bounds, min(shards, len(self._bounds) - 1))

    def uniforms(self, step: int, part: slice, state: NDArray[np.floating] | None) -> Array:
        points = _shifted(self._lattice[:, part], self._shifts[step][:, part])
        if state is None:  # all paths stand at one place
            return points
        dealt = np.empty_like(points)
        inner = self._bounds[(self._bounds >= part.start) & (self._bounds <= part.stop)]
        for begin, end in itertools.pairwise(inner - part.start):
            order = np.argsort(state[begin:end], kind="stable")
            dealt[:, begin + order] = points[:, begin:end]
        return dealt

    def fine(self, step: int, part: slice) -> Array | None:
        if not self._fine.shape[1]:
            return None
        return _shifted(self._fine[:, :, part], self._fine_shifts[step])


def _shifted(points: Array, shifts: Array) -> Array:
    """A lattice's points in (0, 1] after a shift."""
    moved: Array = points + shifts
    moved -= np.floor(moved)  # exact, and takes a twentieth of the time of % 1
    return 1.0 - moved


def _split(bounds: NDArray[np.int64], count: int) -> list[slice]:
    """`count` slices of about the same size that begin and end at `bounds`."""
    ends = bounds[np.linspace(0, len(bounds) - 1, count + 1).astype(int)]
    return [slice(int(begin), int(end)) for begin, end in itertools.pairwise(ends)]
