"""Reading series from files."""

from laglite.reading.columns import Columns, TableForm
from laglite.reading.input_series import InputSeries
from laglite.reading.known_future import covariates_over
from laglite.reading.series import count_streamed, read_series, stream_series, text_series

__all__ = [
    "Columns",
    "InputSeries",
    "TableForm",
    "count_streamed",
    "covariates_over",
    "read_series",
    "stream_series",
    "text_series",
]
