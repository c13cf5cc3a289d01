"""Fine-tuning: a trained network moved a little further, on the past of a few series."""

from __future__ import annotations

import dataclasses
import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from laglite.errors import InputError
from laglite.spec import ModelSpec
from laglite_train.checkpoint import load_checkpoint
from laglite_train.config import RunConfig, TrainConfig
from laglite_train.draws import SamplingConfig
from laglite_train.forecast_error import forecast_wql
from laglite_train.model import LagLlama
from laglite_train.optimiser import OptimiserConfig
from laglite_train.rollout import HEADS, RolloutConfig
from laglite_train.time_split import SplitValidation, TimeSplit
from laglite_train.training import fit

LARGEST = 1e30
INHERITED = ("short_history", "calendar_dropout", "largest_value")  # of the base's sampling


@dataclass(frozen=True)
class FineTuneConfig:
    """How a network is fine-tuned.

    `steps` of AdamW at `learning_rate`, in epochs of `steps_per_epoch` with a validation after
    each; it ends early after `patience` epochs without better forecasts of the validation windows.
    `freeze` leaves weights as they are: "none", all but the "head" (final norm and projections), or
    all but head and the last K blocks ("last-K"). `rollout` is the weight of the score of sample
    paths beside the likelihood, for heads whose draws have gradients (see
    `laglite_train.rollout`). `average` is the decay of the average of weights. `sampling` holds
    what windows inherit from how the network was trained before (see `inherited_sampling`), and
    `rollout` may be inherited too (see `inherited_rollout`).
    """

    learning_rate: float = 3e-4
    steps: int = 400
    steps_per_epoch: int = 20
    patience: int = 6
    batch_size: int = 32
    freeze: str = "none"
    rollout: float = 0.0
    average: float = 0.9
    weight_decay: float = 0.01
    seed: int = 0
    threads: int | None = None
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)


@dataclass(frozen=True)
class Candidate:
    """A network, and the weighted quantile loss of its forecasts of the validation windows.

    0 `steps`: as it came. It is infinite where a forecast is not finite.
    """

    model: LagLlama
    learning_rate: float
    steps: int
    wql: float

    @property
    def context(self) -> int:
        """Tokens of the prompt."""
        return self.model.spec.context_length


def fine_tune(
    model: LagLlama, split: TimeSplit, config: FineTuneConfig, *, progress: bool
) -> Candidate:
    """Train a copy of `model` on `split`, with the context length of its specification.

    Returns the weights of the epoch that forecasts the validation windows best. The same seed gives
    the same weights. Raises InputError for an unknown `freeze` and an impossible context,
    LagliteError if the loss is not finite.
    """
    spec = model.spec
    copy = with_context(model, spec.context_length).train()
    freeze(copy, config.freeze)
    batches = SplitValidation(split, spec, spec.context_length, config.batch_size)

    def judge(network: LagLlama) -> float:
        wql = forecast_wql(network, batches.encoded, split.horizon, seed=config.seed)
        return min(wql, LARGEST)  # an infinite one would end the run

    with tempfile.TemporaryDirectory(prefix="laglite-finetune-") as folder:
        settings = _train_config(spec, split, config, folder)
        path = fit(
            copy, settings, [split.training], resume_from=None, progress=progress,
            validation=batches, judge=judge,
        )  # fmt: skip
        steps = int(torch.load(path, weights_only=True, map_location="cpu")["global_step"])
        trained = load_checkpoint(path).model
    wql = forecast_wql(trained, batches.encoded, split.horizon, seed=config.seed)
    return Candidate(trained, config.learning_rate, steps, wql)


def as_it_came(
    model: LagLlama, split: TimeSplit, context: int, config: FineTuneConfig
) -> Candidate:
    """The network without training, at another context."""
    same = with_context(model, context)
    batches = SplitValidation(split, same.spec, context, config.batch_size)
    wql = forecast_wql(same, batches.encoded, split.horizon, seed=config.seed)
    return Candidate(same, 0.0, 0, wql)


