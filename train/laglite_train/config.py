"""The YAML file of a training run, as frozen dataclasses checked before anything starts."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from laglite.errors import FrequencyError, InputError, SpecError
from laglite.frequency import parse_frequency
from laglite.spec import ModelSpec
from laglite_train.draws import WEIGHTINGS, SamplingConfig
from laglite_train.optimiser import OPTIMISERS, OptimiserConfig
from laglite_train.rollout import HEADS as ROLLOUT_HEADS
from laglite_train.rollout import RolloutConfig
from laglite_train.synthetic import SyntheticConfig
from laglite_train.window_augmentation import AugmentationConfig

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu")


@dataclass(frozen=True)
class RunConfig:
    """How long and how a run goes; an epoch is the span between validations and checkpoints.

    `batch_size` counts the windows of a step over all processes. `threads` are torch's (all cores
    if None), `workers` the processes that prepare batches (0: in the training process).
    `validation_windows` is how many each data set gives; training ends early after `patience`
    epochs without a better validation loss. `compile` fuses the network with torch.compile.
    `devices` (a node) and `nodes` above 1 train by DDP, one process for each device; under torchrun
    its own numbers count. `accelerator`: "cpu", "gpu", or "auto" for a GPU where there is one.
    """

    epochs: int = 10
    steps_per_epoch: int = 200
    batch_size: int = 64
    seed: int = 0
    threads: int | None = None
    workers: int = 0
    precision: str = "32-true"
    compile: bool = False
    validation_windows: int = 16
    patience: int | None = None
    devices: int = 1
    nodes: int = 1
    accelerator: str = "auto"

    @property
    def steps(self) -> int:
        """Training steps of the whole run."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class TrainConfig:
    """A whole run: `data` lists files and folders in the Parquet series format.

    `init` is a checkpoint whose weights the run begins with, instead of random ones.
    """

    model: ModelSpec
    data: tuple[str, ...]
    output: str
    init: str | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)


def read_config(path: Path, given: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read and check a YAML file, whose keys those `given` replace or complete.

    Raises InputError that names the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read (not UTF-8 text)") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: a training config is a mapping of keys, such as model: and data:"
        )
    try:
        config = _build(TrainConfig, {**values, **(given or {})}, "")
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    _check(config, path)
    return config


def _check(config: TrainConfig, path: Path) -> None:
    sampling, optimiser, run = config.sampling, config.optimiser, config.run
    rollout = config.rollout
    total = max(sampling.context_lengths, default=0) + sampling.horizon
    limits = [
        (
            min(sampling.context_lengths, default=0) >= 1,
            "sampling.context_lengths must hold at least one length, each at least 1",
        ),
        (
            total <= config.model.max_context_length,
            f"sampling: context and horizon come to {total}, beyond "
            f"model.max_context_length {config.model.max_context_length}",
        ),
        *_at_least(1, "sampling", sampling, "horizon"),
        *_at_least(0, "sampling", sampling, "temperature"),
        *_shares("sampling", sampling, "short_history", "calendar_dropout", "coarser",
                 "synthetic"),
        *(
            (0 < factor < math.inf, f"sampling.factors.{name} must be above 0, and finite")
            for name, factor in sampling.factors.items()
        ),
        *_frequency_shares(sampling.frequency_shares),
        *_finite_above_zero("sampling", sampling, "largest_value"),
        *_one_of("sampling", sampling, "weighting", WEIGHTINGS),
        *_shares("augmentation", config.augmentation, "frequency", "mask_rate", "mix_rate",
                 "series_mix", "sign_flip"),
        *_at_least(0, "augmentation", config.augmentation, "jitter", "magnitude"),
        *_at_least(1, "augmentation", config.augmentation, "most_partners"),
        *_at_least(0, "rollout", rollout, "weight"),
        *_shares("rollout", rollout, "begin"),
        *_at_least(1, "rollout", rollout, "steps", "windows"),
        *_at_least(2, "rollout", rollout, "paths"),
        (
            not rollout.weight or rollout.steps <= sampling.horizon,
            f"rollout.steps {rollout.steps} is beyond sampling.horizon {sampling.horizon}",
        ),
        (
            not rollout.weight or rollout.windows <= run.batch_size,
            f"rollout.windows {rollout.windows} is beyond run.batch_size {run.batch_size}",
        ),
        (
            rollout.weight == 0 or config.model.head in ROLLOUT_HEADS,
            f"rollout.weight: model.head {config.model.head!r} has no draws with gradients; "
            f"those of {', '.join(ROLLOUT_HEADS)} have",
        ),
        (
            rollout.weight == 0 or config.model.lags[0] == 0,
            f"rollout.weight: scores are counted from the last value, but model.lags begin with "
            f"{config.model.lags[0]}, not 0",
        ),
        (
            config.model.head != "neg_bin"
            or not (config.augmentation.sign_flip or config.augmentation.jitter),
            "augmentation: sign_flip and jitter make negative values, which model.head neg_bin "
            "cannot have",
        ),
        *_one_of("optimiser", optimiser, "name", OPTIMISERS),
        *(
            (0 < getattr(optimiser, name) < 1, f"optimiser.{name} must be above 0 and below 1")
            for name in ("learning_rate", "matrix_learning_rate")
        ),
        *_at_least(0, "optimiser", optimiser, "warmup_steps", "weight_decay"),
        *_shares("optimiser", optimiser, "final_share"),
        (
            0 < optimiser.decay_share <= 1,
            "optimiser.decay_share must be above 0 and at most 1",
        ),
        (0 <= optimiser.average < 1, "optimiser.average must be at least 0 and below 1"),
        *_finite_above_zero("optimiser", optimiser, "gradient_clip"),
        *_at_least(1, "run", run, "epochs", "steps_per_epoch", "batch_size",
                   "validation_windows", "devices", "nodes"),
        *_at_least(0, "run", run, "seed", "workers"),
        (run.seed < 2**32, "run.seed must be below 2**32"),
        (
            run.threads is None or run.threads >= 1,
            "run.threads must be at least 1, or left out for all cores",
        ),
        (
            run.patience is None or run.patience >= 1,
            "run.patience must be at least 1, or left out to train all epochs",
        ),
        (
            run.batch_size % max(1, run.devices * run.nodes) == 0,
            f"run.batch_size {run.batch_size} does not divide among run.devices {run.devices} x "
            f"run.nodes {run.nodes}",
        ),
        *_one_of("run", run, "precision", PRECISIONS),
        *_one_of("run", run, "accelerator", ACCELERATORS),
        (
            not (run.precision == "16-mixed" and run.accelerator == "cpu"),
            "run.precision 16-mixed needs a GPU; on a CPU (run.accelerator) take bf16-mixed",
        ),
        (
            not (sampling.coarser and config.model.num_covariates),
            "sampling.coarser must be 0 where model.num_covariates is not: covariates are not "
            "averaged",
        ),
        (bool(config.output), "output must name a folder"),
        (bool(config.data), "data must list at least one file or folder"),
    ]  # fmt: skip
    for holds, message in limits:
        if not holds:
            raise InputError(f"{path}: {message}")


