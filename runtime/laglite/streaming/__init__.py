"""Streaming: values one by one, from a program, standard input or an MQTT broker."""

from laglite.streaming.stream import Stream, StreamCounts, Update

__all__ = ["Stream", "StreamCounts", "Update"]
