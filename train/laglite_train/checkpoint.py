"""Checkpoints: laglite's own and the published Lag-Llama's, read without executing anything.

A published checkpoint pickles GluonTS objects among its settings. All names in a file are compared
with a short list before torch's weights-only unpickler builds tensors and plain containers, with
inert stand-ins for the few classes such files are known to hold. Sizes that a file merely claims
cost no memory.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import re
import reprlib
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from laglite.atomic_file import replacing
from laglite.errors import CheckpointError, SpecError
from laglite.spec import ModelSpec, default_mlp_width
from laglite_train.model import LagLlama

DISTRIBUTIONS = {
    "gluonts.torch.distributions.studentT.StudentTOutput": "studentT",
    "gluonts.torch.distributions.student_t.StudentTOutput": "studentT",
    "gluonts.torch.distributions.distribution_output.NormalOutput": "normal",
    "gluonts.torch.distributions.negative_binomial.NegativeBinomialOutput": "neg_bin",
}
OTHER_STANDINS = (
    "gluonts.torch.modules.loss.NegativeLogLikelihood",
    "gluonts.torch.modules.loss.DistributionLoss",
    "numpy.core.multiarray.scalar",  # a learning rate of np.logspace
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)
# What else a file may name: less than torch's weights-only unpickler would call, which makes
# byte arrays and tensors of any size and kind.
PLAIN_NAMES = re.compile(
    r"torch\.\w+Storage|torch\.b?float\d+|torch\.device|torch\.Size"
    r"|torch\._utils\._rebuild_(tensor_v2|parameter)"
    r"|collections\.(OrderedDict|Counter)|(builtins|__builtin__)\.set|_codecs\.encode"
)
ZIP_START = b"PK\x03\x04"
LEGACY_PICKLES = 5  # of a file that torch wrote before 1.6, one after another
NAMES_SHOWN = 5
LEAST_BYTES = 2  # of a weight
PUBLISHED_SCALINGS = ("robust", "mean", "std", "none")
PUBLISHED_POSITIONS = 2048
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
    content, size = _read(path)
    try:
        state, hyper = _weights(content["state_dict"]), content["hyper_parameters"]
        own = hyper.get("format") == CHECKPOINT_FORMAT
        spec = ModelSpec.from_dict(hyper["spec"]) if own else _published_spec(hyper)
    except (SpecError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: not a Lag-Llama or laglite checkpoint ({type(error).__name__}: {error})"
        ) from error
    if LEAST_BYTES * spec.num_parameters > size:
        raise CheckpointError(
            f"{path}: its settings describe {spec.num_parameters:,} weights, more than its "
            f"{size:,} bytes can hold; another architecture?"
        )
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
    """What a pickled object of another library becomes: its class's name and nothing it does."""

    qualified_name = ""

    def __init__(self, *_: Any) -> None:
        """Take what the pickled object was made of, and drop it."""

    def __setstate__(self, _: Any) -> None:
        """Drop the pickled object's state."""

    def __repr__(self) -> str:
        return self.qualified_name


