"""A segment: a prompt and the steps after it, with one scale for all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from laglite.backends import Backend
from laglite.decoding import PathHistory, fill_static, prefill
from laglite.rope import rotary_tables
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode, known_features

FAR = 30.0  # scales from the window's centre: beyond what the network was trained on
FAR_VALUES = 8  # so many in a row are a new level, not outliers


class Segment:
    """One series' teacher-forced decoding between two refreshes.

    `window` has its loc and scale. `arguments` are the head's for the next value, float32 [1] each,
    valid until the next `advance`.
    """

    def __init__(
        self,
        backend: Backend,
        spec: ModelSpec,
        values: NDArray[np.float64],
        axis: TimeAxis,
        context: int,
        length: int,
    ) -> None:
        """Encode the history `values` for the `length` values after it, NaN where missing.

        Raises InputError if the model's window holds no value.
        """
        prompt = encode(spec, values, axis, context)
        tokens, steps = len(prompt.tokens), length - 1
        self._rotary = rotary_tables(spec, tokens + steps)
        (prefilled,) = prefill(backend, [prompt], self._rotary)
        self._spec, self.window = spec, prompt.window
        self.length, self.prompt_tokens = length, tokens
        self.arguments = {name: each[-1:] for name, each in prefilled.arguments.items()}
        self.steps = 0
        self._last = prompt.window.scaled[-1:]
        self._far = 0
        self._known = known_features(spec, axis, None, len(values), steps)
        self._history = PathHistory(spec, prompt, 1, length)
        self._decoder = backend.decoder(prefilled.cache, 1, steps)
        fill_static(self._decoder.tokens, spec, prompt)

    @property
    def exhausted(self) -> bool:
        """Whether the next value is the last, after which there is no step."""
        return self.steps == self.length - 1

    @property
    def lost(self) -> bool:
        """Whether the scale is no longer that of the series, or the network gives no numbers."""
        if self._far == FAR_VALUES:
            return True
        return not all(bool(np.isfinite(each).all()) for each in self.arguments.values())

    def advance(self, value: float) -> None:
        """Take the next value, NaN if it is missing, by one decoder step."""
        if not np.isnan(value):
            self._last = self.window.to_scaled(np.array([value]))
        elif self._spec.history == "zeros":
            self._last = self.window.to_scaled(np.zeros(1))
        self._far = self._far + 1 if abs(self._last[0]) > FAR else 0
        self._history.append(self._last)
        position = self.prompt_tokens + self.steps
        with np.errstate(over="ignore", invalid="ignore"):  # `lost` tells
            self._history.write_tokens(self._decoder.tokens, self._known[self.steps])
            self.arguments = self._decoder.step(
                self._rotary[0][position], self._rotary[1][position]
            )
        self.steps += 1
