"""Ablations: small models that differ from a reference in one setting, trained and backtested.

    python benchmarks/ablations.py CONFIG --train FOLDER --dev FOLDER --output FILE.json
                                   [--steps 800] [--only NAME]... [--threads 1]

Each variant is a short run of CONFIG with one change, exported and measured on the last windows of
the data sets in --dev (at most --series of each; sets of few series give several windows). FILE
keeps what is finished, so that the command goes on where it was stopped; a Markdown table is
written beside it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from next_value import next_value_loss, sampled_windows
from published_lags import PUBLISHED_LAGS
from result_files import write_results

from laglite import Forecaster
from laglite.evaluation.backtest import compare, model_method, relative_wql
from laglite.evaluation.datasets import list_datasets
from laglite.evaluation.report import geometric_mean
from laglite_export.bundle_writer import export_bundle
from laglite_train.checkpoint import load_checkpoint
from laglite_train.config import TrainConfig, read_config
from laglite_train.training import train

SHARES = {
    "h": 0.26, "D": 0.15, "MS": 0.14, "QS": 0.09, "YS": 0.08, "W": 0.05, "30min": 0.06,
    "15min": 0.08, "10min": 0.04, "B": 0.02, "5min": 0.02, "min": 0.005, "s": 0.005,
}  # fmt: skip


def with_lags_around_a_week(lags: tuple[int, ...]) -> tuple[int, ...]:
    """The same lags, and those within 8 hours of a week."""
    return tuple(sorted({*lags, *range(160, 177)}))


NEIGHBOURS = {"regression": True, "lags": with_lags_around_a_week}
# name: the question, and for each section of the config the settings that differ; a function gives
# the new setting from the old.
VARIANTS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "reference": ("", {}),
    "reference, seed 1": ("noise", {"run": {"seed": 1}}),
    "AdamW": ("optimiser", {"optimiser": {"name": "adamw"}}),
    "half the learning rate": ("optimiser", {"optimiser": {"matrix_learning_rate": 0.01}}),
    "the value, not the change": ("centre", {"model": {"residual": False}}),
    "regression": ("features", {"model": {"regression": True}}),
    "regression with a week's neighbours": ("features", {"model": NEIGHBOURS}),
    "the same, rollouts over the second half": (
        "together",
        {"model": NEIGHBOURS, "rollout": {"weight": 0.5}},
    ),
    "scale-free tokens": ("features", {"model": {"scale_free": True}}),
    "random magnitudes": ("augmentation", {"augmentation": {"magnitude": 2.0}}),
    "mirrored halves": ("augmentation", {"augmentation": {"sign_flip": 0.5}}),
    "40 % without times": ("augmentation", {"sampling": {"calendar_dropout": 0.4}}),
    "weight decay 0.1": ("optimiser", {"optimiser": {"weight_decay": 0.1}}),
    "weight decay 0.3": ("optimiser", {"optimiser": {"weight_decay": 0.3}}),
    "weight decay 1.0": ("optimiser", {"optimiser": {"weight_decay": 1.0}}),
    "magnitudes, weight decay 0.3": (
        "together",
        {"augmentation": {"magnitude": 2.0}, "optimiser": {"weight_decay": 0.3}},
    ),
    "weight decay 0.3, 10 % synthetic": (
        "together",
        {"sampling": {"synthetic": 0.1}, "optimiser": {"weight_decay": 0.3}},
    ),
    "weight decay 0.3, 30 % series mixed": (
        "together",
        {"augmentation": {"series_mix": 0.3}, "optimiser": {"weight_decay": 0.3}},
    ),
    "magnitudes, mixed, synthetic, weight decay 0.3": (
        "together",
        {
            "augmentation": {"magnitude": 2.0, "series_mix": 0.3},
            "sampling": {"synthetic": 0.1},
            "optimiser": {"weight_decay": 0.3},
        },
    ),
    "no seasonal lags": ("lags", {"model": {"seasons": False}}),
    "published lags alone": ("lags", {"model": {"seasons": False, "lags": PUBLISHED_LAGS}}),
    "published scaling and padding": (
        "features",
        {"model": {"scaling": "robust", "history": "zeros"}},
    ),
    "context 32": (
        "context",
        {"model": {"context_length": 32}, "sampling": {"context_lengths": (32,)}},
    ),
    "context 128": (
        "context",
        {"model": {"context_length": 128}, "sampling": {"context_lengths": (128,)}},
    ),
    "mixture head": ("head", {"model": {"head": "mixtureT"}}),
    "spline head": ("head", {"model": {"head": "spline"}}),
    "normal head": ("head", {"model": {"head": "normal"}}),
    "weighting series": ("weighting", {"sampling": {"weighting": "series"}}),
    "weighting equal": ("weighting", {"sampling": {"weighting": "equal"}}),
    "weighting points": ("weighting", {"sampling": {"weighting": "points"}}),
    "frequency shares": ("frequencies", {"sampling": {"frequency_shares": SHARES}}),
    "30 % coarser": ("frequencies", {"sampling": {"coarser": 0.3}}),
    "10 % synthetic": ("synthetic", {"sampling": {"synthetic": 0.1}}),
    "30 % synthetic": ("synthetic", {"sampling": {"synthetic": 0.3}}),
    "50 % Freq-Mask and Freq-Mix": ("augmentation", {"augmentation": {"frequency": 0.5}}),
    "30 % series mixed": ("augmentation", {"augmentation": {"series_mix": 0.3}}),
    "rollouts over the second half": ("rollouts", {"rollout": {"weight": 0.5}}),
}


def configure(base: TrainConfig, changes: dict[str, dict[str, Any]], **run: Any) -> TrainConfig:
    """The base config with some settings of some sections changed."""
    parts = {}
    for section, settings in changes.items():
        old = getattr(base, section)
        values = {
            name: value(getattr(old, name)) if callable(value) else value
            for name, value in settings.items()
        }
        parts[section] = dataclasses.replace(old, **values)
    config = dataclasses.replace(base, **parts)
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **run))


def train_and_measure(config: TrainConfig, dev: Path, series: int) -> dict[str, Any]:
    """Train, export and backtest one variant."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(config, output=str(Path(folder) / "run"))
        train(config, resume=False, progress=False)
        seconds = time.perf_counter() - began
        loaded = load_checkpoint(Path(config.output) / "last.ckpt")
        bundle = Path(folder) / "model"
        export_bundle(loaded.model, bundle, name="model", license_name="", summary={})
        forecaster = Forecaster.load(bundle)
        relative, series_ratios, next_values, inside, steps = {}, {}, {}, 0.0, 0
        for dataset in list_datasets(str(dev), None, None, None):
            windows = sampled_windows(dataset, series)
            result = compare(windows, {"model": model_method(forecaster, None, 100, 0)})
            relative[dataset.name] = result.relative_wql
            ratios = [relative_wql(each, "model") for each in result.per_series.values()]
            series_ratios[dataset.name] = geometric_mean(r for r in ratios if 0 < r < math.inf)
            next_values[dataset.name] = next_value_loss(forecaster, windows)
            inside += result.model.coverage[80] * len(windows) * dataset.horizon
            steps += len(windows) * dataset.horizon
    return {
        "relative_wql": geometric_mean(relative.values()),
        "relative_per_series": geometric_mean(series_ratios.values()),
        "next_value_loss": sum(next_values.values()) / len(next_values),
        "coverage_80": inside / steps,
        "weights": config.model.num_parameters,
        "training_seconds": round(seconds),
        "data_sets": relative,
        "next_value_losses": next_values,
    }


