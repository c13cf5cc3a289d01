"""A run: forecasts of many series by one model, a batch at a time, and what computes batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from laglite.arguments import as_history
from laglite.bundle import Bundle, manifest_digest
from laglite.errors import InputError, LagliteWarning, naming
from laglite.forecast import Forecast
from laglite.forecast_table import ForecastSummary
from laglite.forecaster import Forecaster
from laglite.reading import Columns, InputSeries, covariates_over
from laglite.version import __version__

SERIES_A_BATCH = 64  # forecast together, so that the paths of many series are not kept


def forecast_series(
    forecaster: Forecaster,
    series: Sequence[InputSeries],
    covariates: Sequence[NDArray[np.float64] | None],
    **options: Any,
) -> list[Forecast]:
    """`predict_batch` of series as they were read, whose forecasts keep their time zone.

    `options` are the others of `predict_batch`. Raises InputError.
    """
    forecasts = forecaster.predict_batch(
        [one.values for one in series],
        start=[one.start for one in series],
        freq=[None if one.start is None or one.freq is None else one.freq.alias for one in series],
        covariates=covariates,
        item_ids=[one.item_id for one in series],
        **options,
    )
    return [replace(one, zone=read.zone) for one, read in zip(forecasts, series, strict=True)]


@dataclass(frozen=True)
class Batch:
    """Series to forecast together, their covariates, and of how many the paths are wanted."""

    series: Sequence[InputSeries]
    covariates: Sequence[NDArray[np.float64] | None]
    keep: int


@dataclass(frozen=True)
class BatchForecasts:
    """Forecasts of a batch: the first with their paths, all without, and what was warned of."""

    kept: list[Forecast]
    summaries: list[ForecastSummary]
    warnings: list[str]


@dataclass(frozen=True)
class ForecastRun:
    """What is to be forecast of every series of a source, and how."""

    source: str
    columns: Columns
    horizon: int
    samples: int
    context: int | None
    quantiles: tuple[float, ...]
    nonnegative: bool

    def check(self, series: Sequence[InputSeries]) -> None:
        """Raise InputError for the first series that has no values, before any is forecast."""
        try:
            for row, one in enumerate(series):
                with naming(str(row) if one.item_id is None else repr(one.item_id)):
                    as_history(one.values)
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from error

    def batches(self, series: Sequence[InputSeries], keep: int = 0) -> list[Batch]:
        """The series in batches; the paths of the first `keep` are wanted. Raises InputError."""
        names = self.columns.covariates
        covariates = [covariates_over(one, self.horizon, self.source, names) for one in series]
        return [
            Batch(
                series[begin : begin + SERIES_A_BATCH],
                covariates[begin : begin + SERIES_A_BATCH],
                max(0, keep - begin),
            )
            for begin in range(0, len(series), SERIES_A_BATCH)
        ]

    def forecast(self, forecaster: Forecaster, batch: Batch, seed: int) -> BatchForecasts:
        """Forecast a batch. Raises InputError, which names the source and the series."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LagliteWarning)
            try:
                forecasts = forecast_series(
                    forecaster,
                    batch.series,
                    batch.covariates,
                    horizon=self.horizon,
                    num_samples=self.samples,
                    context_length=self.context,
                    seed=seed,
                    nonnegative=self.nonnegative,
                )
            except InputError as error:
                raise InputError(f"{self.source}: {error}") from error
        return BatchForecasts(
            forecasts[: batch.keep],
            [ForecastSummary.of(one, self.quantiles) for one in forecasts],
            list(dict.fromkeys(str(warning.message) for warning in caught)),
        )

    def plan(self, bundle: Bundle, precision: str, series_a_part: int) -> dict[str, Any]:
        """What parts of one run have in common, whichever engine computed them."""
        file = Path(self.source).stat()
        return {
            "input": {"bytes": file.st_size, "modified": file.st_mtime_ns},
            "model": manifest_digest(bundle.path),
            "version": __version__,
            "precision": precision,
            "horizon": self.horizon,
            "samples": self.samples,
            "context": self.context,
            "quantiles": list(self.quantiles),
            "nonnegative": self.nonnegative,
            "covariates": list(self.columns.covariates),
            "series_a_part": series_a_part,
        }


class Engine(Protocol):
    """What computes the batches of a run."""

    @property
    def bundle(self) -> Bundle: ...

    def forecasts(
        self, run: ForecastRun, batches: Iterable[Batch], seed: int
    ) -> Iterator[BatchForecasts]:
        """The forecasts of each batch, in order, taking batches only as fast as they are done.

        Raises InputError for a series that cannot be forecast.
        """


@dataclass(frozen=True)
class LocalEngine:
    """Computes in this process."""

    forecaster: Forecaster

    @property
    def bundle(self) -> Bundle:
        return self.forecaster.bundle

    def forecasts(
        self, run: ForecastRun, batches: Iterable[Batch], seed: int
    ) -> Iterator[BatchForecasts]:
        """See `Engine.forecasts`; a batch is taken when the one before has been used."""
        for batch in batches:
            yield run.forecast(self.forecaster, batch, seed)
