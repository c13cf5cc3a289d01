"""Fine-tuning on a data set's past against zero-shot, on held-back ends, as one command.

    python benchmarks/finetuning.py FOLDER [NAME ...] [--model base] [--windows K] [--search]
                                    [--context N] [--learning-rate LR] [--steps N] [--freeze RULE]
                                    [--output finetuning.json]

FOLDER holds data sets in the Parquet series format and their `manifest.csv` (columns dataset,
horizon, seasonality); NAMEs are some of them, by default all. Every data set is fine-tuned alone.
The last K horizons of each series are held back from training and selection, and forecast from the
values before each: by both models, and by seasonal naive. By default K makes 28 windows where there
are fewer series. With --output, Markdown is written beside the JSON.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from result_files import write_results

from laglite.bundle import MANIFEST
from laglite.cli.model_options import note
from laglite.errors import InputError, LagliteError
from laglite.evaluation.datasets import DataSet, list_datasets, read_dataset
from laglite.reading import Columns, InputSeries
from laglite_export.base_model import Base, load_base
from laglite_export.finetuning import (
    ZERO_SHOT,
    BacktestSettings,
    export_tuned,
    held_back_windows,
)
from laglite_train.finetuning import (
    FineTuneConfig,
    check_context,
    inherited_rollout,
    inherited_sampling,
)
from laglite_train.finetuning_search import LEARNING_RATES, allowed_contexts, run_once, search
from laglite_train.time_split import check_counts, check_covariates, split_in_time

WANTED_WINDOWS = 28


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the command line says of all data sets."""

    windows: int | None
    context: int | None
    search: bool
    samples: int


