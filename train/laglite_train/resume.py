"""Going on with a run: its last checkpoint must fit the config, or the run is another one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laglite.errors import InputError, LagliteWarning
from laglite.spec import ModelSpec
from laglite_train.checkpoint import load_checkpoint

# Keys that decide what state a checkpoint holds, and so cannot change.
FIXED = ("optimiser.name", "optimiser.average", "run.steps_per_epoch")
# Keys that change no number that is trained.
FREE = ("run.threads", "run.workers", "run.devices", "run.nodes", "run.accelerator", "run.compile")


def check_resumable(last: Path, spec: ModelSpec, training: Mapping[str, Any]) -> None:
    """Whether the run of checkpoint `last` goes on with this model and `training` settings.

    `training` is what the module would write to its own checkpoints. Settings that changed since
    are named: those that the state depends on in an InputError, others in a LagliteWarning, as the
    run will no longer be the uninterrupted one. Raises CheckpointError for a damaged file.
    """
    checkpoint = load_checkpoint(last)
    then = {"model": checkpoint.model.spec.to_dict(), **checkpoint.training}
    changes = _changes(then, {"model": spec.to_dict(), **training})
    refused = {key: values for key, values in changes.items() if _fixed(key, values)}
    if refused:
        raise InputError(
            f"{last} cannot go on with another {_listed(refused)}; undo the change, or start a new "
            "run with another output"
        )
    noted = {key: values for key, values in changes.items() if key not in FREE}
    if noted:
        warnings.warn(
            f"{last} was trained with another {_listed(noted)}: the run will not be the same as "
            "without the interruption",
            LagliteWarning,
            stacklevel=2,
        )


def relocate(callbacks: Mapping[str, Any], folder: str) -> None:
    """Move the paths in the saved states of checkpoint callbacks to `folder`.

    A run that was copied elsewhere would otherwise forget its best loss.
    """

    def moved(path: str) -> str:
        return str(Path(folder) / Path(path).name) if path else path

    for state in callbacks.values():
        if "best_k_models" in state:
            scores = {moved(path): score for path, score in state["best_k_models"].items()}
            names = ("best_model_path", "kth_best_model_path", "last_model_path")
            paths = {name: moved(state[name]) for name in names}
            state.update(dirpath=folder, best_k_models=scores, **paths)


def _fixed(key: str, values: tuple[Any, Any]) -> bool:
    if key == "optimiser.average":  # its value may change, its presence may not
        return bool(values[0]) != bool(values[1])
    return key.startswith("model.") or key in FIXED


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings by their path that differ, with both values; what one side lacks is left out."""
    changes: dict[str, tuple[Any, Any]] = {}
    for section in sorted(then.keys() & now.keys()):
        old, new = then[section], now[section]
        if isinstance(old, dict) and isinstance(new, dict):
            for name in sorted(old.keys() & new.keys()):
                if old[name] != new[name]:
                    changes[f"{section}.{name}"] = (old[name], new[name])
        elif old != new:
            changes[section] = (old, new)
    return changes


def _listed(changes: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(
        key if isinstance(then, (list, dict)) else f"{key} ({then} then, {now} now)"
        for key, (then, now) in changes.items()
    )
