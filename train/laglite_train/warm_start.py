"""Beginning a run with the weights of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from laglite.errors import InputError
from laglite_train.checkpoint import load_checkpoint
from laglite_train.model import LagLlama

# Keys of a specification that no weight depends on.
FREE = ("context_length", "max_context_length", "calendar_optional")


def begin_with(model: LagLlama, path: Path) -> dict[str, Any]:
    """Give `model` the weights of checkpoint `path`, and tell how those were trained.

    A training checkpoint holds the averaged weights as the model; these are what is taken. Raises
    CheckpointError if it cannot be read, InputError if its network or its inputs are others.
    """
    loaded = load_checkpoint(path)
    theirs, ours = loaded.model.spec.to_dict(), model.spec.to_dict()
    others = [key for key in ours if key not in FREE and theirs[key] != ours[key]]
    if others:
        raise InputError(
            f"init: {path} is of another model: {', '.join(f'model.{key}' for key in others)}; "
            "make the config's model that of the checkpoint"
        )
    model.load_state_dict(loaded.model.state_dict())
    return {"name": path.stem, "origin": loaded.origin, "training": dict(loaded.training)}