def to_markdown(results: dict[str, Any], settings: dict[str, Any]) -> str:
    """A table of all variants that are finished."""
    names = next(iter(results.values()))["data_sets"]
    lines = [
        "# Ablations",
        "",
        "WQL relative to seasonal naive with intervals (lower is better), by data set, and their "
        "geometric mean. *Per series* is the geometric mean over series, then over data sets: "
        "large series do not decide it, so that it is less noisy. *Next value* is the negative "
        "log-likelihood of a value given all before it, in units of the series' seasonal error, "
        "the mean over data sets: the least noisy. None of the data sets was trained on. "
        f"Settings: {settings}",
        "",
        "| variant | question | weights | mean | per series | next value | 80 % coverage | "
        + " | ".join(names)
        + " |",
        "|" + "---|" * (7 + len(names)),
    ]  # fmt: skip
    for name, result in results.items():
        sets = " | ".join(f"{result['data_sets'][each]:.3f}" for each in names)
        lines.append(
            f"| {name} | {VARIANTS[name][0]} | {result['weights']:,} | "
            f"**{result['relative_wql']:.3f}** | {result['relative_per_series']:.3f} | "
            f"{result['next_value_loss']:.3f} | {result['coverage_80']:.3f} | {sets} |"
        )
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("config", type=click.Path(exists=True, path_type=Path))
@click.option("--train", "corpus", required=True, help="Folder of training series.")
@click.option("--dev", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="FILE.json")
@click.option("--steps", type=int, default=800, show_default=True)
@click.option("--series", type=int, default=60, show_default=True, help="Series a data set.")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(VARIANTS)))
def main(
    config: Path,
    corpus: str,
    dev: Path,
    output: Path,
    steps: int,
    series: int,
    threads: int,
    only: tuple[str, ...],
) -> None:
    """Train and measure every variant that FILE does not hold yet."""
    base = dataclasses.replace(read_config(config), data=(corpus,))
    settings = {
        "config": str(config), "steps": steps, "batch": base.run.batch_size,
        "seed": base.run.seed, "series": series,
    }  # fmt: skip
    for name in only or VARIANTS:
        results = json.loads(output.read_text())["variants"] if output.exists() else {}
        if name in results:
            continue
        variant = configure(
            base, VARIANTS[name][1], epochs=1, steps_per_epoch=steps, threads=threads
        )
        found = train_and_measure(variant, dev, series)
        click.echo(f"{name}: {found['relative_wql']:.4f}", err=True)
        results = json.loads(output.read_text())["variants"] if output.exists() else {}
        ordered = {
            key: {**results, name: found}[key] for key in VARIANTS if key in {*results, name}
        }
        content = {"settings": settings, "variants": ordered}
        write_results(output, content, to_markdown(ordered, settings))


if __name__ == "__main__":
    main()