def _read(path: Path) -> tuple[dict[str, Any], int]:
    """What a checkpoint holds, and the file's size in bytes."""
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
            size = os.fstat(file.fileno()).st_size
            _check_names(path, file, size)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError,
            AttributeError, AssertionError, struct.error, pickle.UnpicklingError,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise CheckpointError(f"{path}: {UNREADABLE}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content, size


def _check_names(path: Path, file: IO[bytes], size: int) -> None:
    """Raise CheckpointError for a file that is damaged, inflates, or names what is not listed."""
    if file.read(len(ZIP_START)) == ZIP_START:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > size:
                raise CheckpointError(
                    f"{path}: refused: it unpacks to more than its {size:,} bytes, which no "
                    "checkpoint does"
                )
            if archive.testzip() is not None:
                raise CheckpointError(f"{path}: {UNREADABLE}")
            names = {
                name
                for member in members
                if member.filename.endswith(".pkl")
                for name in _pickled_names(archive.open(member), 1)
            }
    else:
        file.seek(0)
        names = set(_pickled_names(file, LEGACY_PICKLES))
    foreign = sorted(
        name if name.isprintable() else ascii(name)
        for name in names - {*DISTRIBUTIONS, *OTHER_STANDINS}
        if not PLAIN_NAMES.fullmatch(name)
    )
    if foreign:
        more = len(foreign) - NAMES_SHOWN
        raise CheckpointError(
            f"{path}: refused, and nothing in it was executed: it refers to "
            f"{', '.join(foreign[:NAMES_SHOWN])}{f' and {more} more' if more > 0 else ''}. A "
            "checkpoint may hold only tensors, plain containers and Lag-Llama's own settings"
        )


def _pickled_names(file: IO[bytes], count: int) -> Iterator[str]:
    """Names of classes and functions in up to `count` pickles, as far as they can be read."""
    for _ in range(count):
        try:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    yield str(argument).replace(" ", ".")
        except ValueError:  # raw bytes, the end, or damage, which torch will find
            return


def _weights(state: Any) -> Mapping[str, Any]:
    """A checkpoint's `state_dict`. Raises TypeError for anything else."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise TypeError("state_dict does not map names to weights")
    return state


def _published_spec(hyper: Mapping[str, Any]) -> ModelSpec:
    """The specification in a published checkpoint's `hyper_parameters`."""
    kwargs = hyper["model_kwargs"]
    distribution = getattr(type(kwargs["distr_output"]), "qualified_name", None)
    if distribution not in DISTRIBUTIONS:
        supported = ", ".join(sorted(set(DISTRIBUTIONS.values())))
        raise CheckpointError(f"its distribution head is not supported; laglite has {supported}")
    if _whole(kwargs, "input_size") != 1:
        raise CheckpointError(f"input_size is {kwargs['input_size']}; only univariate models")
    scaling = kwargs["scaling"] or "none"
    if scaling not in PUBLISHED_SCALINGS:
        known = ", ".join(PUBLISHED_SCALINGS)
        raise CheckpointError(f"scaling {reprlib.repr(scaling)} is not known; one of: {known}")
    lags = kwargs["lags_seq"]
    if not isinstance(lags, list | tuple) or not all(float(lag).is_integer() for lag in lags):
        raise CheckpointError("lags_seq must be a list of whole numbers")
    rope = kwargs.get("rope_scaling") or {"type": "none"}
    context, positions = _whole(kwargs, "context_length"), _whole(kwargs, "max_context_length")
    if rope["type"] != "dynamic":  # there it is the size of a table that grows, not a limit
        positions = max(positions, 2 * context, PUBLISHED_POSITIONS)
    heads, head_dim = _whole(kwargs, "n_head"), _whole(kwargs, "n_embd_per_head")
    return ModelSpec.from_dict(
        {
            "num_layers": _whole(kwargs, "n_layer"),
            "num_heads": heads,
            "head_dim": head_dim,
            "mlp_width": default_mlp_width(heads * head_dim),
            "lags": [int(lag) for lag in lags],
            "head": DISTRIBUTIONS[distribution],
            "scaling": scaling,
            "history": "zeros",
            "calendar": bool(kwargs.get("time_feat", True)),
            "context_length": context,
            "max_context_length": positions,
            "rope_scaling": rope["type"],
            "rope_factor": float(rope.get("factor") or 1.0),
        }
    )


def _whole(kwargs: Mapping[str, Any], name: str) -> int:
    """A setting that counts something. Raises KeyError, CheckpointError."""
    value = kwargs[name]
    if type(value) is not int:
        raise CheckpointError(f"{name} must be a whole number, not {reprlib.repr(value)}")
    return value


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
        if not found.is_floating_point():
            kind = str(found.dtype).removeprefix("torch.")
            raise CheckpointError(f"{path}: weight {name!r} holds {kind} values, not real numbers")
        weights[name] = found.to(tensor.dtype)
        if not torch.isfinite(weights[name]).all():
            raise CheckpointError(f"{path}: weight {name!r} holds values that are not finite")
    extra = sorted(set(weights) - set(wanted))
    if extra:
        raise CheckpointError(f"{path}: unknown weight {extra[0]!r}; another architecture?")
    model.load_state_dict(weights)
