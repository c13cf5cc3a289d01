"""What an engine with memory of its own offers to decoding that also draws there.

Decoding on a device launches one graph again and again over buffers that stay where they are; the
host writes the inputs before the first launch and reads the samples after the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

PREFILL, DEVICE_STEP = "prefill", "device_step"  # the graphs that programs are made of
IN_PLACE = "next_"  # an output `next_x` is written into the buffer of the input `x`
COUNTER = "step"  # the input of a device step that a launch moves on; all it writes lies after it
FIELDS = {"series": "series", "paths": "paths", "context": "prompt tokens", "steps": "steps"}


@dataclass(frozen=True)
class Capacity:
    """Fixed shapes of a compiled engine: the most it can hold of each.

    `context` are the prompt's tokens, `steps` the forecast's.
    """

    series: int
    paths: int
    context: int
    steps: int

    def exceeded_by(self, needed: Capacity) -> str | None:
        """The first number of `needed` that is too large, and which it exceeds; None if it fits."""
        for field, what in FIELDS.items():
            wanted, most = getattr(needed, field), getattr(self, field)
            if wanted > most:
                return f"{wanted:,} {what} exceed the {most:,}"
        return None


def gigabytes(count: int) -> str:
    """A number of bytes, for messages."""
    return f"{count / 1e9:.3g} GB"


class Buffer(Protocol):
    """Memory on the device for one tensor of a graph."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def write(self, array: NDArray[Any]) -> None:
        """Copy an array of the buffer's shape and dtype to the device, before later launches."""

    def read(self) -> NDArray[Any]:
        """Wait for earlier launches and copy the buffer to the host."""


class Program(Protocol):
    """A graph with every input and output bound to a buffer."""

    def launch(self) -> None:
        """Run it once, after what was launched before; may return before it is done."""


class Device(Protocol):
    """An engine's memory and its programs, of one bundle in one precision."""

    capacity: Capacity | None
    """The only shapes that programs may have; None where any will do."""
    cache_dtype: str
    """What keys and values are in the graphs, as `bundle.Precision.cache_dtype` says."""

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """Memory that holds zeros. Raises BackendError that says how much was asked for."""

    def program(self, graph: str, buffers: Mapping[str, Buffer]) -> Program:
        """A program of `graph` over `buffers` by tensor name.

        Outputs called `next_x` need no buffer of their own: they are written into that of `x`.
        Outputs without a buffer are not kept.
        """

    def free_bytes(self) -> int | None:
        """Device memory that can still be allocated; None where it is the host's."""
