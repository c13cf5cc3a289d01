"""laglite: probabilistic forecasts with a small transformer, on NumPy and onnxruntime.

>>> from laglite import Forecaster
>>> forecast = Forecaster.load().predict(values, horizon=24, start="2024-01-01", freq="h")
>>> forecast.quantile(0.9)
"""

from laglite.errors import LagliteError, LagliteWarning
from laglite.forecast import Forecast, Score
from laglite.forecaster import Forecaster
from laglite.streaming import Stream
from laglite.version import __version__

__all__ = [
    "Forecast",
    "Forecaster",
    "LagliteError",
    "LagliteWarning",
    "Score",
    "Stream",
    "__version__",
]
