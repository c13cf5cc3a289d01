"""`laglite finetune`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from laglite.cli.completion import complete_path
from laglite.cli.evaluate import progress_bar
from laglite.cli.evaluation_tables import dataset_table, print_table
from laglite.cli.model_options import note
from laglite.cli.table_options import table_options
from laglite.errors import LagliteWarning, missing
from laglite.reading import Columns, read_series


@click.command()
@click.option(
    "--model",
    required=True,
    shell_complete=complete_path,
    help="Checkpoint, bundle directory, or a shipped model's name.",
)
@click.option(
    "--data",
    required=True,
    shell_complete=complete_path,
    help="CSV, JSON lines or Parquet file of series.",
)
@click.option("--horizon", required=True, type=click.IntRange(1), help="Steps ahead.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Bundle directory.")
@click.option(
    "--windows",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Horizons held back at the end of each series, to measure on.",
)
@click.option(
    "--context", type=click.IntRange(1), help="Tokens of history.  [default: the model's]"
)
@click.option(
    "--learning-rate", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=3e-4,
    show_default=True, help="Of AdamW, after a warm-up, falling along a cosine.",
)  # fmt: skip
@click.option(
    "--search", is_flag=True, help="Try several contexts and learning rates in short runs."
)
@click.option(
    "--steps", type=click.IntRange(1), default=400, show_default=True, help="Batches, at most."
)
@click.option(
    "--batch", type=click.IntRange(1), default=32, show_default=True, help="Windows each."
)
@click.option(
    "--patience", type=click.IntRange(1), default=6, show_default=True,
    help="Stop after so many validations, 20 steps apart, without a better loss.",
)  # fmt: skip
@click.option(
    "--freeze", metavar="none|head|last-K", default="none", show_default=True,
    help="What is trained: none frozen, the head alone, or the last K blocks and the head.",
)  # fmt: skip
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of training windows and sample paths.",
)
@click.option("--samples", type=click.IntRange(1), default=100, show_default=True,
              help="Sample paths when measuring.")  # fmt: skip
@click.option(
    "--season", type=click.IntRange(1), help="Steps in a season; by default by frequency."
)
@table_options
@click.option("--name", help="Name in the manifest; by default the output's.")
@click.option("--license", "license_name", help="License of the weights; by default the model's.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--threads", type=click.IntRange(1), help="Threads; by default all cores.")
def finetune(data: str, output: Path, **options: Any) -> None:
    """Fine-tune a model on the past of the series in DATA, and export a bundle.

    The last horizon of each series is held back: never trained or selected on, both models are
    measured there beside seasonal naive. Before it lies what training is validated on; weights
    that do not forecast it better are not kept.
    """
    try:
        _finetune(data, output, **options)
    except KeyboardInterrupt:
        raise click.ClickException(f"stopped; nothing was written to {output}") from None


def is_given(option: str) -> bool:
    """Whether an option of the running command was on its command line."""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


def _finetune(
    data: str,
    output: Path,
    *,
    model: str,
    horizon: int,
    windows: int,
    context: int | None,
    learning_rate: float,
    search: bool,
    steps: int,
    batch: int,
    patience: int,
    freeze: str,
    seed: int,
    samples: int,
    season: int | None,
    freq: str | None,
    columns: Columns,
    name: str | None,
    license_name: str | None,
    overwrite: bool,
    threads: int | None,
) -> None:
    try:
        from laglite_export.base_model import load_base
        from laglite_export.bundle_writer import check_output
        from laglite_export.finetuning import BacktestSettings, export_tuned, held_back_windows
        from laglite_train import finetuning, finetuning_search
        from laglite_train.time_split import check_counts, check_covariates, split_in_time
    except ModuleNotFoundError as error:
        raise missing(str(error.name), "train,export", "laglite finetune") from error
    if search and context is not None:
        raise click.UsageError("--search chooses the context itself: leave out --context.")
    if search and is_given("learning_rate"):
        raise click.UsageError("--search chooses the rate itself: leave out --learning-rate.")
    check_output(output, overwrite=overwrite)
    base = load_base(model)
    spec = base.model.spec
    for tokens in {context or spec.context_length, spec.context_length}:  # zero-shot has its own
        finetuning.check_context(spec, tokens, horizon)
    trained = finetuning.freeze(base.model, freeze)
    series = read_series(data, columns, freq, note)
    label = "standard input" if data == "-" else Path(data).stem
    split = split_in_time(label, series, horizon, windows, note)
    check_covariates(split, spec.num_covariates)
    check_counts(split, spec.head)
    contexts = [context or spec.context_length]
    if search:
        contexts = finetuning_search.allowed_contexts(spec, split)
    measured = held_back_windows(split, spec, contexts, season, note)
    points = split.training.points
    note(
        f"{base.name}: {trained:,} of {spec.num_parameters:,} weights are trained, on {points:,} "
        f"values of {len(split.parts)} series; {split.validation_windows} windows of {horizon} "
        f"values to validate on, the last {windows * horizon} values of each series held back"
    )
    config = finetuning.FineTuneConfig(
        learning_rate=learning_rate,
        steps=steps,
        patience=patience,
        batch_size=batch,
        freeze=freeze,
        seed=seed,
        threads=threads,
        rollout=finetuning.inherited_rollout(base.training),
        sampling=finetuning.inherited_sampling(spec, base.training),
    )
    progress = sys.stderr.isatty()
    if search:
        outcome = finetuning_search.search(
            base.model,
            split,
            config,
            contexts=contexts,
            learning_rates=finetuning_search.LEARNING_RATES,
            tell=note,
            progress=progress,
        )
    else:
        outcome = finetuning_search.run_once(
            base.model, split, config, context=context, tell=note, progress=progress
        )
    if not outcome.improved:
        note(
            "fine-tuning did not improve the validation windows' forecasts: the weights are kept, "
            f"with context {outcome.best.context}"
        )
    with _notes(), progress_bar("measuring", 4 * len(measured)) as advance:
        result = export_tuned(
            outcome,
            base,
            split,
            measured,
            config,
            BacktestSettings(samples, seed, threads),
            output,
            name=name or output.name,
            license_name=license_name or base.license_name,
            overwrite=overwrite,
            progress=advance,
        )
    print_table(dataset_table(result))
    click.echo(output)


@contextmanager
def _notes() -> Iterator[None]:
    """Say each warning once, as a note."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LagliteWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        note(f"Warning: {message}")
