"""The Lightning side of training: loss, validation by data set, data loaders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from laglite.errors import LagliteError
from laglite.spec import ModelSpec
from laglite_train.checkpoint import CHECKPOINT_FORMAT
from laglite_train.config import RunConfig, TrainConfig
from laglite_train.corpus import SeriesSet
from laglite_train.distributions import negative_log_likelihood
from laglite_train.draws import trainable
from laglite_train.model import LagLlama
from laglite_train.optimiser import OptimiserConfig, build_optimiser, rate_factor
from laglite_train.windows import Batch, TrainingBatches, ValidationBatches


class ForecastModule(lightning.LightningModule):
    """Mean negative log-likelihood of the next value over observed positions.

    The loss is that of the reference but in scaled units: less the logarithm of each window's
    scale, which no weight depends on, so that data sets can be compared. Checkpoints hold plain
    values only and load with `weights_only=True`; `hyper_parameters["spec"]` is the model,
    `["training"]` tells how it was trained, on what. `names` are the data sets that
    `Batch.sources` refers to.
    """

    def __init__(
        self,
        model: LagLlama,
        optimiser: OptimiserConfig,
        run: RunConfig,
        names: Sequence[str],
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimiser, self.run, self.names = optimiser, run, list(names)
        self._sums = torch.zeros(0)  # no buffer: the average of weights would average it
        self.save_hyperparameters(
            {
                "format": CHECKPOINT_FORMAT,
                "spec": model.spec.to_dict(),
                "training": {
                    "optimiser": dataclasses.asdict(optimiser),
                    "run": dataclasses.asdict(run),
                    **(provenance or {}),
                },
            }
        )

    def _losses(self, batch: Batch) -> Tensor:
        """Weighted losses [batch, tokens]."""
        arguments = {name: value.float() for name, value in self.model(batch.tokens).items()}
        losses = negative_log_likelihood(
            self.model.spec.head, arguments, batch.values, batch.loc, batch.scale
        )
        return (losses - batch.scale.log()) * batch.weights

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The batch's mean loss; over all processes, gradients are those of one large batch."""
        losses, count = self._losses(batch), batch.weights.sum()
        if self.trainer.world_size > 1:
            count = self.trainer.strategy.reduce(count, reduce_op="mean")
        loss = losses.sum() / count.clamp_min(1.0)
        if not torch.isfinite(loss):
            raise LagliteError(self._not_finite(losses, batch))
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch.tokens), sync_dist=True)
        return loss

    def _not_finite(self, losses: Tensor, batch: Batch) -> str:
        rows = ~torch.isfinite(losses).all(dim=1)
        places = batch.sources[rows if rows.any() else slice(None)].unique().tolist()
        sets = ", ".join("synthetic" if place < 0 else self.names[place] for place in places)
        return (
            f"the loss is not finite at step {self.global_step}, in windows of: {sets}; look at "
            "these data sets, lower sampling.largest_value or optimiser.learning_rate"
        )

    def on_validation_epoch_start(self) -> None:
        self._sums = torch.zeros(2, len(self.names), device=self.device)

    def validation_step(self, batch: Batch, _: int) -> None:
        losses = self._losses(batch)
        self._sums[0].index_add_(0, batch.sources, losses.sum(dim=1))
        self._sums[1].index_add_(0, batch.sources, batch.weights.sum(dim=1))

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss of each data set, and `val_loss`, the mean over data sets."""
        totals, counts = self.trainer.strategy.reduce(self._sums, reduce_op="sum")
        seen = counts > 0
        means = totals[seen] / counts[seen]
        for place, mean in zip(seen.nonzero().flatten().tolist(), means, strict=True):
            self.log(f"val_loss/{self.names[place]}", mean)
        self.log("val_loss", means.mean(), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        total = self.run.epochs * self.run.steps_per_epoch
        optimiser = build_optimiser(self.model, self.optimiser)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate_factor(self.optimiser, total))
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class WindowData(lightning.LightningDataModule):
    """Training batches of the current epoch, and the fixed validation windows.

    Every process takes its own rows of each batch, and its own validation windows.
    """

    def __init__(self, corpus: Sequence[SeriesSet], spec: ModelSpec, config: TrainConfig) -> None:
        super().__init__()
        self.corpus, self.spec, self.config = corpus, spec, config

    @property
    def _place(self) -> tuple[int, int]:
        """This process' number and how many there are."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> DataLoader[Batch]:
        run = self.config.run
        epoch = self.trainer.current_epoch if self.trainer else 0
        first = epoch * run.steps_per_epoch
        rank, world = self._place
        batches = TrainingBatches(
            self.corpus,
            self.spec,
            self.config.sampling,
            batch_size=run.batch_size,
            steps=range(first, first + run.steps_per_epoch),
            seed=run.seed,
            synthetic=self.config.synthetic,
            augmentation=self.config.augmentation,
            rank=rank,
            world=world,
        )
        return _loader(batches, run.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        run = self.config.run
        rank, world = self._place
        batches = ValidationBatches(
            trainable(self.corpus, self.config.sampling.horizon),
            self.spec,
            self.config.sampling,
            batch_size=run.batch_size,
            per_set=run.validation_windows,
            rank=rank,
            world=world,
        )
        return _loader(batches, 0)


def _loader(batches: TrainingBatches | ValidationBatches, workers: int) -> DataLoader[Batch]:
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )
