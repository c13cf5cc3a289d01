"""Backends: what runs the graphs. One protocol, one module for each engine."""

from laglite.backends.availability import Availability
from laglite.backends.protocol import Backend, Decoder
from laglite.backends.selection import BACKENDS, availability, open_backend

__all__ = ["BACKENDS", "Availability", "Backend", "Decoder", "availability", "open_backend"]
