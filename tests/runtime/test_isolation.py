"""The runtime needs NumPy and onnxruntime alone, and carries the feature code for training too."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laglite.errors import MissingDependencyError

ROOT = Path(__file__).parents[2]
BLOCKED = (
    "torch", "onnx", "pandas", "matplotlib", "pyarrow", "lightning", "scipy", "yaml", "ray",
    "gluonts", "sktime", "fev", "datasets",
    "fastapi", "pydantic", "uvicorn",
)  # fmt: skip

# What keeps onnxruntime from reporting its use: laglite must do so without them.
TELEMETRY = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS")

FORECAST = f"""
import sys
import warnings

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
warnings.simplefilter("ignore")
from laglite import Forecaster
forecast = Forecaster.load(sys.argv[1]).predict(range(200), horizon=3, seed=0)
assert forecast.samples.shape == (100, 3)
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded & set({BLOCKED!r}), loaded & set({BLOCKED!r})
print("forecast without", *{BLOCKED!r})
"""


def test_the_runtime_forecasts_where_torch_onnx_pandas_and_matplotlib_are_blocked(
    tiny_bundle: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORECAST, str(tiny_bundle)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "forecast without torch" in done.stdout


def test_the_python_api_imports_no_command_line_library(tiny_bundle: Path) -> None:
    code = "import sys, laglite, laglite.evaluation; print({'click', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_forecast_leaves_nothing_in_the_home_directory(tiny_bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from laglite import Forecaster; "
        "Forecaster.load(sys.argv[1]).predict(range(200), horizon=3, seed=0)"
    )
    kept = {name: value for name, value in os.environ.items() if name not in TELEMETRY}
    home = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tiny_bundle)],
        capture_output=True, text=True, check=False, env=kept | home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("library", ["gluonts", "sktime", "fev"])
def test_an_adapter_without_its_library_names_the_extra(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for loaded in [name for name in sys.modules if name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.delitem(sys.modules, f"laglite.adapters.{library}", raising=False)
    with pytest.raises(MissingDependencyError, match=rf"needs {library}.*laglite\[{library}\]"):
        importlib.import_module(f"laglite.adapters.{library}")


def test_imports_go_one_way() -> None:
    forbidden = {
        "runtime/laglite": ("laglite_train", "laglite_export", "torch", "onnx "),
        "train/laglite_train": ("laglite_export",),
    }
    for folder, names in forbidden.items():
        for path in (ROOT / folder).rglob("*.py"):
            for line in path.read_text().splitlines():
                words = f"{line.strip()} "
                for name in names:
                    assert not words.startswith((f"import {name}", f"from {name}")), path


def test_a_forecast_on_the_cpu_imports_nothing_of_gpus(tiny_bundle: Path) -> None:
    code = (
        "import sys; from laglite import Forecaster; Forecaster.load(sys.argv[1]); "
        "print(sorted(name for name in sys.modules if name.startswith('laglite.backends.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle)], capture_output=True, text=True, check=True
    )
    for name in ("tensorrt", "gpu", "cuda", "onnxruntime_device"):
        assert name not in done.stdout
