"""GluonTS: a `Predictor` for its backtests and evaluators.

>>> from laglite.adapters.gluonts import LagLitePredictor
>>> predictor = LagLitePredictor(prediction_length=24, seed=1)
>>> metrics, per_series = backtest_metrics(dataset, predictor)
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laglite.arguments import as_seed, whole_number
from laglite.bundle import shipped_models
from laglite.errors import InputError, LagliteWarning, missing
from laglite.forecast import Forecast
from laglite.model_arguments import prompt_length
from laglite.shared_models import shared_model

try:
    from gluonts.exceptions import GluonTSDataError, GluonTSUserError
    from gluonts.model.forecast import Quantile, SampleForecast
    from gluonts.model.predictor import Predictor
except ModuleNotFoundError as error:
    raise missing("gluonts", "gluonts", "laglite.adapters.gluonts") from error

ARGUMENTS, BUNDLE = "laglite.json", "bundle"  # what a serialised predictor consists of


class LagLiteForecast(SampleForecast):
    """A `SampleForecast` whose mean and quantiles are laglite's own (see `laglite.Forecast`)."""

    def __init__(
        self, forecast: Forecast, start_date: Any, item_id: str | None, info: Any = None
    ) -> None:
        super().__init__(
            samples=forecast.samples, start_date=start_date, item_id=item_id, info=info
        )
        self._forecast = forecast

    @property
    def mean(self) -> NDArray[np.float32]:
        return self._forecast.mean

    def quantile(self, q: float | str) -> NDArray[np.float32]:
        return self._forecast.quantile(Quantile.parse(q).value)


class LagLitePredictor(Predictor):
    """Forecasts the `prediction_length` values after each series of a dataset.

    `model`, `backend`, `precision` and `threads` are those of `Forecaster.load`; `batch_size` is
    how many series are forecast together, and the rest is as in `Forecaster.predict_batch`. The
    field `feat_dynamic_real` [num, length + prediction_length] holds the covariates of a model
    that has some. Raises GluonTSUserError for arguments that the model cannot follow, and
    BundleError where there is no such model.
    """

    def __init__(
        self,
        prediction_length: int,
        model: str | Path | None = None,
        *,
        num_samples: int = 100,
        context_length: int | None = None,
        seed: int | None = None,
        nonnegative: bool = False,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        batch_size: int = 64,
    ) -> None:
        with _raising(GluonTSUserError):
            super().__init__(whole_number("prediction_length", prediction_length))
            self.num_samples = whole_number("num_samples", num_samples)
            self.batch_size = whole_number("batch_size", batch_size)
            loading: dict[str, Any] = {
                "backend": backend,
                "precision": precision,
                "threads": None if threads is None else whole_number("threads", threads),
            }
            self.forecaster = shared_model(model, **loading)
            context = prompt_length(self.forecaster.spec, context_length, self.prediction_length)
            self._options: dict[str, Any] = {
                "context_length": None if context_length is None else context,
                "seed": None if seed is None else as_seed(seed),
                "nonnegative": bool(nonnegative),
            }
        shipped = model in (None, *shipped_models())
        self._arguments = {
            "prediction_length": self.prediction_length,
            "model": model if shipped else str(self.forecaster.bundle.path.resolve()),
            "num_samples": self.num_samples,
            "batch_size": self.batch_size,
            **self._options,
            **loading,
        }

    def __reduce__(self) -> tuple[Callable[[], LagLitePredictor], tuple[()]]:
        """A copy, such as that of a worker process that is not forked, opens the model itself."""
        return partial(type(self), **self._arguments), ()

    def predict(
        self, dataset: Iterable[Mapping[str, Any]], num_samples: int | None = None, **kwargs: Any
    ) -> Iterator[LagLiteForecast]:
        """Forecasts of the entries of `dataset`, in their order, which is read batch by batch.

        Raises GluonTSDataError that names the series, GluonTSUserError for other arguments.
        """
        if kwargs:
            raise GluonTSUserError(f"predict takes num_samples alone, not {', '.join(kwargs)}")
        with _raising(GluonTSUserError):
            count = whole_number(
                "num_samples", self.num_samples if num_samples is None else num_samples
            )
        entries, first = iter(dataset), 0
        while batch := list(islice(entries, self.batch_size)):
            yield from self._predict_batch(batch, first, count)
            first += len(batch)

    def _predict_batch(
        self, batch: Sequence[Mapping[str, Any]], first: int, num_samples: int
    ) -> Iterator[LagLiteForecast]:
        """`first` is the place of the batch in the dataset."""
        names = [
            str(first + row if entry.get("item_id") is None else entry["item_id"])
            for row, entry in enumerate(batch)
        ]
        for entry, name in zip(batch, names, strict=True):
            if "target" not in entry or not hasattr(entry.get("start"), "freqstr"):
                raise GluonTSDataError(
                    f"series {name!r}: an entry needs a target, and a start that is a pandas Period"
                )
        with _raising(GluonTSDataError):
            forecasts = self.forecaster.predict_batch(
                [entry["target"] for entry in batch],
                horizon=self.prediction_length,
                start=[entry["start"] for entry in batch],
                freq=[entry["start"].freqstr for entry in batch],
                covariates=self._covariates(batch),
                num_samples=num_samples,
                item_ids=names,
                **self._options,
            )
        for entry, forecast in zip(batch, forecasts, strict=True):
            start = entry["start"] + len(entry["target"])
            yield LagLiteForecast(forecast, start, entry.get("item_id"), entry.get("info"))

    def _covariates(self, batch: Sequence[Mapping[str, Any]]) -> list[Any]:
        """[length + prediction_length, num] of each entry, None where there are none."""
        given = [entry.get("feat_dynamic_real") for entry in batch]
        if self.forecaster.spec.num_covariates:
            return [None if one is None else np.asarray(one).T for one in given]
        if any(one is not None for one in given):
            warnings.warn(
                f"feat_dynamic_real is left out: the model {self.forecaster.bundle.name!r} was "
                "trained without covariates",
                LagliteWarning,
                stacklevel=2,
            )
        return [None] * len(batch)

    def serialize(self, path: Path) -> None:
        """Write the arguments, and the bundle of a model that is not shipped, to a folder."""
        super().serialize(path)
        arguments = dict(self._arguments)
        arguments["bundled"] = arguments["model"] not in (None, *shipped_models())
        bundle, copied = self.forecaster.bundle.path, path / BUNDLE
        if arguments["bundled"] and bundle.resolve() != copied.resolve():
            shutil.copytree(bundle, copied, dirs_exist_ok=True)
        (path / ARGUMENTS).write_text(json.dumps(arguments) + "\n", encoding="utf-8")

    @classmethod
    def deserialize(cls, path: Path, **kwargs: Any) -> LagLitePredictor:
        """Read what `serialize` wrote; `kwargs`, such as `threads`, replace its arguments.

        Raises GluonTSUserError for a folder without it, BundleError for an altered bundle.
        """
        try:
            arguments = json.loads((path / ARGUMENTS).read_text(encoding="utf-8"))
            if arguments.pop("bundled"):
                arguments["model"] = path / BUNDLE
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GluonTSUserError(f"{path / ARGUMENTS}: cannot be read ({error!r})") from error
        return cls(**{**arguments, **kwargs})


@contextmanager
def _raising(kind: type[Exception]) -> Iterator[None]:
    """What laglite finds wrong, as an exception of GluonTS."""
    try:
        yield
    except InputError as error:
        raise kind(str(error)) from error
