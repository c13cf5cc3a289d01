"""Lags: the values at fixed distances back that every token carries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gather_lags(
    scaled: NDArray[np.float32], lags: tuple[int, ...], count: int
) -> NDArray[np.float32]:
    """The lagged values of the last `count` positions of `scaled`.

    Position t carries `scaled[t - lag]` for each lag; lag 0 is the current value.
    `scaled` is [..., length] with length >= count + lags[-1]. Returns float32 [..., count, lags].
    """
    length = scaled.shape[-1]
    positions = np.arange(length - count, length)
    return scaled[..., positions[:, None] - np.asarray(lags)]
