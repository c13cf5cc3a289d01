"""From a trained model to a fine-tuned bundle: weights in, backtests beside, a bundle out."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laglite.evaluation.backtest import Backtest, compare, model_method, model_reach
from laglite.evaluation.report import as_json
from laglite.evaluation.windows import Window, rolling_windows
from laglite.forecaster import Forecaster
from laglite.reading.tables import Note
from laglite.spec import ModelSpec
from laglite_export.base_model import UNSPECIFIED, Base
from laglite_export.bundle_writer import export_bundle
from laglite_train.finetuning import FineTuneConfig
from laglite_train.finetuning_search import Outcome
from laglite_train.time_split import TimeSplit

FINE_TUNED = "fine-tuned"
KEPT = "kept as it was"
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class BacktestSettings:
    """How both models are measured on what was held back."""

    samples: int = 100
    seed: int = 0
    threads: int | None = None


def held_back_windows(
    split: TimeSplit, spec: ModelSpec, contexts: Sequence[int], season: int | None, note: Note
) -> list[Window]:
    """The windows that both models are measured on, cut before anything is trained.

    Each has an observed value within what a model sees with any of `contexts`, and with its own.
    Raises InputError if nothing can be measured.
    """
    reach = model_reach(spec, min(*contexts, spec.context_length))
    return rolling_windows(split.held_back, split.horizon, split.windows, season, note, reach=reach)


def export_tuned(
    outcome: Outcome,
    base: Base,
    split: TimeSplit,
    windows: Sequence[Window],
    config: FineTuneConfig,
    settings: BacktestSettings,
    output: Path,
    *,
    name: str,
    license_name: str,
    overwrite: bool,
    progress: Callable[[int], None] = lambda windows: None,
) -> Backtest:
    """Export the best network, measured beside `base` on `windows` of what `split` held back.

    The manifest's "training" says how it came about, its "evaluation" how good it is. Nothing is
    written if anything fails. Raises InputError, BundleError (see `export_bundle`).
    """
    results: list[Backtest] = []

    def evaluate(bundle: Path) -> Mapping[str, Any]:
        with _zero_shot(base, settings) as zero_shot:
            tuned = Forecaster.load(bundle, threads=settings.threads)
            results.append(_compare(outcome, windows, settings, tuned, zero_shot, progress))
        told = dataclasses.asdict(settings) | {"windows": split.windows}
        return {"evaluation": as_json({split.name: results[0]}, told)}

    export_bundle(
        outcome.best.model,
        output,
        name=name,
        license_name=license_name,
        summary={"training": provenance(outcome, base, split, config)},
        overwrite=overwrite,
        evaluate=evaluate,
    )
    return results[0]


def provenance(
    outcome: Outcome, base: Base, split: TimeSplit, config: FineTuneConfig
) -> dict[str, Any]:
    """How a fine-tuned model came about, as plain values for its manifest."""
    best = outcome.best
    settings = dataclasses.asdict(config)
    settings["learning_rate"] = best.learning_rate
    settings["sampling"] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in settings["sampling"].items()
    } | {"horizon": split.horizon, "context_lengths": [best.context]}
    training = split.training
    return {
        "origin": "fine-tuned" if outcome.improved else "fine-tuning did not improve it",
        "base": {
            "name": base.name,
            "license": base.license_name,
            "context_length": base.model.spec.context_length,
            "training": dict(base.training),
        },
        "data": [
            {"name": split.name, "series": len(training.series), "points": training.points}
        ],
        "split": {
            "horizon": split.horizon,
            "held_back_windows": split.windows,
            "validation_windows": split.validation_windows,
        },
        "context_length": best.context,
        "steps": best.steps,
        "validation_wql": _finite(best.wql),
        "validation_wql_zero_shot": _finite(outcome.zero_shot.wql),
        "trials": [
            {**dataclasses.asdict(trial), "wql": _finite(trial.wql)} for trial in outcome.trials
        ],
        **settings,
        "steps_planned": config.steps,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


@contextlib.contextmanager
def _zero_shot(base: Base, settings: BacktestSettings) -> Iterator[Forecaster]:
    """The base as a forecaster; a checkpoint becomes a bundle for as long as it is needed."""
    if base.bundle is not None:
        yield Forecaster.load(base.bundle, threads=settings.threads)
        return
    with tempfile.TemporaryDirectory(prefix="laglite-finetune-") as folder:
        path = Path(folder) / "base"
        export_bundle(base.model, path, name=base.name, license_name=UNSPECIFIED, summary={})
        yield Forecaster.load(path, threads=settings.threads)


def _compare(
    outcome: Outcome,
    windows: Sequence[Window],
    settings: BacktestSettings,
    tuned: Forecaster,
    zero_shot: Forecaster,
    progress: Callable[[int], None],
) -> Backtest:
    label = FINE_TUNED if outcome.improved else KEPT
    methods = {
        name: model_method(forecaster, None, settings.samples, settings.seed)
        for name, forecaster in ((label, tuned), (ZERO_SHOT, zero_shot))
    }
    return compare(windows, methods, progress=progress)
