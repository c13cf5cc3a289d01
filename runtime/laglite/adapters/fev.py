"""fev: a model for its forecasting tasks and benchmarks.

>>> from laglite.adapters.fev import LagLiteModel
>>> model = LagLiteModel(seed=1)
>>> task.evaluation_summary(model.fit_predict(task), model_name=model.model_name)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from laglite.arguments import whole_number
from laglite.errors import InputError, missing
from laglite.forecast import Forecast
from laglite.shared_models import shared_model

try:
    import datasets
    from fev import EvaluationWindow, ForecastingModel, Task
except ModuleNotFoundError as error:
    raise missing("fev", "fev", "laglite.adapters.fev") from error

BEST_AT_MEAN = ("MSE", "RMSE", "RMSSE")  # squares are least at the mean


class LagLiteModel(ForecastingModel):
    """Zero-shot forecasts of a task, each target column as univariate series of its own.

    `model`, `backend`, `precision` and `threads` are those of `laglite.Forecaster.load`, the rest
    is as in its `predict_batch`. Point forecasts are the median, or the mean where the task's
    metric counts squares. A model that has covariates is given `known_dynamic_columns`; columns
    known in the past alone, and static ones, are not looked at. Raises ValueError, as laglite's
    InputError is one, for tasks that the model cannot follow; BundleError where there is none.
    """

    model_name = "laglite"

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        num_samples: int = 100,
        context_length: int | None = None,
        seed: int | None = None,
        nonnegative: bool = False,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        super().__init__()
        self.forecaster = shared_model(model, backend=backend, precision=precision, threads=threads)
        self._options: dict[str, Any] = {
            "num_samples": whole_number("num_samples", num_samples),
            "context_length": context_length,
            "seed": seed,
            "nonnegative": nonnegative,
        }

    def _fit_predict(self, task: Task) -> list[datasets.DatasetDict]:
        num, known = self.forecaster.spec.num_covariates, task.known_dynamic_columns
        if num and len(known) != num:
            raise InputError(
                f"task {task.task_name!r}: {len(known)} known_dynamic_columns, but the model "
                f"{self.forecaster.bundle.name!r} was trained with {num} covariates"
            )
        return [self._predict_window(task, window) for window in task.iter_windows()]

    def _predict_window(self, task: Task, window: EvaluationWindow) -> datasets.DatasetDict:
        past, future = window.get_input_data()
        names, times = list(past[task.id_column]), list(past[task.timestamp_column])
        covariates = None
        if self.forecaster.spec.num_covariates:
            known = task.known_dynamic_columns
            covariates = [
                np.stack([np.concatenate([before[name], after[name]]) for name in known], axis=1)
                for before, after in zip(_exact(past, known), _exact(future, known), strict=True)
            ]
        found = {}
        for column in task.target_columns:
            targets = [row[column] for row in _exact(past, [column])]
            with self._record_inference_time():
                forecasts = self.forecaster.predict_batch(
                    targets,
                    horizon=task.horizon,
                    start=[stamps[0] for stamps in times],
                    freq=task.freq,
                    covariates=covariates,
                    item_ids=[f"{name}, {column}" for name in names],
                    **self._options,
                )
            found[column] = _as_dataset(task, forecasts)
        return datasets.DatasetDict(found)


def _exact(data: datasets.Dataset, columns: list[str]) -> datasets.Dataset:
    """Some columns in float64; as they come they are rounded to float32. Raises ValueError."""
    return data.with_format("numpy", columns=columns, dtype=np.float64)


def _as_dataset(task: Task, forecasts: list[Forecast]) -> datasets.Dataset:
    """A row for each series: the point forecast, and each quantile that the task asks for."""
    metric = task.eval_metric["name"] if isinstance(task.eval_metric, dict) else task.eval_metric
    at_mean = metric in BEST_AT_MEAN
    columns = {"predictions": [one.mean if at_mean else one.median for one in forecasts]}
    for level in task.quantile_levels:
        columns[str(level)] = [one.quantile(level) for one in forecasts]
    return datasets.Dataset.from_dict(columns, features=task.predictions_schema)
