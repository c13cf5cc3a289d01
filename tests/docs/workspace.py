"""A folder with what the pages' code blocks read, and the commands they call.

Commands are the real ones, but for what a test must not do in full: `pip install` and `make` only
check what they are asked for, training and timing are cut to a step or two, and the MQTT broker is
the test's.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from laglite.spec import ModelSpec
from laglite_export.bundle_writer import export_bundle
from laglite_train.model import LagLlama
from tests.conftest import GOLDEN

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

PIP = """#!{python}
import re, sys
from importlib.metadata import metadata

assert sys.argv[1] == "install", sys.argv
for wanted in sys.argv[2:]:
    name = re.fullmatch(r"(?:laglite|[.])(?:\\[([a-z,]+)\\])?", wanted)
    assert name, f"pip install {{wanted}}: not a way to install laglite"
    known = set(metadata("laglite").get_all("Provides-Extra"))
    assert set((name[1] or "cpu").split(",")) <= known, f"{{wanted}}: extras are {{sorted(known)}}"
"""
MAKE = """#!/bin/sh
exec /usr/bin/make --dry-run --file {root}/Makefile --directory {root} "$@" >/dev/null
"""
LAGLITE = """#!/bin/sh
case "$1" in
  finetune) set -- "$@" --model nano --horizon 8 --steps 2 --batch 2 --samples 4 --threads 1 ;;
  stream) case "$*" in *--mqtt*) set -- "$@" --mqtt "$BROKER" ;; esac ;;
  bench) set -- "$@" --horizon 8 --paths 10 --threads 1 --repeats 2 ;;
esac
exec {bin}/laglite "$@"
"""
SENSOR = """#!{python}
import math

for step in range(80):
    print(round(20 + 5 * math.sin(step / 4), 3))
"""
SALES_MODEL = ModelSpec(
    2, 2, 4, 8, (0, 1, 2, 7), scaling="iqr", history="carry", calendar=True,
    calendar_optional=True, context_length=16, max_context_length=128, num_covariates=2,
)  # fmt: skip


def make_workspace(folder: Path) -> dict[str, str]:
    """Fill `folder`; return the environment of its commands."""
    for name in ("examples", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "docs/images").mkdir(parents=True)
    for file in (folder / "configs").glob("*.yaml"):
        _shorten(file)
    _write_series(folder)
    (folder / "token").write_text("a-secret-of-the-tests\n")
    shutil.copy(GOLDEN / "lag_llama_tiny.ckpt", folder / "lag-llama.ckpt")
    export_bundle(
        LagLlama(SALES_MODEL), folder / "sales-model", name="sales", license_name="none", summary={}
    )
    commands = folder / "bin"
    commands.mkdir()
    for name, text in (("pip", PIP), ("make", MAKE), ("laglite", LAGLITE), ("sensor", SENSOR)):
        script = commands / name
        script.write_text(text.format(python=sys.executable, root=ROOT, bin=BIN))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    path = os.pathsep.join([str(commands), str(BIN), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "COLUMNS": "80", "HOME": str(folder)}


def _shorten(config: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    settings["run"] |= {
        "epochs": 1, "steps_per_epoch": 1, "batch_size": 2, "validation_windows": 1, "devices": 1,
    }  # fmt: skip
    settings.get("sampling", {}).pop("factors", None)
    if "rollout" in settings:
        settings["rollout"]["windows"] = 1
    config.write_text(yaml.safe_dump(settings))


def _write_series(folder: Path) -> None:
    """Hourly loads as CSV and Parquet, a folder of data sets, and daily sales with covariates."""
    random, hours = np.random.default_rng(0), np.arange(600)
    loads = [50 + 10 * np.sin(hours * np.pi / 12 + k) + random.normal(size=600) for k in range(3)]
    times = pd.date_range("2024-01-01", periods=600, freq="h")
    frames = [
        pd.DataFrame({"unique_id": f"load{k}", "ds": times, "y": values.round(2)})
        for k, values in enumerate(loads)
    ]
    pd.concat(frames).to_csv(folder / "loads.csv", index=False)
    frames[0].to_csv(folder / "series.csv", index=False)
    table = pa.table(
        {
            "item_id": [f"load{k}" for k in range(3)],
            "start": ["2024-01-01"] * 3,
            "freq": ["h"] * 3,
            "target": [values.astype(np.float32) for values in loads],
        }
    )
    for data in ("data/train", "data/dev"):
        (folder / data).mkdir(parents=True)
        pq.write_table(table, folder / data / "loads.parquet")
    (folder / "data/dev/manifest.csv").write_text("dataset,horizon,seasonality\nloads,24,24\n")
    for name in ("loads.parquet", "million.parquet"):
        pq.write_table(table, folder / name)
    days = pd.date_range("2024-01-01", periods=127)
    sales = pd.DataFrame({"ds": days, "y": random.poisson(30, 127).astype(float)})
    sales["price"], sales["promo"] = 9.5 + random.integers(0, 2, 127), random.integers(0, 2, 127)
    sales.loc[120:, "y"] = np.nan
    sales.to_csv(folder / "sales.csv", index=False)
