"""What runs in a process of a Ray cluster: batches forecast by a model that came as bytes."""

from __future__ import annotations

import functools
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laglite.bundle import MANIFEST, Bundle
from laglite.forecast_run import BatchForecasts, ForecastRun
from laglite.forecaster import Forecaster


def bundle_bytes(bundle: Bundle) -> dict[str, bytes]:
    """Every file of a bundle by its name, for a machine that does not see this one's disk."""
    names = (MANIFEST, *bundle.manifest["files"])
    return {name: (bundle.path / name).read_bytes() for name in names}


def forecast_pickled(
    model: Sequence[Any], precision: str, threads: int, work: bytes
) -> BatchForecasts:
    """Forecast the pickled (run, batch, seed) by the model whose reference `model` holds."""
    run: ForecastRun
    run, batch, seed = pickle.loads(work)
    return run.forecast(_forecaster(model[0], precision, threads), batch, seed)


@functools.lru_cache(maxsize=1)
def _forecaster(model: Any, precision: str, threads: int) -> Forecaster:
    """The model of a Ray object reference, loaded once a process."""
    import ray

    files: Mapping[str, bytes] = ray.get(model)
    with tempfile.TemporaryDirectory(prefix="laglite-") as folder:
        for name, content in files.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return Forecaster.load(folder, backend="cpu", precision=precision, threads=threads)
