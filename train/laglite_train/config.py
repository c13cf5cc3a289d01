"""The YAML file of a training run, as frozen dataclasses checked before anything starts."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from laglite.errors import InputError, SpecError
from laglite.spec import ModelSpec
from laglite_train.windows import SamplingConfig

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with linear warm-up and cosine decay to zero."""

    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 200
    gradient_clip: float = 1.0


@dataclass(frozen=True)
class RunConfig:
    """How long and how a run goes; an epoch is the span between validations and checkpoints."""

    epochs: int = 10
    steps_per_epoch: int = 200
    batch_size: int = 64
    seed: int = 0
    threads: int | None = None
    precision: str = "32-true"
    validation_windows: int = 16


@dataclass(frozen=True)
class TrainConfig:
    """A whole run: `data` lists files and folders in the Parquet series format."""

    model: ModelSpec
    data: tuple[str, ...]
    output: str
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)


def read_config(path: Path) -> TrainConfig:
    """Read and check a YAML file. Raises InputError that names the key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: a training config is a mapping of keys, such as model: and data:"
        )
    try:
        config = _build(TrainConfig, values, "")
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    _check(config, path)
    return config


def _check(config: TrainConfig, path: Path) -> None:
    sampling, longest = config.sampling, max(config.sampling.context_lengths, default=0)
    total = longest + sampling.horizon
    limits = [
        (longest >= 1, "sampling.context_lengths must hold at least one length"),
        (min(sampling.context_lengths, default=1) >= 1, "sampling.context_lengths must be >= 1"),
        (sampling.horizon >= 1, "sampling.horizon must be at least 1"),
        (0 <= sampling.short_history <= 1, "sampling.short_history is a share from 0 to 1"),
        (0 <= sampling.calendar_dropout <= 1, "sampling.calendar_dropout is a share from 0 to 1"),
        (config.run.epochs >= 1, "run.epochs must be at least 1"),
        (config.run.steps_per_epoch >= 1, "run.steps_per_epoch must be at least 1"),
        (config.run.batch_size >= 1, "run.batch_size must be at least 1"),
        (config.run.validation_windows >= 1, "run.validation_windows must be at least 1"),
        (
            0 < config.optimiser.learning_rate < 1,
            "optimiser.learning_rate must be above 0 and below 1",
        ),
        (
            total <= config.model.max_context_length,
            f"sampling: context and horizon come to {total}, beyond "
            f"model.max_context_length {config.model.max_context_length}",
        ),
        (sampling.largest_value > 0, "sampling.largest_value must be above 0"),
        (sampling.temperature >= 0, "sampling.temperature must be at least 0"),
        (config.run.seed >= 0, "run.seed must be at least 0"),
        (
            config.run.threads is None or config.run.threads >= 1,
            "run.threads must be at least 1, or left out for all cores",
        ),
        (
            config.run.precision in PRECISIONS,
            f"run.precision {config.run.precision!r} is not one of {', '.join(PRECISIONS)}",
        ),
        (config.optimiser.warmup_steps >= 0, "optimiser.warmup_steps must be at least 0"),
        (config.optimiser.weight_decay >= 0, "optimiser.weight_decay must be at least 0"),
        (config.optimiser.gradient_clip > 0, "optimiser.gradient_clip must be above 0"),
        (bool(config.output), "output must name a folder"),
        (bool(config.data), "data must list at least one file or folder"),
    ]
    for holds, message in limits:
        if not holds:
            raise InputError(f"{path}: {message}")


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
