"""Fixtures of the adapters' tests, which run in an environment with the neighbouring libraries."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from laglite.spec import ModelSpec
from laglite_train.model import LagLlama
from tests.export.test_graphs import random_model

os.environ["HF_HUB_OFFLINE"] = "1"  # fev reads through a library that would ask its makers

# They need pandas 2, the other tests do with 3: `make test` has an environment for each.
if find_spec("gluonts") is None:
    collect_ignore_glob = ["test_*.py"]

BIRTHS = Path(__file__).parents[2] / "examples" / "us_births_daily.csv"


@pytest.fixture(scope="session")
def births() -> NDArray[np.float64]:
    """Daily births from 1985-01-01 on."""
    return np.loadtxt(BIRTHS, delimiter=",", skiprows=1, usecols=1)


@pytest.fixture(scope="session")
def with_covariates(small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path]) -> Path:
    """A bundle of a random model with two covariates."""
    spec = dataclasses.replace(small_spec, num_covariates=2)
    return export_to(random_model(spec), "two_covariates")


@pytest.fixture(scope="session")
def with_few_positions(small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path]) -> Path:
    """A bundle of a random model for 24 positions, prompt and horizon together."""
    spec = dataclasses.replace(small_spec, max_context_length=24)
    return export_to(random_model(spec), "few_positions")
