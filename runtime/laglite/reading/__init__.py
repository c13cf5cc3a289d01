"""Reading series from files."""

from laglite.reading.columns import Columns
from laglite.reading.known_future import covariates_over
from laglite.reading.series import InputSeries, count_streamed, read_series, stream_series

__all__ = [
    "Columns",
    "InputSeries",
    "count_streamed",
    "covariates_over",
    "read_series",
    "stream_series",
]
