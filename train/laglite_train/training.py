"""Pre-training: a corpus and a config in, checkpoints out."""

from __future__ import annotations

import dataclasses
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from laglite.errors import InputError
from laglite_train.config import TrainConfig
from laglite_train.corpus import SeriesSet, read_corpus
from laglite_train.lightning_module import ForecastModule, WindowData
from laglite_train.windows import SamplingConfig

SHORTEST_SERIES = 8


def train(config: TrainConfig, *, resume: bool, progress: bool) -> Path:
    """Train by `config` and return the best checkpoint by validation loss.

    Writes `best.ckpt`, `last.ckpt` and `logs/` under `config.output`. With `resume`, goes on from
    `last.ckpt`: batches depend on seed and step alone, so the run is the uninterrupted one.
    Raises InputError if data cannot be read, or if a run is there and `resume` is not given.
    """
    output = Path(config.output)
    last = output / "last.ckpt"
    if resume and not last.is_file():
        raise InputError(f"{last}: there is no run to resume; start it without --resume")
    if last.is_file() and not resume:
        raise InputError(f"{last} exists: add --resume to go on, or choose another output")
    corpus = read_corpus([Path(path) for path in config.data], shortest=SHORTEST_SERIES)
    _quiet_lightning()
    torch.set_num_threads(config.run.threads or os.cpu_count() or 1)
    lightning.seed_everything(config.run.seed, verbose=False)
    best = ModelCheckpoint(
        dirpath=output, filename="best", monitor="val_loss", enable_version_counter=False
    )
    # save_last= of the above would keep the last *best*; this one keeps every epoch's end.
    latest = ModelCheckpoint(dirpath=output, filename="last", enable_version_counter=False)
    callbacks: list[Callback] = [best, latest]
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=config.run.epochs,
        precision=config.run.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.optimiser.gradient_clip,
        reload_dataloaders_every_n_epochs=1,
        callbacks=callbacks,
        logger=CSVLogger(str(output), name="logs"),  # a resumed run logs beside the first
        log_every_n_steps=min(20, config.run.steps_per_epoch),
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    module = ForecastModule(
        config.model, config.optimiser, config.run, provenance(config.sampling, corpus)
    )
    try:
        trainer.fit(
            module,
            datamodule=WindowData(corpus, config),
            ckpt_path=str(last) if resume else None,
            weights_only=True,
        )
    except SystemExit as error:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from error
    return Path(best.best_model_path)


def provenance(sampling: SamplingConfig, corpus: Sequence[SeriesSet]) -> dict[str, Any]:
    """What a model was trained on, as plain values for its checkpoint and its bundle."""
    values = dataclasses.asdict(sampling)
    values["context_lengths"] = list(sampling.context_lengths)
    return {
        "sampling": values,
        "data": [
            {"name": group.name, "series": len(group.series), "points": group.points}
            for group in corpus
        ],
    }


def _quiet_lightning() -> None:
    """Leave out Lightning's remarks about itself; its warnings about the run stay."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for remark in (
        "Checkpoint directory .* exists",
        ".*LeafSpec.*",
        ".*does not have many workers",
    ):
        warnings.filterwarnings("ignore", message=remark)
