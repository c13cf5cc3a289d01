"""Backends: what runs the two graphs. One protocol, one module for each engine."""

from laglite.backends.protocol import Backend, Decoder
from laglite.backends.selection import BACKENDS, open_backend

__all__ = ["BACKENDS", "Backend", "Decoder", "open_backend"]
