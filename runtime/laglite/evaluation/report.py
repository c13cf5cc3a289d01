"""Backtests to JSON and CSV, and their summary over several data sets."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from laglite.atomic_file import check_place, replacing
from laglite.errors import InputError
from laglite.evaluation.backtest import NAIVE, NAIVE_POINT, Backtest, relative_wql
from laglite.evaluation.metrics import INTERVALS, Metrics
from laglite.evaluation.profile import Profile

Backtests = Mapping[str, Backtest]  # by data set

FORMATS = (".json", ".csv")


def check_report(path: Path) -> None:
    """Refuse an output that could not be written, before anything is computed."""
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: the ending must be one of {', '.join(FORMATS)}")
    check_place(path)


def write_report(
    path: Path, results: Backtests, settings: Mapping[str, Any], *, per_series: bool = False
) -> None:
    """Write JSON or CSV by the ending of `path`. Raises InputError if it cannot be written."""
    if path.suffix == ".csv":
        text = render_csv(results, per_series=per_series)
    else:
        report = as_json(results, settings, per_series=per_series, profiles=True)
        text = json.dumps(report, indent=1) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def geometric_mean(values: Iterable[float]) -> float:
    """Geometric mean of positive numbers; NaN if there is none or any is NaN or 0."""
    logs = [math.log(value) if value > 0 else math.nan for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def mean_relative_wql(results: Backtests, method: str) -> float:
    """Geometric mean over data sets of a method's WQL relative to seasonal naive."""
    return geometric_mean(relative_wql(each.overall, method) for each in results.values())


def pooled_coverage(results: Backtests, method: str, interval: int) -> float:
    """Share of all observed values of all data sets inside a method's central interval."""
    metrics = [each.overall[method] for each in results.values()]
    total = sum(each.values for each in metrics)
    return sum(each.coverage[interval] * each.values for each in metrics) / total


def as_json(
    results: Backtests,
    settings: Mapping[str, Any],
    *,
    per_series: bool = False,
    profiles: bool = False,
) -> dict[str, Any]:
    """The report: the model's figures first, in the form of a bundle's `evaluation`.

    `relative_wql` is the geometric mean over `data_sets`; undefined figures are null. With
    `profiles`, each data set has the loss by step and the calibration of every method too.
    """
    methods = list(next(iter(results.values())).overall)
    model = methods[0]
    data_sets = {}
    for name, result in results.items():
        entry: dict[str, Any] = {
            "series": len(result.per_series),
            "horizon": result.horizon,
            **_record(result.overall, model),
            "wql_seasonal_naive": result.overall[NAIVE].wql,
            "methods": {method: _record(result.overall, method) for method in methods[1:]},
        }
        if per_series:
            entry["per_series"] = {
                item: {method: _record(metrics, method) for method in methods}
                for item, metrics in result.per_series.items()
            }
        if profiles:
            entry["profiles"] = {
                method: _profile_record(profile) for method, profile in result.profiles.items()
            }
        data_sets[name] = entry
    summaries = {
        method: {
            "relative_wql": mean_relative_wql(results, method),
            **{f"coverage_{i}": pooled_coverage(results, method, i) for i in INTERVALS},
        }
        for method in methods
    }
    report = {
        "model": model,
        **summaries[model],
        "settings": dict(settings),
        "methods": summaries,
        "data_sets": data_sets,
    }
    plain: dict[str, Any] = _without_nan(report)
    return plain


def render_csv(results: Backtests, *, per_series: bool = False) -> str:
    """A row for each data set and method, or for each series of it and method."""
    rows = []
    for name, result in results.items():
        groups = result.per_series if per_series else {"": result.overall}
        for item, metrics in groups.items():
            label = {"data_set": name, **({"unique_id": item} if per_series else {})}
            rows += [{**label, "method": m, **_record(metrics, m)} for m in metrics]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _record(metrics: Mapping[str, Metrics], method: str) -> dict[str, Any]:
    """One method's figures under flat names."""
    own = metrics[method]
    return {
        "windows": own.windows,
        "values": own.values,
        "wql": own.wql,
        "relative": relative_wql(metrics, method),
        "relative_to_point": relative_wql(metrics, method, NAIVE_POINT),
        "mase": own.mase,
        "rmse": own.rmse,
        **{f"coverage_{interval}": own.coverage[interval] for interval in INTERVALS},
        **{f"width_{interval}": own.width[interval] for interval in INTERVALS},
        **{f"relative_width_{interval}": own.relative_width[interval] for interval in INTERVALS},
    }


def _profile_record(profile: Profile) -> dict[str, Any]:
    """One method's profile: lists over the steps of the horizon, and over PIT bins."""
    return {
        "by_step": {
            "wql": list(profile.wql_by_step),
            "values": list(profile.values),
            "loss": list(profile.loss),
            "magnitude": list(profile.magnitude),
        },
        "central_coverage": {str(percent): share for percent, share in profile.coverage.items()},
        "pit": list(profile.pit_shares),
    }


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.7g}"
    return value


def _without_nan(value: Any) -> Any:
    """NaN, which JSON has no word for, as null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
