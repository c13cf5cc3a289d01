"""Verification: a bundle's test vectors run on this machine, the whole way from values to heads."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.backends import Backend
from laglite.backends.device import Capacity, Device
from laglite.bundle import Bundle
from laglite.decoding import PathHistory, PathRequest, fill_static, prefill
from laglite.device_workspace import Workspace
from laglite.errors import BundleError, CapacityError
from laglite.heads import HEADS
from laglite.randomness import IndependentNoise, path_uniforms
from laglite.rope import rotary_tables
from laglite.spec import ModelSpec
from laglite.tokens import TimeAxis, encode, known_features

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One test vector.

    history float64 [length] with NaN where missing, and futures float64 [paths, steps] fed as if
    sampled; covariates float64 [length + steps, num], None for a model without. Expected, from
    PyTorch: tokens float32 [tokens + steps - 1, features] of the first path, and arguments, each
    float32 [paths, tokens + steps - 1].
    """

    history: NDArray[np.float64]
    futures: NDArray[np.float64]
    start: str
    freq: str
    context: int
    tokens: Array
    arguments: Mapping[str, Array]
    covariates: NDArray[np.float64] | None = None

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays for an npz file."""
        given = {} if self.covariates is None else {"covariates": self.covariates}
        return {
            "history": self.history,
            "futures": self.futures,
            "start": np.array(self.start),
            "freq": np.array(self.freq),
            "context": np.array(self.context),
            "tokens": self.tokens,
            **given,
            **{f"param_{name}": values for name, values in self.arguments.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> Case:
        """What `to_arrays` wrote, for a head with arguments `names`."""
        return cls(
            arrays["history"],
            arrays["futures"],
            str(arrays["start"]),
            str(arrays["freq"]),
            int(arrays["context"]),
            arrays["tokens"],
            {name: arrays[f"param_{name}"] for name in names},
            arrays.get("covariates"),
        )


@dataclass(frozen=True)
class CaseResult:
    """Largest absolute differences of one case, by stage.

    `device` is that of decoding on the engine itself, None where it cannot, or holds no case of
    this size; draws there count by their difference over 1 plus their size.
    """

    prompt_tokens: int
    paths: int
    steps: int
    features: float
    prefill: float
    decoding: float
    device: float | None = None

    @property
    def largest(self) -> float:
        return max(self.features, self.prefill, self.decoding, self.device or 0.0)


def write_cases(path: Path, cases: Sequence[Case]) -> None:
    """Write test vectors as a compressed npz: `case_<n>/<array>`."""
    arrays = {
        f"case_{number}/{name}": array
        for number, case in enumerate(cases)
        for name, array in case.to_arrays().items()
    }
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_cases(path: Path, spec: ModelSpec) -> list[Case]:
    """Read test vectors. Raises BundleError for a damaged file."""
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                case, _, name = key.partition("/")
                groups.setdefault(case, {})[name] = file[key]
        cases = [Case.from_arrays(groups[name], spec.arguments) for name in sorted(groups)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: damaged test vectors ({error}); export again") from error
    if not cases:
        raise BundleError(f"{path}: holds no test vectors; export the bundle again")
    return cases


def verify(
    bundle: Bundle, backend: Backend, note: Callable[[str], None] | None = None
) -> list[CaseResult]:
    """Run every test vector of `bundle` on `backend`; the caller judges the differences.

    Vectors larger than compiled engines hold are left out, and `note` is told. Raises
    CapacityError if all are.
    """
    cases = read_cases(bundle.verification, bundle.spec)
    results: list[CaseResult] = []
    too_large: list[CapacityError] = []
    for case in cases:
        try:
            results.append(run_case(bundle.spec, backend, case))
        except CapacityError as error:
            too_large.append(error)
    if not results:
        raise too_large[0]
    if too_large and note is not None:
        note(f"{len(too_large)} of {len(cases)} test vectors were left out: {too_large[0]}")
    return results


def run_case(spec: ModelSpec, backend: Backend, case: Case) -> CaseResult:
    """Features, prefill, and decoding fed with the case's futures, each against its expectation."""
    axis = TimeAxis.of(case.start, case.freq)
    whole = encode(
        spec, case.history, axis, case.context, case.futures[0, :-1], covariates=case.covariates
    )
    prompt = encode(spec, case.history, axis, case.context, covariates=case.covariates)
    count = len(prompt.tokens)
    paths, steps = case.futures.shape
    cos, sin = rotary_tables(spec, count + steps - 1)
    (start,) = prefill(backend, [prompt], (cos, sin))
    prefilled = max(
        _difference(start.arguments[name], expected[0, :count])
        for name, expected in case.arguments.items()
    )
    decoder = backend.decoder(start.cache, paths, steps - 1)
    history = PathHistory(spec, prompt, paths, steps)
    fill_static(decoder.tokens, spec, prompt)
    known = known_features(spec, axis, prompt.covariates, len(case.history), steps - 1)
    decoded = 0.0
    for step in range(steps - 1):
        history.append(prompt.window.to_scaled(case.futures[:, step]))
        history.write_tokens(decoder.tokens, known[step])
        found = decoder.step(cos[count + step], sin[count + step])
        for name, expected in case.arguments.items():
            decoded = max(decoded, _difference(found[name], expected[:, count + step]))
    features = _difference(whole.tokens, case.tokens)
    drawn = None
    if backend.device is not None:
        noise = IndependentNoise(path_uniforms(0, prompt.window, steps, paths))
        request = PathRequest(prompt, known, noise, nonnegative=False)
        drawn = _on_device(spec, backend.device, request, case)
    return CaseResult(count, paths, steps, features, prefilled, decoded, drawn)


def _on_device(spec: ModelSpec, device: Device, request: PathRequest, case: Case) -> float | None:
    """The case's prompt and futures on a device; its arguments, and the draws from them."""
    prompt, noise, head = request.prompt, request.noise, HEADS[spec.head]
    count = len(prompt.tokens)
    needed = Capacity(1, noise.paths, count, max(2, noise.horizon))
    if device.capacity is not None and device.capacity.exceeded_by(needed):
        return None
    workspace = Workspace(device, spec, device.capacity or needed)
    start = workspace.prefill([request])
    largest = max(
        _difference(found, case.arguments[name][:1, count - 1]) for name, found in start.items()
    )
    futures = prompt.window.to_scaled(case.futures).T
    drawn, arguments = workspace.follow(request, futures)
    whole = slice(0, noise.paths)
    for step in range(1, noise.horizon):
        found = dict(zip(spec.arguments, arguments[step, :, 0, whole], strict=True))
        for name, expected in case.arguments.items():
            largest = max(largest, _difference(found[name], expected[:, count + step - 1]))
        # Independent paths: what was drawn before does not matter.
        draws = head.sample(found, noise.uniforms(step, whole, None), prompt.window)
        size = 1 + np.abs(draws)
        largest = max(largest, _difference(drawn[step, 0, whole] / size, draws / size))
    return largest


def _difference(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Largest absolute difference; infinite where shapes differ or a value is not a number."""
    if found.shape != expected.shape:
        return float("inf")
    largest = float(np.abs(found.astype(np.float64) - expected).max())
    return largest if np.isfinite(largest) else float("inf")