Limit = tuple[bool, str]


def _at_least(least: int, section: str, values: Any, *names: str) -> list[Limit]:
    return [
        (least <= getattr(values, name) < math.inf, f"{section}.{name} must be at least {least}")
        for name in names
    ]


def _finite_above_zero(section: str, values: Any, *names: str) -> list[Limit]:
    return [
        (0 < getattr(values, name) < math.inf, f"{section}.{name} must be above 0, and finite")
        for name in names
    ]


def _shares(section: str, values: Any, *names: str) -> list[Limit]:
    return [
        (0 <= getattr(values, name) <= 1, f"{section}.{name} is a share from 0 to 1")
        for name in names
    ]


def _frequency_shares(shares: dict[str, float]) -> list[Limit]:
    seen: dict[tuple[str, int], str] = {}
    for alias in shares:
        try:
            freq = parse_frequency(alias)
        except FrequencyError as error:
            return [(False, f"sampling.frequency_shares.{alias}: {error}")]
        other = seen.setdefault((freq.unit, freq.multiple), alias)
        if other != alias:
            return [(False, f"sampling.frequency_shares: {other} and {alias} are one frequency")]
    return [
        (
            min(shares.values(), default=1) > 0 and sum(shares.values()) <= 1 + 1e-9,
            "sampling.frequency_shares must be above 0 and sum to at most 1",
        )
    ]


def _one_of(section: str, values: Any, name: str, allowed: tuple[str, ...]) -> list[Limit]:
    value = getattr(values, name)
    return [(value in allowed, f"{section}.{name} {value!r} is not one of {', '.join(allowed)}")]


def _build(cls: type, values: dict[str, Any], prefix: str) -> Any:
    """A dataclass from a mapping; every message names the key by its path."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise InputError(f"unknown key {prefix}{key}; known: {', '.join(fields)}")
    built: dict[str, Any] = {}
    for name, spec in fields.items():
        if name in values:
            built[name] = _convert(hints[name], values[name], prefix + name)
        elif spec.default is spec.default_factory is dataclasses.MISSING:
            raise InputError(f"key {prefix}{name} is missing")
    try:
        return cls(**built)
    except SpecError as error:
        raise InputError(f"{prefix}{error}") from error


def _convert(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise InputError(f"{key} must be a mapping of keys, not {value!r}")
        return _build(hint, value, f"{key}.")  # type: ignore[arg-type]
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise InputError(f"{key} must be a list, not {value!r}")
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, v, f"{key}[{i}]") for i, v in enumerate(value))
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise InputError(f"{key} must be a mapping of keys, not {value!r}")
        item = typing.get_args(hint)[1]
        return {str(name): _convert(item, v, f"{key}.{name}") for name, v in value.items()}
    if isinstance(hint, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        hint = next(option for option in options if option is not type(None))
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise InputError(f"{key} must be of type {hint.__name__}, not {value!r}")
    return value
