"""Files of compiled engines: where they lie, what they were made from and for, what is refused.

A set of engines is a directory with a file for each graph and `engines.json`, described in
docs/tensorrt.md. Engines run only where TensorRT, and the GPU, are those they were made for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from laglite.backends.device import DEVICE_STEP, PREFILL, Capacity
from laglite.bundle import SHIPPED, Bundle, manifest_digest
from laglite.errors import BackendError, InputError
from laglite.user_cache import user_cache

if TYPE_CHECKING:
    from laglite.backends.cuda_driver import Gpu

SCHEMA_VERSION = 1
MANIFEST = "engines.json"
FOLDER = "LAGLITE_ENGINES"  # the environment variable that names the folder of all sets
RTX = "tensorrt_rtx"  # the flavour whose engines are for any of its GPUs
NO_GPU = "none: built without a device"
CAPACITY_OPTIONS = ("--series", "--paths", "--context", "--horizon")
SHORT = 12  # hexadecimal digits of a hash in names and messages


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine, and its shapes at the least and the largest capacity."""

    name: str
    is_input: bool
    dtype: str
    least: tuple[int, ...]
    largest: tuple[int, ...]

    @property
    def largest_bytes(self) -> int:
        return math.prod(self.largest) * np.dtype(self.dtype).itemsize

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an input may have this shape."""
        if len(shape) != len(self.largest):
            return False
        limits = zip(self.least, shape, self.largest, strict=True)
        return all(low <= length <= high for low, length, high in limits)

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Tensor:
        shapes = (tuple(int(n) for n in entry[key]) for key in ("least", "largest"))
        return cls(str(entry["name"]), bool(entry["is_input"]), str(entry["dtype"]), *shapes)


@dataclass(frozen=True)
class EngineFile:
    """A graph's engine: its file, the hash of the ONNX file it was made from, its tensors."""

    file: str
    size: int
    sha256: str
    graph: str
    graph_sha256: str
    tensors: tuple[Tensor, ...]

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> EngineFile:
        texts = {name: str(entry[name]) for name in ("file", "sha256", "graph", "graph_sha256")}
        if Path(texts["file"]).name != texts["file"]:
            raise ValueError(f"the path {texts['file']!r} leaves the directory")
        tensors = tuple(Tensor.from_dict(each) for each in entry["tensors"])
        return cls(size=int(entry["size"]), tensors=tensors, **texts)


@dataclass(frozen=True)
class Target:
    """What engines are made from and for.

    `gpu` is its name and compute capability, or says that they were built without a device.
    """

    bundle: str
    bundle_sha256: str
    precision: str
    flavour: str
    version: str
    gpu: str

    @classmethod
    def of(
        cls, bundle: Bundle, precision: str, flavour: str, version: str, gpu: Gpu | None
    ) -> Target:
        digest, known = manifest_digest(bundle.path), NO_GPU if gpu is None else str(gpu)
        return cls(bundle.name, digest, precision, flavour, version, known)

    def differences(self, other: Target) -> list[str]:
        """How engines made for `self` do not suit `other`, in words; empty if they do."""
        found = []
        if self.bundle_sha256 != other.bundle_sha256:
            found.append(
                f"made from another version of the model (manifest sha256 "
                f"{self.bundle_sha256[:SHORT]}, here {other.bundle_sha256[:SHORT]})"
            )
        if self.precision != other.precision:
            found.append(f"of precision {self.precision}, not {other.precision}")
        if self.flavour != other.flavour:
            found.append(f"made by {self.flavour}, here is {other.flavour}")
        elif self.version != other.version:
            found.append(f"made by {self.flavour} {self.version}, here is {other.version}")
        if self.flavour != RTX and self.gpu != other.gpu:
            found.append(f"made for {self.gpu}, here is {other.gpu}")
        return found

    def folder(self, root: Path) -> Path:
        """Where in the folder of all sets this one lies."""
        gpu = "any" if self.flavour == RTX else self.gpu
        parts = (self.bundle_sha256[:SHORT], self.flavour, self.version, gpu)
        return _siblings(root, self.bundle, self.precision) / _plain("-".join(parts))

    def timing_cache(self, root: Path) -> Path:
        """TensorRT's timings of this GPU, for all models."""
        return root / _plain(f"timings-{self.flavour}-{self.version}-{self.gpu}.cache")


@dataclass(frozen=True)
class EngineSet:
    """The engines of one bundle in one precision, by the names of their graphs.

    `model` is what the command line calls the bundle here.
    """

    path: Path
    model: str
    target: Target
    capacity: Capacity
    engines: Mapping[str, EngineFile]

    def write_manifest(self, path: Path) -> None:
        """Write `engines.json` to `path`."""
        facts = {"target": asdict(self.target), "capacity": asdict(self.capacity)}
        engines = {name: asdict(engine) for name, engine in self.engines.items()}
        content = {"schema_version": SCHEMA_VERSION, **facts, "engines": engines}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def engine(self, graph: str) -> EngineFile:
        """The engine of `graph`, as written down. Raises BackendError if there is none."""
        if graph not in self.engines:
            raise BackendError(f"{self.path}: no engine of graph {graph!r}; {self.rebuild_hint()}")
        return self.engines[graph]

    def read(self, graph: str) -> bytes:
        """The content of an engine's file. Raises BackendError if it is not what was written.

        It is checked and returned from one reading: what was checked is what will run.
        """
        engine = self.engine(graph)
        file = self.path / engine.file
        try:
            content = file.read_bytes()
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
            raise BackendError(f"{file}: {reason}; {self.rebuild_hint()}") from error
        if sha256(content) != engine.sha256:
            reason = f"damaged, its sha256 is not the one in {MANIFEST}"
            raise BackendError(f"{file}: {reason}; {self.rebuild_hint()}")
        return content

    def dtypes(self, graph: str) -> dict[str, str]:
        """The type of every tensor of a graph. Raises BackendError as `engine` does."""
        return {tensor.name: tensor.dtype for tensor in self.engine(graph).tensors}

    def decoding_bytes(self) -> int:
        """Memory of the tensors of decoding on the device, at full capacity.

        Tensors of one name are one buffer, but what a step writes lies beside what it reads.
        """
        sizes: dict[str, int] = {}
        for graph in (PREFILL, DEVICE_STEP):
            for tensor in self.engines[graph].tensors if graph in self.engines else ():
                sizes[tensor.name] = tensor.largest_bytes
        return sum(sizes.values())

    def rebuild_hint(self, **changed: int) -> str:
        """The command that makes this set anew, with some capacities changed."""
        capacity = replace(self.capacity, **changed)
        command = compile_command(self.model, self.target.precision, capacity)
        return f"make it anew: {command} --rebuild"


def compile_command(model: str, precision: str, capacity: Capacity | None = None) -> str:
    """The command that compiles engines of a model."""
    words = ["laglite", "compile", model]
    if precision != "fp32":
        words += ["--precision", precision]
    if capacity is not None:
        numbers = (capacity.series, capacity.paths, capacity.context, capacity.steps)
        for option, number in zip(CAPACITY_OPTIONS, numbers, strict=True):
            words += [option, str(number)]
    return shlex.join(words)


def model_argument(bundle: Bundle) -> str:
    """How the command line calls a bundle: a shipped model's name, or its directory."""
    return bundle.path.name if bundle.path.parent == SHIPPED else str(bundle.path)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def engines_root() -> Path:
    """The folder of all sets: $LAGLITE_ENGINES, else laglite/engines in the user's cache.

    Raises InputError where the user has none.
    """
    if os.environ.get(FOLDER):
        return Path(os.path.expanduser(os.environ[FOLDER])).absolute()
    return user_cache("engines")


def read_engine_set(path: Path, model: str) -> EngineSet:
    """Read the `engines.json` of a directory. Raises BackendError if it is damaged or newer."""
    file = path / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA_VERSION:
            version = content["schema_version"]
            raise BackendError(f"{file}: schema version {version!r}, not {SCHEMA_VERSION}")
        return EngineSet(
            path,
            model,
            Target(**content["target"]),
            Capacity(**{name: int(most) for name, most in content["capacity"].items()}),
            {name: EngineFile.from_dict(entry) for name, entry in content["engines"].items()},
        )
    except OSError as error:
        raise BackendError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"{file}: damaged ({type(error).__name__}: {error})") from error


def were_compiled(bundle: Bundle, precision: str) -> bool:
    """Whether there are engines of a model of this name, whatever they were made for."""
    try:
        root = engines_root()
    except InputError:
        return False  # there is no place where they could be
    return bool(_manifests(root, bundle.name, precision))


def find_engines(target: Target, root: Path, model: str) -> EngineSet:
    """The set of engines that suits `target`, under the folder of all sets.

    Raises BackendError that says how those which are there differ, and what to run.
    """
    refused = []
    for file in _manifests(root, target.bundle, target.precision):
        try:
            found = read_engine_set(file.parent, model)
        except BackendError as error:
            refused.append(str(error))
            continue
        differences = found.target.differences(target)
        if not differences:
            return found
        refused.append(f"{file.parent}: {', '.join(differences)}")
    command = compile_command(model, target.precision)
    if not refused:
        raise BackendError(
            f"no engines of {model} in {target.precision} under {root}; "
            f"compile them on this device: {command}"
        )
    raise BackendError(f"engines refused: {'; '.join(refused)}; compile on this device: {command}")


def _siblings(root: Path, bundle: str, precision: str) -> Path:
    """The folder of all sets of a model in a precision."""
    return root / _plain(f"{bundle}-{precision}")


def _manifests(root: Path, bundle: str, precision: str) -> list[Path]:
    return sorted(_siblings(root, bundle, precision).glob(f"*/{MANIFEST}"))


def _plain(name: str) -> str:
    """A file name of letters, digits, dots and hyphens."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")
