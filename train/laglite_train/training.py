"""Pre-training: a corpus and a config in, checkpoints out."""

from __future__ import annotations

import dataclasses
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import Dataset

from laglite.errors import InputError, LagliteWarning
from laglite_train.checkpoint import load_checkpoint
from laglite_train.config import TrainConfig
from laglite_train.corpus import SeriesSet, read_corpus
from laglite_train.draws import trainable
from laglite_train.interruption import Interruption
from laglite_train.lightning_module import ForecastModule, WindowData
from laglite_train.model import LagLlama
from laglite_train.processes import limit_threads, plan_processes
from laglite_train.resume import check_resumable
from laglite_train.warm_start import begin_with
from laglite_train.windows import Batch

SHORTEST_SERIES = 8
JUDGED = "val_score"


def train(config: TrainConfig, *, resume: bool, progress: bool) -> Path:
    """Train by `config` and return the best checkpoint by validation loss.

    Writes `best.ckpt`, `last.ckpt` and `logs/` under `config.output`. With `resume`, goes on from
    `last.ckpt`: batches depend on seed and step alone, so the run is the uninterrupted one.
    Raises InputError if data cannot be read, if `config.init` is of another architecture, or if a
    run is there and `resume` is not given; CheckpointError if `config.init` cannot be read.
    """
    output = Path(config.output)
    last = output / "last.ckpt"
    if resume and not last.is_file():
        raise InputError(f"{last}: there is no run to resume; start it without --resume")
    if last.is_file() and not resume:
        raise InputError(f"{last} exists: add --resume to go on, or choose another output")
    corpus = read_corpus([Path(path) for path in config.data], shortest=SHORTEST_SERIES)
    _tell_left_out(corpus, config.sampling.horizon)
    lightning.seed_everything(config.run.seed, verbose=False)
    model = LagLlama(config.model)
    origin: Mapping[str, Any] = {}
    if resume:
        origin = load_checkpoint(last).training.get("init", {})
    elif config.init is None:
        model.initialise()
    else:
        origin = begin_with(model, Path(config.init))
    return fit(
        model,
        config,
        corpus,
        resume_from=last if resume else None,
        progress=progress,
        origin=origin,
    )


