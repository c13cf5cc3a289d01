"""Randomness: one counter-based stream per series, independent of batch, order and threads."""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
from numpy.typing import NDArray

from laglite.window import Window


def fresh_seed() -> int:
    """A seed from the operating system, for calls that give none."""
    return secrets.randbits(63)


def path_uniforms(seed: int, window: Window, horizon: int, paths: int) -> NDArray[np.float64]:
    """Uniforms in (0, 1] for every step and path: float64 [horizon, 2, paths].

    The stream is Philox keyed by a hash of the seed and the series' own window, so that it does
    not depend on the series' place in a batch. A longer horizon continues a shorter one.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(str(seed).encode())
    digest.update(np.array([window.loc, window.scale], "<f8").tobytes())
    digest.update(window.scaled.astype("<f4").tobytes())
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))
    return 1.0 - generator.random((horizon, 2, paths))