def default_windows(series: Sequence[InputSeries], horizon: int) -> int:
    """Windows a series that make `WANTED_WINDOWS` in all, within a tenth of the shortest."""
    wanted = -(-WANTED_WINDOWS // len(series))
    shortest = min(len(one.values) for one in series)
    return max(1, min(wanted, shortest // (10 * horizon)))


def measure(dataset: DataSet, base: Base, config: FineTuneConfig, choice: Choice) -> dict[str, Any]:
    """Fine-tune on one data set; figures of both models, as the exported bundle states them."""
    series = read_dataset(dataset, Columns(), note)
    windows = choice.windows or default_windows(series, dataset.horizon)
    split = split_in_time(dataset.name, series, dataset.horizon, windows, note)
    spec = base.model.spec
    check_covariates(split, spec.num_covariates)
    check_counts(split, spec.head)
    check_context(spec, choice.context or spec.context_length, dataset.horizon)

    def tell(message: str) -> None:
        note(f"{dataset.name}: {message}")

    contexts = [choice.context or spec.context_length]
    if choice.search:
        contexts = allowed_contexts(spec, split)
    measured = held_back_windows(split, spec, contexts, dataset.season, tell)
    begin = time.perf_counter()
    if choice.search:
        outcome = search(
            base.model, split, config, contexts=contexts,
            learning_rates=LEARNING_RATES, tell=tell, progress=False,
        )  # fmt: skip
    else:
        outcome = run_once(
            base.model, split, config, context=choice.context, tell=tell, progress=False
        )
    seconds = time.perf_counter() - begin
    settings = BacktestSettings(choice.samples, config.seed, config.threads)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / dataset.name
        export_tuned(
            outcome, base, split, measured, config, settings, output, name=dataset.name,
            license_name=base.license_name, overwrite=False,
        )  # fmt: skip
        manifest = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
    figures = manifest["evaluation"]["data_sets"][dataset.name]
    zero_shot = figures["methods"][ZERO_SHOT]
    tell(f"WQL {zero_shot['wql']:.4f} zero-shot, {figures['wql']:.4f} fine-tuned")
    training = manifest["training"]
    del training["base"]
    return {
        "horizon": dataset.horizon,
        "windows": windows,
        "series": len(split.parts),
        "wql_change": figures["wql"] / zero_shot["wql"] - 1,
        "seconds": seconds,
        "evaluation": figures,
        "training": training,
    }


def to_markdown(results: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """A row for each data set: zero-shot, then fine-tuned."""
    lines = [
        "# Fine-tuning on the past of data sets",
        "",
        "`python benchmarks/finetuning.py FOLDER`, with the settings named below. A left figure is "
        "zero-shot, a right one fine-tuned. What was forecast was held back from training and from "
        "every choice.",
        "",
        "| data set | windows x steps | WQL | change | relative to naive | MASE | in 80 % "
        "| context | learning rate | steps | minutes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, result in results.items():
        tuned, training = result["evaluation"], result["training"]
        before = tuned["methods"][ZERO_SHOT]
        pairs = [
            f"{before['wql']:.4f} -> {tuned['wql']:.4f}",
            f"{100 * result['wql_change']:+.1f} %",
            f"{before['relative']:.3f} -> {tuned['relative']:.3f}",
            f"{before['mase']:.3f} -> {tuned['mase']:.3f}",
            f"{100 * before['coverage_80']:.1f} -> {100 * tuned['coverage_80']:.1f}",
        ]
        cells = [
            name,
            f"{tuned['windows']} x {result['horizon']}",
            *pairs,
            str(training["context_length"]),
            f"{training['learning_rate']:g}",
            str(training["steps"]),
            f"{result['seconds'] / 60:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    facts = ", ".join(f"{name} {value}" for name, value in about.items())
    return "\n".join([*lines, "", facts, ""])


def choose(folder: str, names: Sequence[str]) -> list[DataSet]:
    """The data sets called `names`, all without any. Raises InputError for an unknown name."""
    found = {dataset.name: dataset for dataset in list_datasets(folder, None, None, None)}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise InputError(f"{folder}: no data set {unknown[0]!r}; there are {', '.join(found)}")
    return [found[name] for name in names or found]


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("names", nargs=-1)
@click.option("--model", default="base", show_default=True, help="Checkpoint, bundle or name.")
@click.option("--windows", type=click.IntRange(1), help="Horizons held back of each series.")
@click.option("--search", "searching", is_flag=True, help="Search context and learning rate.")
@click.option("--context", type=click.IntRange(1), help="Tokens of history.")
@click.option("--learning-rate", type=float, default=FineTuneConfig.learning_rate)
@click.option("--steps", type=click.IntRange(1), default=FineTuneConfig.steps, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=FineTuneConfig.batch_size)
@click.option("--freeze", default=FineTuneConfig.freeze, show_default=True)
@click.option("--samples", type=click.IntRange(1), default=100, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1))
@click.option("--output", type=click.Path(path_type=Path), help="Write JSON, and Markdown beside.")
def main(
    folder: str,
    names: tuple[str, ...],
    model: str,
    windows: int | None,
    searching: bool,
    context: int | None,
    learning_rate: float,
    steps: int,
    batch: int,
    freeze: str,
    samples: int,
    seed: int,
    threads: int | None,
    output: Path | None,
) -> None:
    """Fine-tune MODEL on each data set of FOLDER, and measure both on the held-back ends."""
    try:
        base = load_base(model)
        config = FineTuneConfig(
            learning_rate=learning_rate, steps=steps, batch_size=batch, freeze=freeze, seed=seed,
            threads=threads, sampling=inherited_sampling(base.model.spec, base.training),
            rollout=inherited_rollout(base.training),
        )  # fmt: skip
        choice = Choice(windows, context, searching, samples)
        results = {
            dataset.name: measure(dataset, base, config, choice)
            for dataset in choose(folder, names)
        }
    except LagliteError as error:
        raise click.ClickException(str(error)) from error
    about = {
        "model": base.name,
        "weights": base.model.spec.num_parameters,
        "steps at most": steps,
        "batch": batch,
        "search": searching,
        "freeze": freeze,
        "samples": samples,
        "seed": seed,
    }
    text = to_markdown(results, about)
    click.echo(text, nl=False)
    if output is not None:
        write_results(output, {"about": about, "data_sets": results}, text)


if __name__ == "__main__":
    main()
