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
    may have more lags than its checkpoint, and `regression` where that has none: the new inputs
    weigh nothing at first. Raises CheckpointError if it cannot be read, InputError if its network
    or its inputs are others.
    """
    loaded = load_checkpoint(path)
    theirs, ours = loaded.model.spec, model.spec
    free = {*FREE}
    if set(theirs.lags) <= set(ours.lags):
        free.add("lags")
    if ours.regression and not theirs.regression:
        free.add("regression")
    here, there = ours.to_dict(), theirs.to_dict()
    others = [key for key in here if key not in free and there[key] != here[key]]
    if others:
        raise InputError(
            f"init: {path} is of another model: {', '.join(f'model.{key}' for key in others)}; "
            "make the config's model that of the checkpoint, but for lags and a regression to add"
        )
    model.load_state_dict(_widened(loaded.model.state_dict(), theirs, ours))
    return {"name": path.stem, "origin": loaded.origin, "training": dict(loaded.training)}


def _widened(weights: dict[str, Tensor], theirs: ModelSpec, ours: ModelSpec) -> dict[str, Tensor]:
    """The same function of `theirs` inputs, which are among those of `ours`."""
    name = "transformer.wte.weight"
    widened = widened_inputs(weights[name], theirs, ours)
    gate = {
        "regression_gate.weight": widened.new_zeros(ours.num_gates, ours.width),
        "regression_gate.bias": widened.new_full((ours.num_gates,), FIRST_GATE),
    }
    # A gate among the weights comes last, and counts.
    return {**(gate if ours.regression else {}), **weights, name: widened}


def widened_inputs(weight: Tensor, theirs: ModelSpec, ours: ModelSpec) -> Tensor:
    """An embedding of `theirs` tokens [width, features] as one of `ours`, which hold them all."""
    at = _inputs(ours)
    widened = weight.new_zeros(len(weight), ours.num_features)
    widened[:, [at.index(key) for key in _inputs(theirs)]] = weight
    return widened


def _inputs(spec: ModelSpec) -> list[tuple[str, int]]:
    """What each feature of a token is, in their order (see `laglite.tokens`)."""
    fitted = REGRESSION_FEATURES if spec.regression else 0
    plain = spec.num_static - fitted
    return [
        *(("lag", lag) for lag in spec.lags),
        *(("seasonal lag", i) for i in range(spec.num_lags - len(spec.lags))),
        *(("forecast", i) for i in range(spec.num_past - spec.num_lags)),
        *(("static", i) for i in range(plain)),
        *(("error", i) for i in range(fitted)),
        *(("future", i) for i in range(spec.num_known)),
    ]