def fit(
    model: LagLlama,
    config: TrainConfig,
    corpus: Sequence[SeriesSet],
    *,
    resume_from: Path | None,
    progress: bool,
    validation: Dataset[Batch] | None = None,
    judge: Callable[[LagLlama], float] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Path:
    """Train `model` on `corpus` and return the best checkpoint; see `train`.

    Validation is on the end of each series, which is kept from training; or, where they are given,
    on the batches of `validation` (one process), and training on all of `corpus`. The best is what
    has the lowest validation loss, or the lowest number that `judge` gives a network. `origin`, in
    the checkpoints, tells how the weights that the run begins with were trained.

    Raises InputError for data or a machine that the config does not fit, LagliteError where the
    loss is not finite, KeyboardInterrupt where the run is stopped; `last.ckpt` then holds it as of
    the end of its last whole epoch.
    """
    run, output = config.run, Path(config.output)
    quiet_lightning()
    processes = plan_processes(run)
    if config.rollout.weight and config.rollout.windows < processes.count:
        raise InputError(
            f"rollout.windows {config.rollout.windows} does not give each of {processes.count} "
            "processes one; raise it, or take fewer processes"
        )
    limit_threads(processes)
    data = WindowData(corpus, model.spec, config, validation)
    data.check()
    names = [group.name for group in trainable(corpus, config.sampling.horizon)]
    module = ForecastModule(
        model,
        config.optimiser,
        run,
        names,
        provenance(config, corpus) | ({"init": dict(origin)} if origin else {}),
        config.rollout,
    )
    if resume_from is not None:
        check_resumable(resume_from, model.spec, module.hparams["training"])
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made ({error.strerror}); change output") from error
    monitor = "val_loss" if judge is None else JUDGED
    best = ModelCheckpoint(
        dirpath=output, filename="best", monitor=monitor, enable_version_counter=False
    )
    # save_last= of the above would keep the last *best*; this one keeps every epoch's end.
    latest = ModelCheckpoint(dirpath=output, filename="last", enable_version_counter=False)
    interruption = Interruption()
    callbacks: list[Callback] = [interruption, best, latest, Throughput(run.batch_size)]
    if judge is not None:
        callbacks.append(Judgement(judge))  # before the average gives its weights back
    if config.optimiser.average:
        callbacks.append(WeightAveraging(avg_fn=partial(_towards, 1 - config.optimiser.average)))
    if run.patience is not None:
        callbacks.append(EarlyStopping(monitor, patience=run.patience))
    if progress:
        callbacks.append(RichProgressBar(refresh_rate=10, console_kwargs={"stderr": True}))
    table = CSVLogger(str(output), name="logs")  # a resumed run logs beside the first
    board = TensorBoardLogger(str(output), name="logs", version=f"version_{table.version}")
    trainer = lightning.Trainer(
        accelerator=processes.accelerator,
        devices=processes.devices,
        num_nodes=processes.nodes,
        strategy=processes.strategy,
        use_distributed_sampler=False,  # TrainingBatches takes its own rows
        max_epochs=run.epochs,
        precision=run.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.optimiser.gradient_clip,
        reload_dataloaders_every_n_epochs=1,
        callbacks=callbacks,
        logger=[table, board],
        log_every_n_steps=min(20, run.steps_per_epoch),
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    if run.compile:
        for block in model.transformer["h"]:
            block.compile()
    try:
        with interruption.heeding_signals():
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=None if resume_from is None else str(resume_from),
                weights_only=True,
            )
    except SystemExit as error:  # what Lightning makes of an interrupt
        raise KeyboardInterrupt from error
    except InputError as error:  # torch puts the traceback of a worker before the message
        message = str(error).rpartition(f"{InputError.__module__}.{InputError.__name__}: ")[2]
        raise InputError(message.strip()) from error
    return Path(best.best_model_path)


def _tell_left_out(corpus: Sequence[SeriesSet], horizon: int) -> None:
    """Warn of data sets of which no series can be trained on."""
    kept = {group.name for group in trainable(corpus, horizon)}
    for name in (part.name for group in corpus for part in group.by_frequency()):
        if name not in kept:
            warnings.warn(
                f"data set {name!r} is skipped: nothing is observed before its held-out end",
                LagliteWarning,
                stacklevel=2,
            )


def _towards(share: float, average: Tensor, weights: Tensor, _: Tensor) -> Tensor:
    """A step of the exponential average, exact where nothing moves: frozen weights stay."""
    return torch.lerp(average, weights, share)


class Judgement(Callback):
    """Logs what `judge` gives the network that is validated."""

    def __init__(self, judge: Callable[[LagLlama], float]) -> None:
        self.judge = judge

    def on_validation_epoch_end(
        self, _: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        module.log(JUDGED, self.judge(module.model), prog_bar=True)


class Throughput(Callback):
    """Logs `windows_per_second` of each epoch, validation left out."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._seconds, self._steps, self._began = 0.0, 0, 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self._seconds, self._steps, self._began = 0.0, 0, time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self._steps += 1
        self._seconds = time.perf_counter() - self._began

    def on_train_epoch_end(self, _: lightning.Trainer, module: lightning.LightningModule) -> None:
        rate = self.batch_size * self._steps / max(self._seconds, 1e-9)
        module.log("windows_per_second", rate, prog_bar=True)


def provenance(config: TrainConfig, corpus: Sequence[SeriesSet]) -> dict[str, Any]:
    """What a model was trained on, as plain values for its checkpoint and its bundle."""
    sampling = dataclasses.asdict(config.sampling)
    sampling["context_lengths"] = list(config.sampling.context_lengths)
    return {
        "sampling": sampling,
        "synthetic": dataclasses.asdict(config.synthetic),
        "augmentation": dataclasses.asdict(config.augmentation),
        "rollout": dataclasses.asdict(config.rollout),
        "data": [
            {"name": group.name, "series": len(group.series), "points": group.points}
            for group in corpus
        ],
    }


def quiet_lightning() -> None:
    """Leave out Lightning's remarks about itself; its warnings about the run stay."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for remark in (
        "Checkpoint directory .* exists",
        ".*LeafSpec.*",
        ".*does not have many workers",
        ".*sync_dist=True.* in distributed setting",  # what is logged is of all processes already
    ):
        warnings.filterwarnings("ignore", message=remark)
