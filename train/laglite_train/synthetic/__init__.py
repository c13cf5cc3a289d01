"""Synthetic series, drawn on the fly from a generator: NumPy only, under a millisecond each."""

from laglite_train.synthetic.mixture import FAMILIES, SyntheticConfig, draw_series
from laglite_train.synthetic.time_grid import TimeGrid, draw_start

__all__ = ["FAMILIES", "SyntheticConfig", "TimeGrid", "draw_series", "draw_start"]
