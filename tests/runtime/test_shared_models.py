"""Forecasters in pools of processes: pickled by how they were loaded, opened once in each."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from laglite import Forecaster
from laglite.bundle import SHIPPED
from laglite.errors import BundleError

SERIES = np.sin(np.arange(100) / 5)
IN_A_POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
import numpy as np
from laglite import Forecaster

if __name__ == "__main__":
    series = [np.sin(np.arange(100) / 5) + level for level in range(4)]
    forecaster = Forecaster.load("nano", precision="int8", threads=2)
    forecast = partial(forecaster.predict, horizon=3, num_samples=40, seed=1)
    expected = [forecast(one).samples for one in series]
    with ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1])) as pool:
        found = [one.samples for one in pool.map(forecast, series)]
    print("alike" if np.array_equal(found, expected) else "unlike")
"""


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle beside the working directory, so that its relative path soon leads nowhere."""
    folder = tmp_path / "models" / "mine"
    shutil.copytree(SHIPPED / "nano", folder)
    monkeypatch.chdir(folder.parent)
    return folder


@pytest.mark.parametrize("start", multiprocessing.get_all_start_methods())
def test_a_pool_of_processes_forecasts_alike(start: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"  # on its own: nobody forks beside the threads of other tests
    program.write_text(IN_A_POOL)
    done = subprocess.run(
        [sys.executable, str(program), start],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "alike\n"), done.stderr


def test_a_process_opens_a_pickled_model_once() -> None:
    pickled = pickle.dumps(Forecaster.load("nano", threads=1))
    assert len(pickled) < 1000
    assert pickle.loads(pickled) is pickle.loads(pickled)


def test_a_pickled_forecaster_finds_its_bundle_from_any_directory(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecaster = Forecaster.load(copied.name, threads=1)
    monkeypatch.chdir("/")
    found = pickle.loads(pickle.dumps(forecaster)).predict(SERIES, horizon=3, seed=1)
    expected = forecaster.predict(SERIES, horizon=3, seed=1)
    np.testing.assert_array_equal(found.samples, expected.samples)


def test_another_bundle_at_the_place_of_the_pickled_one_is_refused(copied: Path) -> None:
    pickled = pickle.dumps(Forecaster.load(copied.name, threads=1))
    shutil.rmtree(copied)
    shutil.copytree(SHIPPED / "base", copied)
    with pytest.raises(BundleError, match="mine: not the bundle that was pickled"):
        pickle.loads(pickled)


def test_a_forecaster_of_parts_given_by_hand_is_not_pickled() -> None:
    loaded = Forecaster.load("nano", threads=1)
    with pytest.raises(TypeError, match=r"not made by Forecaster\.load"):
        pickle.dumps(Forecaster(loaded.bundle, loaded.backend, 1))
