"""Forecasts to files: CSV, JSON, JSON lines or Parquet; written whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from laglite.atomic_file import check_place, replacing
from laglite.errors import InputError, missing
from laglite.forecast import quantile_label
from laglite.forecast_table import LONG, TableLayout, Written, columns, has_times, row_times

FORMATS = (".csv", ".csv.gz", ".json", ".jsonl", ".jsonl.gz", ".parquet")
TABLES = (".csv", ".csv.gz", ".parquet")


def check_output(path: str | None, layout: TableLayout = LONG) -> None:
    """Refuse an output that could not be written, before anything is computed."""
    if path is None or path == "-":
        if sys.stdout is None:
            raise InputError("standard output: is closed; give a file (--output)")
        return
    target = Path(path)
    ending = file_format(target)
    if layout != LONG and ending not in TABLES:
        raise InputError(
            f"{path}: a layout and interval columns are for tables ({', '.join(TABLES)}, or -)"
        )
    check_place(target)
    if ending == ".parquet":
        _pyarrow()


def file_format(path: Path) -> str:
    """The ending that says how `path` is written, such as ".csv.gz". Raises InputError."""
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if ending not in FORMATS:
        raise InputError(f"{path}: the ending must be one of {', '.join(FORMATS)}, or use -")
    return ending


def render_csv(
    forecasts: Sequence[Written], quantiles: Sequence[float], layout: TableLayout = LONG
) -> str:
    """The forecasts as CSV text: [unique_id,] ds (or step), mean, one column a quantile."""
    table = columns(forecasts, quantiles, layout)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([f"{cell:.7g}" if isinstance(cell, float) else cell for cell in row])
    return text.getvalue()


def write_forecasts(
    path: str,
    forecasts: Sequence[Written],
    quantiles: Sequence[float],
    layout: TableLayout = LONG,
) -> None:
    """Write to `path` in the format of its ending. Raises InputError if it cannot be written."""
    target = Path(path)
    ending = file_format(target)
    with replacing(target) as temporary:
        if ending == ".parquet":
            _write_parquet(temporary, forecasts, quantiles, layout)
            return
        if ending in TABLES:
            text = render_csv(forecasts, quantiles, layout)
        else:
            text = _render_records(forecasts, quantiles, lines=ending != ".json")
        if ending.endswith(".gz"):
            temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            temporary.write_text(text, encoding="utf-8")


def _write_parquet(
    target: Path, forecasts: Sequence[Written], quantiles: Sequence[float], layout: TableLayout
) -> None:
    pa, pq = _pyarrow()
    table = columns(forecasts, quantiles, layout)
    if has_times(forecasts):  # as times, not text
        moments, zone = row_times(forecasts, layout)
        table["ds"] = pa.array(moments, pa.timestamp("us", zone))
    pq.write_table(pa.table(table), target)


def _render_records(
    forecasts: Sequence[Written], quantiles: Sequence[float], *, lines: bool
) -> str:
    """A JSON object a series: one list of them, or one a line."""
    records = [_record(forecast, quantiles) for forecast in forecasts]
    if lines:
        return "".join(f"{json.dumps(record)}\n" for record in records)
    return json.dumps(records, indent=1) + "\n"


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
