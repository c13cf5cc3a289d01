"""Beginning a run with the weights of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from laglite.errors import InputError
from laglite.spec import REGRESSION_FEATURES, ModelSpec
from laglite_train.checkpoint import load_checkpoint
from laglite_train.model import LagLlama

# Keys of a specification that no weight depends on.
FREE = ("context_length", "max_context_length", "calendar_optional")
FIRST_GATE = -2.0  # of a regression new to the network: an eighth of the way to its forecast


def begin_with(model: LagLlama, path: Path) -> dict[str, Any]:
    """Give `model` the weights of checkpoint `path`, and tell how those were trained.

    A training checkpoint holds the averaged weights as the model; these are what is taken. A model
    with `regression` may begin with one without: the new inputs weigh nothing at first. Raises
    CheckpointError if it cannot be read, InputError if its network or its inputs are others.
    """
    loaded = load_checkpoint(path)
    theirs, ours = loaded.model.spec.to_dict(), model.spec.to_dict()
    added = ours["regression"] and not theirs["regression"]
    free = (*FREE, "regression") if added else FREE
    others = [key for key in ours if key not in free and theirs[key] != ours[key]]
    if others:
        raise InputError(
            f"init: {path} is of another model: {', '.join(f'model.{key}' for key in others)}; "
            "make the config's model that of the checkpoint"
        )
    weights = loaded.model.state_dict()
    model.load_state_dict(_with_regression(weights, model.spec) if added else weights)
    return {"name": path.stem, "origin": loaded.origin, "training": dict(loaded.training)}


def _with_regression(weights: dict[str, Tensor], spec: ModelSpec) -> dict[str, Tensor]:
    """Weights of a network without `spec.regression`, widened to its inputs and its gate."""
    name = "transformer.wte.weight"
    forecast, errors = spec.num_lags, spec.num_past + spec.num_static - REGRESSION_FEATURES
    new = [forecast, *range(errors, errors + REGRESSION_FEATURES)]
    old = [column for column in range(spec.num_features) if column not in new]
    widened = weights[name].new_zeros(spec.width, spec.num_features)
    widened[:, old] = weights[name]
    return {
        **weights,
        name: widened,
        "regression_gate.weight": widened.new_zeros(1, spec.width),
        "regression_gate.bias": widened.new_full((1,), FIRST_GATE),
    }
