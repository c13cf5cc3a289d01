"""A short run that proves a backend before it is relied on."""

from __future__ import annotations

import numpy as np

from laglite.backends.protocol import Backend
from laglite.bundle import Precision
from laglite.errors import BackendError
from laglite.rope import rotary_tables
from laglite.spec import ModelSpec

LOOSE = 10  # times the tolerance of the precision: both graphs round, and so do their caches


def probe(backend: Backend, spec: ModelSpec, precision: Precision) -> None:
    """Encode two tokens together, and one before the other: both ways give the same distribution.

    Raises BackendError if they do not, or cannot run.
    """
    tokens = np.stack([np.full(spec.num_features, value, np.float32) for value in (0.25, -0.5)])
    cos, sin = rotary_tables(spec, len(tokens))
    together, _ = backend.prefill(tokens[None], cos, sin)
    _, (prompt,) = backend.prefill(tokens[None, :1], cos[:1], sin[:1])
    decoder = backend.decoder(prompt, 1, 1)
    decoder.tokens[:] = tokens[1]
    apart = decoder.step(cos[1], sin[1])
    for name in spec.arguments:
        expected, found = float(together[name][0, 1]), float(apart[name][0])
        allowed = LOOSE * precision.tolerance * max(1.0, abs(expected))
        if not abs(found - expected) <= allowed:
            raise BackendError(
                f"backend {backend.name!r} gives wrong numbers: {name} is {expected:g} by the "
                f"prefill and {found:g} by a step; update its libraries, or use backend 'cpu'"
            )
