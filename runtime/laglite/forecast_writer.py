"""Forecasts to files: CSV, JSON or Parquet, a row a step; written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from laglite.atomic_file import replacing
from laglite.errors import InputError, missing
from laglite.forecast import Forecast
from laglite.frequency import format_timestamp

FORMATS = (".csv", ".json", ".parquet")


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


def render_csv(forecasts: Sequence[Forecast], quantiles: Sequence[float]) -> str:
    """The forecasts as CSV text: [unique_id,] ds (or step), mean, one column a quantile."""
    table = columns(forecasts, quantiles)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([f"{cell:.7g}" if isinstance(cell, float) else cell for cell in row])
    return text.getvalue()


def write_forecasts(path: str, forecasts: Sequence[Forecast], quantiles: Sequence[float]) -> None:
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
            pq.write_table(pa.table(columns(forecasts, quantiles)), temporary)


def columns(forecasts: Sequence[Forecast], quantiles: Sequence[float]) -> dict[str, list[Any]]:
    """One list a column, all forecasts one after the other."""
    table: dict[str, list[Any]] = {}
    if any(forecast.item_id is not None for forecast in forecasts):
        table["unique_id"] = [f.item_id for f in forecasts for _ in range(f.prediction_length)]
    timed = all(forecast.start is not None for forecast in forecasts)
    table["ds" if timed else "step"] = [label for f in forecasts for label in _labels(f, timed)]
    table["mean"] = [float(value) for f in forecasts for value in f.mean]
    for level in quantiles:
        table[f"{level:g}"] = [float(value) for f in forecasts for value in f.quantile(level)]
    return table


def _labels(forecast: Forecast, timed: bool) -> list[Any]:
    index = forecast.index
    if not timed or index is None:
        return list(range(1, forecast.prediction_length + 1))
    return [format_timestamp(stamp) for stamp in index]


def _record(forecast: Forecast, quantiles: Sequence[float]) -> dict[str, Any]:
    timed = forecast.start is not None
    return {
        "unique_id": forecast.item_id,
        "freq": forecast.freq,
        "ds" if timed else "step": _labels(forecast, timed),
        "mean": forecast.mean.tolist(),
        "quantiles": {f"{level:g}": forecast.quantile(level).tolist() for level in quantiles},
    }


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise missing("pyarrow", "tables", "writing Parquet") from error
    return pa, pq
