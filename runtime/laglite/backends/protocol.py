"""What a backend offers to the sampling loop."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from laglite.backends.device import Device

Array = NDArray[np.float32]
Arguments = dict[str, Array]
EncodedPrompt = Any  # what a backend's own prefill and decoder agree on


class Decoder(Protocol):
    """Decoding of one series: a token for every path at a time, over a shared prompt."""

    tokens: Array
    """[paths, features]: the caller writes the next tokens here."""

    def step(self, cos: Array, sin: Array) -> Arguments:
        """Run `tokens` at the position whose rotary rows are cos and sin [head_dim / 2].

        Returns a [paths] array for each argument of the head, valid until the next call.
        """


class Backend(Protocol):
    """An engine with the prefill and the step graph of one bundle loaded."""

    name: str
    parallel: bool
    """Whether several threads that each run a decoder are faster than one."""
    device: Device | None
    """Where paths can be drawn on the engine itself; else None, as on the CPU and in a precision
    without a `device_step` graph."""

    def prefill(
        self, tokens: Array, cos: Array, sin: Array
    ) -> tuple[Arguments, list[EncodedPrompt]]:
        """Encode prompts [series, context, features] of one length.

        Returns the arguments at every position, [series, context] each, and for each series what
        `decoder` takes.
        """

    def embed(self, tokens: Array, cos: Array, sin: Array) -> Array:
        """States of prompts after the last norm, [series, context, width]; see `prefill`.

        Raises BackendError where the bundle's graph does not yield them.
        """

    def decoder(self, prompt: EncodedPrompt, paths: int, steps: int) -> Decoder:
        """Prepare at most `steps` steps of `paths` paths after `prompt`."""
