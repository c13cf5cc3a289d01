"""The Lightning side of training: loss, validation by data set, data loaders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from laglite.errors import LagliteError
from laglite.spec import ModelSpec
from laglite_train.checkpoint import CHECKPOINT_FORMAT
from laglite_train.config import RunConfig, TrainConfig
from laglite_train.corpus import SeriesSet
from laglite_train.distributions import negative_log_likelihood
from laglite_train.draws import trainable
from laglite_train.interruption import heed_parent_alone
from laglite_train.model import KeysValues, LagLlama
from laglite_train.optimiser import OptimiserConfig, build_optimiser, rate_factor
from laglite_train.resume import relocate
from laglite_train.rollout import RolloutConfig, rollout_losses, rollout_uniforms
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
        rollout: RolloutConfig | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimiser, self.run, self.names = optimiser, run, list(names)
        self.rollout = rollout or RolloutConfig()
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

    def _losses(self, batch: Batch, arguments: Mapping[str, Tensor]) -> Tensor:
        """Weighted losses [batch, tokens]."""
        losses = negative_log_likelihood(
            self.model.spec.head, arguments, batch.values, batch.loc, batch.scale
        )
        return (losses - batch.scale.log()) * batch.weights

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The batch's mean loss; over all processes, gradients are those of one large batch.

        Raises LagliteError, in every process alike, where the loss is not finite.
        """
        arguments, caches = self.model.with_caches(batch.tokens)
        losses = self._losses(batch, arguments)
        total, count = self._over_processes(
            torch.stack([losses.detach().sum(), batch.weights.sum()]), "mean"
        )
        count = count.clamp_min(1.0)
        if not torch.isfinite(total):
            raise LagliteError(self._not_finite(losses.detach(), batch))
        self.log("train_loss", total / count, prog_bar=True, batch_size=len(batch.tokens))
        loss = losses.sum() / count
        if self.rollout.weight and self.global_step >= self.rollout.begin * self.run.steps:
            loss = loss + self.rollout.weight * self._rollout(batch, arguments, caches)
        return loss

    def _rollout(
        self, batch: Batch, arguments: Mapping[str, Tensor], caches: Sequence[KeysValues]
    ) -> Tensor:
        """Mean loss of the paths decoded from this process' share of the windows."""
        rank, world = self.trainer.global_rank, self.trainer.world_size
        uniforms = rollout_uniforms(self.rollout, self.run.seed, self.global_step)
        own = uniforms[:, :, rank::world].to(batch.tokens)
        rows = slice(own.shape[2])
        batch = Batch(*(part[rows] for part in batch))
        losses, weights = rollout_losses(
            self.model,
            batch,
            [(keys[rows], values[rows]) for keys, values in caches],
            {name: value[rows] for name, value in arguments.items()},
            own,
        )
        total, count = self._over_processes(
            torch.stack([losses.detach().sum(), weights.sum()]), "mean"
        )
        count = count.clamp_min(1.0)
        if not torch.isfinite(total):
            raise LagliteError(self._not_finite(losses.detach()[:, None], batch))
        self.log("train_rollout", total / count, prog_bar=True, batch_size=len(weights))
        return losses.sum() / count

    def _over_processes(self, values: Tensor, operation: str) -> Tensor:
        if self.trainer.world_size == 1:
            return values
        reduced: Tensor = self.trainer.strategy.reduce(values, reduce_op=operation)
        return reduced

    def _not_finite(self, losses: Tensor, batch: Batch) -> str:
        names = [*self.names, "synthetic"]  # source -1 is the last
        found = torch.zeros(len(names), device=losses.device)
        rows = ~torch.isfinite(losses).all(dim=1)
        found.index_add_(0, batch.sources.remainder(len(names)), rows.float())
        places = self._over_processes(found, "sum").nonzero().flatten().tolist()
        sets = (
            ", ".join(names[place] for place in places) or "no single one: their sum is too large"
        )
        return (
            f"the loss is not finite at step {self.global_step}, in windows of: {sets}; look at "
            "these data sets, lower sampling.largest_value or optimiser.learning_rate"
        )

    def on_validation_epoch_start(self) -> None:
        self._sums = torch.zeros(2, len(self.names), device=self.device)

    def validation_step(self, batch: Batch, _: int) -> None:
        losses = self._losses(batch, self.model(batch.tokens))
        self._sums[0].index_add_(0, batch.sources, losses.sum(dim=1))
        self._sums[1].index_add_(0, batch.sources, batch.weights.sum(dim=1))

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss of each data set, and `val_loss`, the mean over data sets.

        Raises LagliteError where one is not finite: weights without a use are not saved.
        """
        totals, counts = self._over_processes(self._sums, "sum")
        seen = (counts > 0).nonzero().flatten().tolist()
        means = totals[seen] / counts[seen]
        finite = torch.isfinite(means)
        if not finite.all():
            sets = ", ".join(self.names[seen[i]] for i in (~finite).nonzero().flatten().tolist())
            raise LagliteError(
                f"the validation loss is not finite after step {self.global_step}, for: {sets}; "
                "lower optimiser.learning_rate, or look at these data sets"
            )
        for place, mean in zip(seen, means, strict=True):
            self.log(f"val_loss/{self.names[place]}", mean)
        self.log("val_loss", means.mean(), prog_bar=True)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoints' bookkeeping follow a run that was moved."""
        best = self.trainer.checkpoint_callback
        if isinstance(best, ModelCheckpoint) and best.dirpath is not None:
            relocate(checkpoint["callbacks"], str(best.dirpath))

    def configure_optimizers(self) -> dict[str, Any]:
        optimiser = build_optimiser(self.model, self.optimiser)
        factor = rate_factor(self.optimiser, self.run.steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class WindowData(lightning.LightningDataModule):
    """Training batches of the current epoch, and the fixed validation windows.

    Every process takes its own rows of each batch, and its own validation windows. With
    `validation` those are its batches, and all of `corpus` is trained on.
    """

    def __init__(
        self,
        corpus: Sequence[SeriesSet],
        spec: ModelSpec,
        config: TrainConfig,
        validation: Dataset[Batch] | None = None,
    ) -> None:
        super().__init__()
        self.corpus, self.spec, self.config = corpus, spec, config
        self.validation = validation

    @property
    def _place(self) -> tuple[int, int]:
        """The number of this process, and how many there are."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def check(self) -> None:
        """Draw one batch and the validation windows. Raises InputError if that cannot be done."""
        self._training_batches(0)[0]
        self._validation_batches()

    def train_dataloader(self) -> DataLoader[Batch]:
        epoch = self.trainer.current_epoch if self.trainer else 0
        return _loader(self._training_batches(epoch), self.config.run.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        return _loader(self._validation_batches(), 0)

    def _training_batches(self, epoch: int) -> TrainingBatches:
        run = self.config.run
        first = epoch * run.steps_per_epoch
        rank, world = self._place
        return TrainingBatches(
            self.corpus,
            self.spec,
            self.config.sampling,
            batch_size=run.batch_size,
            steps=range(first, first + run.steps_per_epoch),
            seed=run.seed,
            synthetic=self.config.synthetic,
            augmentation=self.config.augmentation,
            hold_out=self.validation is None,
            rank=rank,
            world=world,
        )

    def _validation_batches(self) -> Dataset[Batch]:
        if self.validation is not None:
            return self.validation
        run = self.config.run
        rank, world = self._place
        return ValidationBatches(
            trainable(self.corpus, self.config.sampling.horizon),
            self.spec,
            self.config.sampling,
            batch_size=run.batch_size,
            per_set=run.validation_windows,
            rank=rank,
            world=world,
        )


def _loader(batches: Dataset[Batch], workers: int) -> DataLoader[Batch]:
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=heed_parent_alone,
    )
