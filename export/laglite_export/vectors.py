"""Test vectors: inputs and PyTorch's outputs, for validation here and `laglite verify` anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from laglite.tokens import TimeAxis, encode
from laglite.verification import Case
from laglite_train.model import LagLlama


@dataclass(frozen=True)
class CaseShape:
    """One validation case: prompt length, paths and steps, and how much history there is."""

    context: int
    paths: int
    steps: int
    history: int


def case_shapes(model: LagLlama) -> list[CaseShape]:
    """Short and long prompts, one and many paths, past the cache's first capacity, and padding."""
    spec = model.spec
    most = spec.max_positions or 2 * max(spec.max_context_length, spec.context_length)
    wanted = [
        CaseShape(spec.context_length, 8, 12, spec.max_lag + spec.context_length + 7),
        CaseShape(1, 1, 3, spec.max_lag + 40),
        CaseShape(7, 3, 40, spec.max_lag + 7),
        CaseShape(4 * spec.context_length, 2, 5, spec.max_lag + 5 * spec.context_length),
        CaseShape(spec.context_length, 4, 6, max(2, spec.context_length // 2)),
    ]
    if spec.rope_scaling == "dynamic":
        wanted.append(CaseShape(spec.max_context_length, 2, 6, spec.max_context_length))
    return [shape for shape in wanted if shape.context + shape.steps - 1 <= most]


def make_case(model: LagLlama, shape: CaseShape, seed: int) -> Case:
    """A seasonal series with noise and gaps, several futures, and what PyTorch says of each."""
    spec = model.spec
    random = np.random.default_rng(seed)
    length = shape.history + shape.steps
    time = np.arange(length)
    season = np.sin(2 * np.pi * time / 24) + 0.4 * np.sin(2 * np.pi * time / 168)
    level = 10.0 ** random.uniform(-1, 3)
    series = level * (3 + season + 0.2 * random.standard_normal(length).cumsum() / 10)
    if spec.head == "neg_bin":
        series = np.rint(np.abs(series))
    history = series[: shape.history].copy()
    if shape.history > 10:
        history[random.choice(shape.history - 1, size=shape.history // 20, replace=False)] = np.nan
    noise = 1 + 0.1 * random.standard_normal((shape.paths, shape.steps))
    futures = series[shape.history :] * noise
    if spec.head == "neg_bin":
        futures = np.rint(futures)
    covariates = _covariates(random, length, spec.num_covariates) if spec.num_covariates else None
    if covariates is not None and shape.history > 10:
        covariates[shape.history // 2] = np.nan
    start, freq = "2024-01-31 22:00", "h"
    axis = TimeAxis.of(start, freq)
    # The last value is predicted, never read.
    tokens = np.stack(
        [
            encode(spec, history, axis, shape.context, future[:-1], covariates).tokens
            for future in futures
        ]
    )
    with torch.no_grad():
        arguments = model(torch.from_numpy(tokens))
    return Case(
        history=history,
        futures=futures,
        start=start,
        freq=freq,
        context=shape.context,
        tokens=tokens[0],
        arguments={name: values.numpy() for name, values in arguments.items()},
        covariates=covariates,
    )


def _covariates(random: np.random.Generator, length: int, count: int) -> NDArray[np.float64]:
    """By turns: a wandering level, rare events (often none in the history), a constant."""
    kinds = (
        20 + random.standard_normal(length).cumsum(),
        (random.random(length) < 0.02).astype(np.float64),
        np.full(length, 0.1),
    )
    return np.stack([kinds[column % len(kinds)] for column in range(count)], axis=-1)


def make_cases(model: LagLlama) -> Sequence[Case]:
    """One case for each shape."""
    return [make_case(model, shape, seed) for seed, shape in enumerate(case_shapes(model))]
