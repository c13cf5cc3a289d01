"""Verification: a bundle's test vectors run on this device, the whole way from values to heads."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.backends import Backend
from laglite.bundle import Bundle
from laglite.decoding import PathHistory, fill_static, prefill
from laglite.errors import BundleError
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
    """Largest absolute differences of one case, by stage."""

    prompt_tokens: int
    paths: int
    steps: int
    features: float
    prefill: float
    decoding: float

    @property
    def largest(self) -> float:
        return max(self.features, self.prefill, self.decoding)


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


def verify(bundle: Bundle, backend: Backend) -> list[CaseResult]:
    """Run every test vector of `bundle` on `backend`; the caller judges the differences."""
    cases = read_cases(bundle.verification, bundle.spec)
    return [run_case(bundle.spec, backend, case) for case in cases]


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
    return CaseResult(count, paths, steps, features, prefilled, decoded)


def _difference(found: Array, expected: Array) -> float:
    """Largest absolute difference; infinite where shapes differ or a value is not a number."""
    if found.shape != expected.shape:
        return float("inf")
    largest = float(np.abs(found.astype(np.float64) - expected).max())
    return largest if np.isfinite(largest) else float("inf")
