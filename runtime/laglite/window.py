"""Windows: the last `context + max lag` values of a history, with what is missing filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError
from laglite.scaling import fit_scale
from laglite.spec import ModelSpec

Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True)
class Window:
    """What the model sees of one history.

    `scaled` float32 [max_lag + tokens] is the filled and scaled window, whose last `tokens`
    positions become the prompt; `first` is the step of its first position relative to the
    history's first value, negative where the window reaches back before it. `loc` and `scale` map
    data units to scaled units for the whole forecast.
    """

    scaled: NDArray[np.float32]
    loc: float
    scale: float
    tokens: int
    first: int

    def to_scaled(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Data units to scaled units, any shape; infinite beyond what float32 holds."""
        with np.errstate(over="ignore"):
            return ((values - self.loc) / self.scale).astype(np.float32)

    def to_data(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scaled units to data units, any shape; infinite beyond what float32 holds."""
        with np.errstate(over="ignore"):
            return (scaled.astype(np.float64) * self.scale + self.loc).astype(np.float32)


def build_window(history: NDArray[np.float64], spec: ModelSpec, context_length: int) -> Window:
    """Cut, fill and scale the window before the forecast.

    `history` [length] has NaN where a value is missing. The rules are those of `spec.history` and
    `spec.scaling`; loc and scale use observed values only. Raises InputError if the window holds
    no observed value.
    """
    length = spec.max_lag + context_length
    values = history[-length:]
    observed = ~np.isnan(values)
    if not observed.any():
        raise InputError(f"the last {len(values)} values, all that the model looks at, are missing")
    loc, scale = fit_scale(values[observed], spec.scaling)
    if spec.history == "zeros":
        tokens = context_length
        filled = np.where(observed, values, 0.0).astype(np.float32)
        padded = np.concatenate([np.zeros(length - len(values), np.float32), filled])
        scaled = (padded - np.float32(loc)) / np.float32(scale)
    else:
        start = int(observed.argmax())
        tokens = min(context_length, len(values) - start)
        scaled = np.zeros(spec.max_lag + tokens, np.float32)  # zero: the centre of the scale
        known = (carry_forward(values[start:]) - loc) / scale
        scaled[-min(len(known), len(scaled)) :] = known[-len(scaled) :]
    return Window(scaled, loc, scale, tokens, len(history) - len(scaled))


def carry_forward(values: NDArray[Number]) -> NDArray[Number]:
    """Replace each NaN by the last value before it. `values` [length] must not begin with NaN."""
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[last]
