"""Backtests: how good forecasts are, beside seasonal naive.

>>> from laglite.evaluation import backtest
>>> result = backtest(forecaster, series, horizon=24, windows=3, freq="h")
>>> result.model.wql, result.relative_wql, result.model.coverage[80]
"""

from laglite.evaluation.backtest import Backtest, backtest
from laglite.evaluation.metrics import Metrics
from laglite.evaluation.seasonal_naive import default_season

__all__ = ["Backtest", "Metrics", "backtest", "default_season"]
