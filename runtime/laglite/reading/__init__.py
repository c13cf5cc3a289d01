"""Reading series from files."""

from laglite.reading.columns import Columns
from laglite.reading.known_future import covariates_over
from laglite.reading.series import InputSeries, read_series

__all__ = ["Columns", "InputSeries", "covariates_over", "read_series"]
