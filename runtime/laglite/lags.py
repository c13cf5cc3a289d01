"""Lags: the values at fixed distances back that every token carries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gather_lags(
    scaled: NDArray[np.float32], lags: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """The lagged values of the last `count` positions of `scaled`.

    Position t carries `scaled[t - lag]` for each lag; lag 0 is the current value, lag -1 stands
    for none and gives 0. `scaled` is [..., length] with length >= count + the largest lag. Returns
    float32 [..., count, lags].
    """
    length = scaled.shape[-1]
    positions = np.arange(length - count, length)
    values = scaled[..., positions[:, None] - np.maximum(lags, 0)]
    values[..., lags < 0] = 0.0
    return values
