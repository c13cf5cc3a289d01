"""Reading series from files."""

from laglite.reading.columns import Columns
from laglite.reading.series import InputSeries, read_series

__all__ = ["Columns", "InputSeries", "read_series"]
