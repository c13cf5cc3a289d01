"""Measurements as JSON and Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from laglite.benchmarking.measure import Measurement
from laglite.benchmarking.operators import Operator
from laglite.benchmarking.workload import Workload

Results = Sequence[tuple[Workload, Measurement]]
HEADINGS = (
    "precision", "threads", "context", "horizon", "paths", "p50 ms", "p90", "p95", "p99",
    "steps/s", "floor ms", "/ floor", "load ms", "first call ms", "to first ms", "peak MB",
)  # fmt: skip


def cells(workload: Workload, found: Measurement) -> list[str]:
    """One row under HEADINGS."""
    return [
        workload.precision,
        str(workload.threads),
        str(found.context),
        str(workload.horizon),
        str(workload.paths),
        *(f"{found.latency[key]:.1f}" for key in ("p50", "p90", "p95", "p99")),
        f"{found.steps_per_second:.0f}",
        f"{found.floor:.1f}",
        f"{found.ratio:.2f}",
        *(f"{value:.0f}" for value in (found.load, found.first_call, found.until_first)),
        f"{found.resident_peak:.0f}",
    ]


def to_json(
    machine: Mapping[str, Any], results: Results, operators: Sequence[Operator] = ()
) -> dict[str, Any]:
    """Everything measured, as plain values."""
    return {
        "environment": dict(machine),
        "results": [
            {"workload": dataclasses.asdict(workload), **dataclasses.asdict(found)}
            for workload, found in results
        ],
        "operators": [dataclasses.asdict(operator) for operator in operators],
    }


def to_markdown(
    machine: Mapping[str, Any], results: Results, operators: Sequence[Operator] = ()
) -> str:
    """Environment, one row a workload, its stages, and operators if there are any."""
    lines = ["# laglite bench", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += ["", *_table(HEADINGS, [cells(workload, found) for workload, found in results])]
    stages = [*results[0][1].stages]
    lines += ["", "Stages of the median call, ms:", ""]
    lines += _table(
        (*HEADINGS[:5], *stages),
        [
            [*cells(workload, found)[:5], *(f"{found.stages[name]:.2f}" for name in stages)]
            for workload, found in results
        ],
    )
    if operators:
        lines += ["", "Operators of a forecast, by onnxruntime's profiler:", ""]
        lines += _table(OPERATOR_HEADINGS, [operator_cells(operator) for operator in operators])
    return "\n".join(lines) + "\n"


OPERATOR_HEADINGS = ("graph", "operator", "calls", "ms", "share")


def operator_cells(operator: Operator) -> list[str]:
    """One row under OPERATOR_HEADINGS."""
    return [
        operator.graph,
        operator.name,
        f"{operator.calls:.0f}",
        f"{operator.milliseconds:.2f}",
        f"{100 * operator.share:.1f} %",
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruler = "|" + "---:|" * len(headings)
    return [_row(headings), ruler, *(_row(row) for row in rows)]


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"
