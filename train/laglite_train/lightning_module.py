"""The Lightning side of training: loss, optimiser, data loaders."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from laglite.spec import ModelSpec
from laglite_train.checkpoint import CHECKPOINT_FORMAT
from laglite_train.config import OptimiserConfig, RunConfig, TrainConfig
from laglite_train.corpus import SeriesSet
from laglite_train.distributions import negative_log_likelihood
from laglite_train.model import LagLlama
from laglite_train.windows import Batch, TrainingBatches, ValidationBatches


class ForecastModule(lightning.LightningModule):
    """Mean negative log-likelihood of the next value over observed positions, in data units.

    Its checkpoints hold plain values only and load with `weights_only=True`;
    `hyper_parameters["spec"]` is the model, `["training"]` tells how it was trained, on what.
    """

    def __init__(
        self,
        spec: ModelSpec,
        optimiser: OptimiserConfig,
        run: RunConfig,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = LagLlama(spec)
        self.model.initialise()
        self.optimiser, self.run = optimiser, run
        self.save_hyperparameters(
            {
                "format": CHECKPOINT_FORMAT,
                "spec": spec.to_dict(),
                "training": {
                    "optimiser": dataclasses.asdict(optimiser),
                    "run": dataclasses.asdict(run),
                    **(provenance or {}),
                },
            }
        )

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum of weighted losses, and sum of weights."""
        arguments = self.model(batch.tokens)
        losses = negative_log_likelihood(
            self.model.spec.head, arguments, batch.values, batch.loc, batch.scale
        )
        return (losses * batch.weights).sum(), batch.weights.sum()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        total, count = self._loss(batch)
        loss = total / count.clamp_min(1.0)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch.tokens))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        total, count = self._loss(batch)
        count = count.clamp_min(1.0)
        self.log("val_loss", total / count, prog_bar=True, batch_size=int(count))

    def configure_optimizers(self) -> dict[str, Any]:
        config = self.optimiser
        matrices = [p for p in self.parameters() if p.dim() == 2]
        vectors = [p for p in self.parameters() if p.dim() != 2]
        optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        total = self.run.epochs * self.run.steps_per_epoch

        def factor(step: int) -> float:
            if step < config.warmup_steps:
                return (step + 1) / config.warmup_steps
            progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class WindowData(lightning.LightningDataModule):
    """Training batches of the current epoch, and the fixed validation windows."""

    def __init__(self, corpus: Sequence[SeriesSet], config: TrainConfig) -> None:
        super().__init__()
        self.corpus, self.config = corpus, config

    def train_dataloader(self) -> DataLoader[Batch]:
        run = self.config.run
        epoch = self.trainer.current_epoch if self.trainer else 0
        first = epoch * run.steps_per_epoch
        batches = TrainingBatches(
            self.corpus,
            self.config.model,
            self.config.sampling,
            batch_size=run.batch_size,
            steps=range(first, first + run.steps_per_epoch),
            seed=run.seed,
        )
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        run = self.config.run
        batches = ValidationBatches(
            self.corpus,
            self.config.model,
            self.config.sampling,
            batch_size=run.batch_size,
            per_set=run.validation_windows,
        )
        return DataLoader(batches, batch_size=None)
