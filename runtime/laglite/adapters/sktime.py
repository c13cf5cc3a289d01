"""sktime: a forecaster for its pipelines, backtests and tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.errors import InputError, missing
from laglite.forecast import Forecast
from laglite.forecaster import Forecaster
from laglite.frequency import LEAST_TIMES, parse_frequency
from laglite.model_arguments import prompt_length
from laglite.randomness import fresh_seed
from laglite.reading.grid import LONGEST_GRID, on_grid
from laglite.reading.times import Times
from laglite.shared_models import shared_model

try:
    import pandas as pd
    from sktime.forecasting.base import BaseForecaster, ForecastingHorizon
except ModuleNotFoundError as error:
    raise missing("sktime", "sktime", "laglite.adapters.sktime") from error


class LagLiteForecaster(BaseForecaster):
    """Zero-shot forecasts: `fit` and `update` keep the history, nothing is trained.

    `model`, `backend`, `precision` and `threads` are those of `laglite.Forecaster.load`, the rest
    is as in its `predict`; without a `seed`, `fit` draws one. Point forecasts are the mean. Gaps in
    the index are missing values. X holds the covariates of a model that has some, over y and over
    every step up to the last of fh; other models leave it out (tag `capability:exogenous`).

    Raises NotImplementedError for horizons in sample or longer than the model's; ValueError, as
    laglite's InputError is one, for data and arguments; BundleError where there is no such model.

    >>> from laglite.adapters.sktime import LagLiteForecaster
    >>> from sktime.datasets import load_airline
    >>> forecaster = LagLiteForecaster("nano", seed=1).fit(load_airline())
    >>> forecaster.predict_quantiles(fh=[1, 2, 3], alpha=[0.1, 0.9]).shape
    (3, 2)
    """

    _tags = {
        "authors": "laglite contributors",
        "capability:exogenous": True,
        "capability:insample": False,
        "capability:missing_values": True,
        "capability:non_contiguous_X": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:update": True,
        "requires-fh-in-fit": False,
    }
    _config = {"remember_data": False}  # history_ is what it remembers

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        num_samples: int = 100,
        context_length: int | None = None,
        seed: int | None = None,
        nonnegative: bool = False,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        self.model = model
        self.num_samples = num_samples
        self.context_length = context_length
        self.seed = seed
        self.nonnegative = nonnegative
        self.backend = backend
        self.precision = precision
        self.threads = threads
        super().__init__()

    def __post_init__(self) -> None:
        self._y = self._X = None  # the base class needs them once remember_data is switched on
        exogenous = self._opened().spec.num_covariates > 0
        self.set_tags(**{"capability:exogenous": exogenous})

    def _opened(self) -> Forecaster:
        """Not an attribute: estimators are copied, pickled and compared by their attributes."""
        return shared_model(
            self.model, backend=self.backend, precision=self.precision, threads=self.threads
        )

    def _fit(self, y: pd.Series, X: pd.DataFrame | None, fh: Any) -> LagLiteForecaster:
        prompt_length(self._opened().spec, self.context_length, 1)
        self.seed_ = fresh_seed() if self.seed is None else self.seed
        self.history_, self.covariates_ = y, X
        return self

    def _update(
        self, y: pd.Series, X: pd.DataFrame | None = None, update_params: bool = True
    ) -> LagLiteForecaster:
        self.history_ = y.combine_first(self.history_)
        if X is not None and self.covariates_ is not None:
            self.covariates_ = X.combine_first(self.covariates_)
        return self

    def _predict(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> pd.Series:
        forecast, places = self._forecast(fh, X)
        index = fh.to_absolute_index(self.cutoff)
        return pd.Series(forecast.mean[places].astype(np.float64), index, name=self.history_.name)

    def _predict_quantiles(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, alpha: list[float]
    ) -> pd.DataFrame:
        forecast, places = self._forecast(fh, X)
        values = np.stack([forecast.quantile(level)[places] for level in alpha], axis=1)
        columns = self._get_columns("predict_quantiles", alpha=alpha)
        return pd.DataFrame(values.astype(np.float64), fh.to_absolute_index(self.cutoff), columns)

    def _forecast(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None
    ) -> tuple[Forecast, NDArray[np.int64]]:
        """A forecast up to the last step of `fh`, and the places [len(fh)] of its steps in it."""
        steps = fh.to_relative(self.cutoff).to_pandas()
        if isinstance(steps, pd.TimedeltaIndex):
            steps = fh.to_absolute(self.cutoff).to_relative(self.cutoff).to_pandas()
        places = np.asarray(steps, np.int64) - 1
        horizon, model = int(places.max()) + 1, self._opened()
        try:
            prompt_length(model.spec, self.context_length, horizon)
        except InputError as error:
            raise NotImplementedError(f"{type(self).__name__} cannot: {error}") from error
        columns, start, freq = self._grid()
        covariates = None
        if self.covariates_ is not None and X is not None:
            ahead = ForecastingHorizon(np.arange(1, horizon + 1), is_relative=True, freq=fh.freq)
            future = X.reindex(
                ahead.to_absolute_index(self.cutoff), columns=self.covariates_.columns
            )
            covariates = np.concatenate([columns[:, 1:], future.to_numpy(np.float64)])
        forecast = model.predict(
            columns[:, 0], horizon=horizon, start=start, freq=freq, covariates=covariates,
            num_samples=self.num_samples, context_length=self.context_length, seed=self.seed_,
            nonnegative=self.nonnegative,
        )  # fmt: skip
        return forecast, places

    def _grid(self) -> tuple[NDArray[np.float64], Any, str | None]:
        """The history up to the cutoff, its covariates beside it: [steps, 1 + num]; start, freq."""
        history = self.history_[self.history_.index <= self.cutoff[0]]
        columns = history.to_numpy(np.float64)[:, None]
        if self.covariates_ is not None:
            known = self.covariates_.reindex(history.index).to_numpy(np.float64)
            columns = np.concatenate([columns, known], axis=1)
        index = history.index
        if not isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex)):
            return _on_whole_numbers(index.to_numpy(), columns), None, None
        # A gap before an update leaves the index without one; the cutoff keeps it.
        offset = self.cutoff.freq if index.freq is None else index.freq
        if offset is None and len(index) < LEAST_TIMES:
            raise InputError(
                f"y: its index has no frequency and {len(index)} times, which tell no frequency; "
                'give it one, such as days: y.asfreq("D")'
            )
        freq = None if offset is None else parse_frequency(offset)
        stamps = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
        times = stamps.tz_localize(None).to_numpy("datetime64[us]")
        zoned = stamps.tz is not None
        if zoned:
            moments = stamps.tz_convert(None).to_numpy("datetime64[us]")
            times = Times(times, times - moments).clock(freq)
        rows = np.arange(len(times))
        grid = on_grid("y", times, columns, rows, freq, _silent, zoned=zoned)
        return grid.values, grid.start, grid.freq.alias

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Two sets of parameters for sktime's conformance tests."""
        quick = {"model": "nano", "threads": 1, "seed": 1}
        return [
            {**quick, "num_samples": 8},
            {**quick, "num_samples": 4, "context_length": 8, "nonnegative": True},
        ]


def _on_whole_numbers(
    index: NDArray[np.int64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rows at every whole number from the first of `index` to its last, NaN where there are none.

    Raises InputError.
    """
    steps = index - index[0]
    closest = int(np.diff(steps).min()) if len(steps) > 2 else 1
    if closest > 1 or steps[-1] >= max(LONGEST_GRID, 100 * len(steps)):
        raise InputError(
            f"y: {len(steps)} rows from {index[0]} to {index[-1]}, the closest {closest} apart, "
            "though a step of a whole-number index is 1; give the rows another index"
        )
    filled = np.full((int(steps[-1]) + 1, columns.shape[1]), np.nan)
    filled[steps] = columns
    return filled


def _silent(message: str) -> None:
    """Gaps are ordinary in sktime, where indices say what is there."""