def with_context(model: LagLlama, context: int) -> LagLlama:
    """A copy of the network whose default context is `context` tokens."""
    copy = LagLlama(dataclasses.replace(model.spec, context_length=context))
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def check_context(spec: ModelSpec, context: int, horizon: int) -> None:
    """Raise InputError if a prompt of `context` tokens and the horizon do not fit the model."""
    most = spec.max_positions
    if context < 1:
        raise InputError(f"context must be at least 1 token, not {context}")
    if most is not None and context + horizon - 1 > most:
        raise InputError(
            f"context {context} and horizon {horizon} need {context + horizon - 1} positions, but "
            f"this model has {most}: shorten one of them"
        )


def freeze(model: LagLlama, rule: str) -> int:
    """Leave only some weights trainable, as `FineTuneConfig.freeze` says; return their number.

    Raises InputError for an unknown rule, or more blocks than there are.
    """
    blocks = len(model.transformer["h"])
    match = re.fullmatch(r"last-(\d+)", rule)
    if rule not in ("none", "head") and match is None:
        raise InputError(f"freeze {rule!r} is not known; one of: none, head, last-K (K blocks)")
    last = int(match.group(1)) if match else 0
    if match and not 1 <= last <= blocks:
        raise InputError(f"freeze {rule!r}: the model has {blocks} blocks; choose 1 to {blocks}")
    if rule != "none":
        model.requires_grad_(False)
        trained = [part for name, part in model.named_children() if name != "transformer"]
        trained.append(model.transformer["ln_f"])
        trained += list(model.transformer["h"])[blocks - last :]
        for module in trained:
            module.requires_grad_(True)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def inherited_sampling(spec: ModelSpec, training: Mapping[str, Any]) -> SamplingConfig:
    """How windows are drawn, as far as the network was trained so before.

    `training` is a checkpoint's or a bundle's record of it. Without one, windows lose history and
    time stamps if the specification says that the network knows such windows.
    """
    defaults = SamplingConfig()
    known = training.get("sampling")
    found = known if isinstance(known, Mapping) else {
        "short_history": defaults.short_history if spec.history == "carry" else 0.0,
        "calendar_dropout": defaults.calendar_dropout if spec.calendar_optional else 0.0,
    }  # fmt: skip
    numbers = {
        name: float(found[name])
        for name in INHERITED
        if isinstance(found.get(name), (int, float)) and found[name] >= 0
    }
    return dataclasses.replace(defaults, **numbers)


def inherited_rollout(training: Mapping[str, Any]) -> float:
    """The weight of rollouts in the loss that the network was trained with before, 0 if none."""
    known = training.get("rollout")
    weight = known.get("weight") if isinstance(known, Mapping) else known  # known: fine-tuned
    known_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    return float(weight) if known_number and 0 <= weight < math.inf else 0.0


def _rolls_out(spec: ModelSpec, horizon: int) -> bool:
    """Whether paths have gradients, a last value to be counted from, and more than one step."""
    return spec.head in HEADS and spec.lags[0] == 0 and horizon > 1


def _train_config(
    spec: ModelSpec, split: TimeSplit, config: FineTuneConfig, folder: str
) -> TrainConfig:
    epochs = max(1, config.steps // config.steps_per_epoch)
    return TrainConfig(
        model=spec,
        data=(split.name,),
        output=str(Path(folder) / "run"),
        sampling=dataclasses.replace(
            config.sampling, horizon=split.horizon, context_lengths=(spec.context_length,)
        ),
        optimiser=OptimiserConfig(
            name="adamw",
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            warmup_steps=min(20, config.steps // 10),
            average=config.average,
        ),
        rollout=RolloutConfig(
            weight=config.rollout if _rolls_out(spec, split.horizon) else 0.0,
            begin=0.0,
            steps=min(RolloutConfig.steps, split.horizon),
            windows=min(RolloutConfig.windows, config.batch_size),
        ),
        run=RunConfig(
            epochs=epochs,
            steps_per_epoch=min(config.steps_per_epoch, config.steps),
            batch_size=config.batch_size,
            seed=config.seed,
            threads=config.threads,
            patience=config.patience,
        ),
    )
