"""Forecasts to files: CSV, JSON or Parquet, a row a step; written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from laglite.atomic_file import replacing
from laglite.errors import InputError, missing
from laglite.forecast import Forecast, quantile_label
from laglite.frequency import Timestamps, format_timestamps

FORMATS = (".csv", ".json", ".parquet")


class Written(Protocol):
    """What is written of a forecast."""

    @property
    def item_id(self) -> str | None: ...
    @property
    def freq(self) -> str | None: ...
    @property
    def index(self) -> Timestamps | None: ...
    @property
    def prediction_length(self) -> int: ...
    @property
    def mean(self) -> NDArray[np.floating]: ...
    def quantile(self, level: float, /) -> NDArray[np.floating]: ...


@dataclass(frozen=True)
class ForecastSummary:
    """A forecast's mean and some quantiles without its paths, to keep many in memory."""

    item_id: str | None
    freq: str | None
    index: Timestamps | None
    mean: NDArray[np.floating]
    quantiles: Mapping[float, NDArray[np.floating]]

    @classmethod
    def of(cls, forecast: Forecast, levels: Sequence[float]) -> ForecastSummary:
        """The summary of a forecast for `levels`, the only ones that can then be written."""
        quantiles = {level: forecast.quantile(level) for level in levels}
        return cls(forecast.item_id, forecast.freq, forecast.index, forecast.mean, quantiles)

    @property
    def prediction_length(self) -> int:
        return len(self.mean)

    def quantile(self, level: float, /) -> NDArray[np.floating]:
        """Values [horizon] at one of the levels."""
        return self.quantiles[level]


def check_output(path: str | None) -> None:
    """Refuse an output that could not be written, before anything is computed."""
    if path is None or path == "-":
        return
    target = Path(path)
    if target.suffix not in FORMATS:
        raise InputError(f"{path}: the ending must be one of {', '.join(FORMATS)}, or use - ")
    if target.is_dir():
        raise InputError(f"{path}: is a directory")
    if not target.parent.is_dir():
        raise InputError(f"{path}: the folder {target.parent} does not exist")
    if target.suffix == ".parquet":
        _pyarrow()


def render_csv(forecasts: Sequence[Written], quantiles: Sequence[float]) -> str:
    """The forecasts as CSV text: [unique_id,] ds (or step), mean, one column a quantile."""
    table = columns(forecasts, quantiles)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([f"{cell:.7g}" if isinstance(cell, float) else cell for cell in row])
    return text.getvalue()


def write_forecasts(path: str, forecasts: Sequence[Written], quantiles: Sequence[float]) -> None:
    """Write to `path` in the format of its ending. Raises InputError if it cannot be written."""
    target = Path(path)
    with replacing(target) as temporary:
        if target.suffix == ".csv":
            temporary.write_text(render_csv(forecasts, quantiles), encoding="utf-8")
        elif target.suffix == ".json":
            records = [_record(forecast, quantiles) for forecast in forecasts]
            temporary.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
        else:
            pa, pq = _pyarrow()
            table = columns(forecasts, quantiles)
            if "ds" in table:  # times as times, not text
                stamps = [f.index for f in forecasts if f.index is not None]
                table["ds"] = np.concatenate(stamps)
            pq.write_table(pa.table(table), temporary)


def columns(forecasts: Sequence[Written], quantiles: Sequence[float]) -> dict[str, Any]:
    """One list a column, all forecasts one after the other."""
    table: dict[str, Any] = {}
    if any(forecast.item_id is not None for forecast in forecasts):
        table["unique_id"] = [f.item_id for f in forecasts for _ in range(f.prediction_length)]
    stamps = [f.index for f in forecasts]
    if any(index is None for index in stamps):
        table["step"] = [step for f in forecasts for step in range(1, f.prediction_length + 1)]
    else:
        table["ds"] = format_timestamps(np.concatenate([s for s in stamps if s is not None]))
    table["mean"] = [float(value) for f in forecasts for value in f.mean]
    for level in quantiles:
        table[quantile_label(level)] = [
            float(value) for f in forecasts for value in f.quantile(level)
        ]
    return table


def _record(forecast: Written, quantiles: Sequence[float]) -> dict[str, Any]:
    table = columns([forecast], quantiles)
    when = "ds" if "ds" in table else "step"
    return {
        "unique_id": forecast.item_id,
        "freq": forecast.freq,
        when: table[when],
        "mean": table["mean"],
        "quantiles": {name: table[name] for name in map(quantile_label, quantiles)},
    }


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing("pyarrow", "tables", "writing Parquet") from error
    return pa, pq
