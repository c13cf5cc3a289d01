"""How often streams raise an alarm on ordinary values, and on inserted spikes.

    python benchmarks/stream_alarms.py DATA --output FILE.json [--sets ett_h1,us_births,...]
                                       [--rate 0.01] [--series 6] [--values 6000] [--spikes 40]

DATA is a folder of data sets. Of each, the first --series series go through a stream value by
value, at most --values of each after as much history as the model looks at (a third of shorter
series), once as they are and once with --spikes single values, in steps drawn at random, moved up
or down by 6 scales of the window at that moment. A Markdown table is written beside FILE.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from result_files import write_results

from laglite import Forecaster, Stream
from laglite.evaluation.datasets import list_datasets, read_dataset
from laglite.reading import Columns, InputSeries

MODELS = ("nano", "base")
SPIKE = 6.0  # scales
QUIET = 50  # values before the first spike


def opened(
    forecaster: Forecaster, one: InputSeries, rate: float, adaptive: bool, most: int
) -> tuple[Stream, NDArray[np.float64]]:
    """A stream after a series' history, and the values to come."""
    spec = forecaster.spec
    begin = min(spec.max_lag + spec.context_length, len(one.values) // 3)
    timed = one.start is not None and one.freq is not None
    stream = forecaster.stream(
        one.values[:begin],
        start=one.start if timed else None,
        freq=one.freq.alias if timed and one.freq is not None else None,
        alarm_rate=rate,
        adaptive=adaptive,
    )
    return stream, one.values[begin : begin + most]


def count_alarms(stream: Stream, values: NDArray[np.float64]) -> tuple[int, int]:
    """Alarms, and observed values."""
    alarms = sum(stream.update(value).outside for value in values)
    return alarms, int((~np.isnan(values)).sum())


def count_caught(stream: Stream, values: NDArray[np.float64], spikes: int) -> tuple[int, int]:
    """Spikes that raise an alarm, and spikes."""
    random = np.random.default_rng(1)
    places = set(random.choice(np.arange(QUIET, len(values)), spikes, replace=False).tolist())
    caught = inserted = 0
    for place, value in enumerate(values):
        if place in places and not np.isnan(value):
            side = 1 if random.random() < 0.5 else -1
            caught += stream.update(value + side * SPIKE * stream.scale).outside
            inserted += 1
        else:
            stream.update(value)
    return caught, inserted


def measure(
    forecaster: Forecaster, series: list[InputSeries], rate: float, most: int, spikes: int
) -> dict[str, Any]:
    """Sums over the series, without and with the adaptive level."""
    found: dict[str, Any] = {}
    for adaptive in (False, True):
        sums = np.zeros(4, int)
        for one in series:
            share = max(1, spikes * min(most, len(one.values)) // most)  # as many a value
            quiet = count_alarms(*opened(forecaster, one, rate, adaptive, most))
            spiked = count_caught(*opened(forecaster, one, rate, adaptive, most), share)
            sums += [*quiet, *spiked]
        alarms, values, caught, inserted = sums.tolist()
        found["adaptive" if adaptive else "fixed"] = {
            "alarms": alarms, "values": values, "caught": caught, "spikes": inserted,
        }  # fmt: skip
    return found


def to_markdown(rows: list[dict[str, Any]], rate: float) -> str:
    lines = [
        "# Alarms of streams",
        "",
        f"Share of ordinary values that raise an alarm at a rate of {100 * rate:g} %, and inserted "
        f"spikes of {SPIKE:g} scales that do.",
        "",
        "| model | series | values | alarms | spikes | adaptive: alarms | spikes |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [f"`{row['model']}`", row["set"], f"{row['fixed']['values']:,}"]
        for kind in ("fixed", "adaptive"):
            one = row[kind]
            cells.append(f"{100 * one['alarms'] / one['values']:.2f} %")
            cells.append(f"{one['caught']} of {one['spikes']}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("data")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--sets", default="ett_h1,us_births,victoria_electricity,m4_hourly,nn5_daily")
@click.option("--rate", type=float, default=0.01, show_default=True)
@click.option("--series", type=click.IntRange(1), default=6, show_default=True)
@click.option("--values", type=click.IntRange(100), default=6000, show_default=True)
@click.option("--spikes", type=click.IntRange(1), default=40, show_default=True)
def main(
    data: str, output: Path, sets: str, rate: float, series: int, values: int, spikes: int
) -> None:
    """Measure alarms on DATA's series."""
    datasets = {one.name: one for one in list_datasets(data, None, None, None)}
    rows = []
    for model in MODELS:
        forecaster = Forecaster.load(model, threads=1)
        for name in sets.split(","):
            found = read_dataset(datasets[name], Columns(), lambda _: None)[:series]
            measured = measure(forecaster, found, rate, values, spikes)
            rows.append({"model": model, "set": name, "series": len(found), **measured})
            click.echo(f"{model} {name}", err=True)
    content = {"rate": rate, "spike_scales": SPIKE, "rows": rows}
    write_results(output, content, to_markdown(rows, rate))


if __name__ == "__main__":
    main()
