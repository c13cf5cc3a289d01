"""Checkpoints: laglite's own and the published Lag-Llama's, read without executing anything.

A published checkpoint pickles GluonTS objects among its settings. It is read by torch's
weights-only unpickler, which builds tensors and plain containers, with inert stand-ins for the few
classes such files are known to hold. Any other name in the file is refused before it is looked up.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from laglite.atomic_file import replacing
from laglite.errors import CheckpointError, SpecError
from laglite.spec import ModelSpec, default_mlp_width
from laglite_train.model import LagLlama

DISTRIBUTIONS = {
    "gluonts.torch.distributions.studentT.StudentTOutput": "studentT",
    "gluonts.torch.distributions.student_t.StudentTOutput": "studentT",
    "gluonts.torch.distributions.normal.NormalOutput": "normal",
    "gluonts.torch.distributions.negative_binomial.NegativeBinomialOutput": "neg_bin",
}
OTHER_STANDINS = (
    "gluonts.torch.modules.loss.NegativeLogLikelihood",
    "gluonts.torch.modules.loss.DistributionLoss",
)
CHECKPOINT_FORMAT = "laglite"
UNREADABLE = "not a readable checkpoint; the file is damaged or of another kind"


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, its origin ("laglite" or "lag-llama") and how it was trained."""

    model: LagLlama
    origin: str
    training: Mapping[str, Any]


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a `.ckpt` of `laglite train` or of the published Lag-Llama.

    Raises CheckpointError for a file that is not a checkpoint, that holds anything beyond tensors,
    plain containers and known settings classes, or that describes another architecture.
    """
    content = _read(path)
    try:
        state, hyper = _weights(content["state_dict"]), content["hyper_parameters"]
        own = hyper.get("format") == CHECKPOINT_FORMAT
        spec = ModelSpec.from_dict(hyper["spec"]) if own else _published_spec(hyper, state)
    except (SpecError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a Lag-Llama or laglite checkpoint ({type(error).__name__}: {error})"
        ) from error
    model = LagLlama(spec)
    _load_weights(path, model, state)
    training = hyper.get("training", {}) if own else {}
    return Checkpoint(model.eval(), "laglite" if own else "lag-llama", training)


def save_checkpoint(path: Path, model: LagLlama, training: Mapping[str, Any]) -> None:
    """Write weights that `load_checkpoint` reads; `training` holds plain values only.

    Raises InputError if the file cannot be written; a file is there whole or not at all.
    """
    content = {
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "hyper_parameters": {
            "format": CHECKPOINT_FORMAT,
            "spec": model.spec.to_dict(),
            "training": dict(training),
        },
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


class StandIn:
    """What a pickled GluonTS object becomes: its class's name and a bag of plain values."""

    qualified_name = ""


def _read(path: Path) -> dict[str, Any]:
    standins = {
        name: type(name.rpartition(".")[2], (StandIn,), {"qualified_name": name})
        for name in (*DISTRIBUTIONS, *OTHER_STANDINS)
    }
    allowed: list[Any] = [(cls, name) for name, cls in standins.items()]
    try:
        file = path.open("rb")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        with file, torch.serialization.safe_globals(allowed):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: {_refusal(path, error)}") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError,
            AttributeError, zipfile.BadZipFile) as error:  # fmt: skip
        raise CheckpointError(f"{path}: {UNREADABLE}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def _refusal(path: Path, error: Exception) -> str:
    """Say what the unpickler would not admit."""
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, pickle.UnpicklingError):  # not a zip: one bare pickle
        foreign = re.findall(r"GLOBAL ([\w.]+)", str(error))
    names = sorted({*foreign} - {*DISTRIBUTIONS, *OTHER_STANDINS})
    if not names:
        return UNREADABLE
    return (
        f"refused, and nothing in it was executed: it refers to {', '.join(names)}. A checkpoint "
        "may hold only tensors, plain containers and Lag-Llama's own settings"
    )


def _weights(state: Any) -> Mapping[str, Any]:
    """A checkpoint's `state_dict`. Raises TypeError for anything else."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise TypeError("state_dict does not map names to weights")
    return state


def _published_spec(hyper: Mapping[str, Any], state: Mapping[str, Any]) -> ModelSpec:
    """The specification in a published checkpoint's `hyper_parameters`."""
    kwargs = hyper["model_kwargs"]
    distribution = getattr(type(kwargs["distr_output"]), "qualified_name", None)
    if distribution not in DISTRIBUTIONS:
        supported = ", ".join(sorted(set(DISTRIBUTIONS.values())))
        raise CheckpointError(f"its distribution head is not supported; laglite has {supported}")
    if kwargs["input_size"] != 1:
        raise CheckpointError(f"input_size is {kwargs['input_size']}; only univariate models")
    rope = kwargs.get("rope_scaling") or {"type": "none"}
    width = kwargs["n_head"] * kwargs["n_embd_per_head"]
    lags = [int(lag) for lag in kwargs["lags_seq"]]
    return ModelSpec.from_dict(
        {
            "num_layers": kwargs["n_layer"],
            "num_heads": kwargs["n_head"],
            "head_dim": kwargs["n_embd_per_head"],
            "mlp_width": default_mlp_width(width),
            "lags": lags,
            "head": DISTRIBUTIONS[distribution],
            "scaling": kwargs["scaling"] or "none",
            "history": "zeros",
            "calendar": bool(kwargs.get("time_feat", True)),
            "context_length": kwargs["context_length"],
            "max_context_length": max(kwargs["max_context_length"], kwargs["context_length"]),
            "rope_scaling": rope["type"],
            "rope_factor": float(rope.get("factor") or 1.0),
        }
    )


def _load_weights(path: Path, model: LagLlama, state: Mapping[str, Any]) -> None:
    """Copy `model.*` of a Lightning state dict, every name and shape accounted for."""
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in state.items()
        if name.startswith("model.")
    }
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        found = weights.get(name)
        if not isinstance(found, Tensor):
            raise CheckpointError(f"{path}: weight {name!r} is missing; another architecture?")
        if found.shape != tensor.shape:
            raise CheckpointError(
                f"{path}: weight {name!r} is {tuple(found.shape)} where the settings say "
                f"{tuple(tensor.shape)}; another architecture?"
            )
        if not torch.isfinite(found).all():
            raise CheckpointError(f"{path}: weight {name!r} holds values that are not finite")
    extra = sorted(set(weights) - set(wanted))
    if extra:
        raise CheckpointError(f"{path}: unknown weight {extra[0]!r}; another architecture?")
    model.load_state_dict(weights)
