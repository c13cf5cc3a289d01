"""The public API: load a model, forecast series, score observed values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from laglite.arguments import as_history, as_seed, for_each, whole_number
from laglite.backends import Backend, open_backend
from laglite.batch import check_paths_fit, chunks, sample_many
from laglite.bundle import SHIPPED, Bundle, locate, manifest_digest, open_bundle
from laglite.decoding import PathRequest, prefill, sample_paths
from laglite.device_decoding import DeviceSampler
from laglite.errors import LagliteError, naming
from laglite.forecast import DEFAULT_QUANTILES, Forecast, Score
from laglite.frequency import timestamps
from laglite.heads import HEADS
from laglite.model_arguments import checked_covariates, prompt_length, time_axis
from laglite.randomness import IndependentNoise, LatticeNoise, Noise, fresh_seed, path_uniforms
from laglite.rope import rotary_tables
from laglite.spec import ModelSpec
from laglite.streaming import Stream
from laglite.streaming.alarm import Alarm
from laglite.tokens import TimeAxis, encode, known_features


class Forecaster:
    """A model ready to forecast. Build one with `Forecaster.load`.

    Calls do not change it, so that one Forecaster may serve several threads.
    """

    def __init__(self, bundle: Bundle, backend: Backend, threads: int) -> None:
        self.bundle, self.backend = bundle, backend
        self._threads = threads if backend.parallel else 1
        self._loading: tuple[str, str, str, str, int | None] | None = None
        self._on_device = None
        if backend.device is not None:
            self._on_device = DeviceSampler(backend.device, bundle.spec, threads)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> Forecaster:
        """Open a bundle directory, or a shipped model by name (None: "base").

        `threads` is how many sample paths' shards run at once (None: the cores this process may
        use). Raises BundleError, BackendError, InputError.
        """
        count = available_cores() if threads is None else whole_number("threads", threads)
        folder = locate(path)
        bundle = open_bundle(folder)
        loaded = cls(bundle, open_backend(backend, bundle, precision, count), count)
        model = bundle.path.name if folder.parent == SHIPPED else str(folder.resolve())
        loaded._loading = (model, manifest_digest(folder), backend, precision, threads)
        return loaded

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle holds: how it was loaded, not the model, which the other process opens."""
        from laglite.shared_models import unpickled_model

        if self._loading is None:
            raise TypeError("a Forecaster that was not made by Forecaster.load cannot be pickled")
        return unpickled_model, self._loading

    @property
    def spec(self) -> ModelSpec:
        """The model's specification."""
        return self.bundle.spec

    def predict(
        self,
        target: ArrayLike,
        *,
        horizon: int,
        start: Any = None,
        freq: Any = None,
        covariates: ArrayLike | None = None,
        num_samples: int = 100,
        context_length: int | None = None,
        seed: int | None = None,
        nonnegative: bool = False,
        refine: bool = True,
        item_id: str | None = None,
    ) -> Forecast:
        """Forecast the `horizon` values after `target`.

        `target` is 1-D numbers with NaN for missing values; `start` is the time of its first value
        and `freq` a pandas alias. Without both, calendar features are 0. `covariates`
        [len(target) + horizon, num_covariates], for a model that has some, are known beforehand:
        NaN is allowed in the rows of `target` alone. `context_length` is how many of the last
        values become tokens (None: the model's own default). `seed` makes the samples repeatable,
        whatever else is forecast beside them, and draws the same noise under other covariates.
        `nonnegative` draws nothing below 0; `item_id` names the series, also in errors.

        With `refine`, paths are drawn evenly rather than independently, and quantiles and mean
        come from the distribution that every path had at each step, not from one draw of it: a
        quarter of the paths then give as good quantiles (docs/decoding.md). Raises InputError.
        """
        horizon = whole_number("horizon", horizon)
        num_samples = whole_number("num_samples", num_samples)
        history = as_history(target, item_id)
        context = prompt_length(self.spec, context_length, horizon)
        axis = time_axis(self.spec, start, freq)
        given = checked_covariates(self.bundle, covariates, len(history), horizon)
        seed = fresh_seed() if seed is None else as_seed(seed)
        series = _Series(history, axis, given, item_id)
        if self._on_device is None:
            check_paths_fit(self.spec, num_samples, horizon, 1)
        request = self._request(
            series,
            None if item_id is None else repr(item_id),
            horizon,
            context,
            num_samples,
            seed,
            nonnegative=nonnegative,
            refine=refine,
        )
        if self._on_device is not None:
            (paths,) = self._on_device.sample([request])
            return series.forecast(*paths)
        (prefilled,) = prefill(self.backend, [request.prompt], request.rotary(self.spec))
        paths = sample_paths(self.backend, self.spec, request, prefilled, self._threads)
        return series.forecast(*paths)

    def _request(
        self,
        series: _Series,
        called: str | None,
        horizon: int,
        context: int,
        paths: int,
        seed: int,
        *,
        nonnegative: bool,
        refine: bool,
    ) -> PathRequest:
        """Encode a series; raises InputError if its window holds no value.

        `called` is what errors call it.
        """
        spec, history, axis = self.spec, series.history, series.axis
        prompt = encode(spec, history, axis, context, covariates=series.covariates)
        known = known_features(spec, axis, prompt.covariates, len(history), horizon - 1)
        noise: Noise
        if refine:
            draws = HEADS[spec.head].fine_draws
            noise = LatticeNoise(seed, prompt.window, horizon, paths, draws)
        else:
            noise = IndependentNoise(path_uniforms(seed, prompt.window, horizon, paths))
        return PathRequest(prompt, known, noise, nonnegative, called)

    def predict_batch(
        self,
        targets: Sequence[ArrayLike],
        *,
        horizon: int,
        start: Any = None,
        freq: Any = None,
        covariates: Sequence[ArrayLike | None] | None = None,
        num_samples: int = 100,
        context_length: int | None = None,
        seed: int | Sequence[int | None] | None = None,
        nonnegative: bool = False,
        refine: bool = True,
        item_ids: Sequence[str | None] | None = None,
    ) -> list[Forecast]:
        """Forecast several series of any lengths; see `predict`.

        `start` is one time for all or a list with one for each, and so are `freq` and `seed`;
        `covariates` is a list with one array for each. With a seed, each series gets the very
        samples it would get alone (on a device, to rounding). Prompts are encoded together and
        each thread decodes a series of its own, or a device all of them, a bounded number of
        series at a time. Raises InputError, before anything is forecast, that names the series.
        """
        horizon = whole_number("horizon", horizon)
        num_samples = whole_number("num_samples", num_samples)
        count = len(targets)
        starts = for_each("start", start, count)
        freqs = for_each("freq", freq, count)
        names = for_each("item_ids", item_ids, count)
        known = for_each("covariates", covariates, count)
        fresh = fresh_seed()
        seeds = [fresh if one is None else as_seed(one) for one in for_each("seed", seed, count)]
        context = prompt_length(self.spec, context_length, horizon)
        called = [str(row) if one is None else repr(one) for row, one in enumerate(names)]
        series = []
        for row, target in enumerate(targets):
            with naming(called[row]):
                history = as_history(target)
                axis = time_axis(self.spec, starts[row], freqs[row])
                given = checked_covariates(self.bundle, known[row], len(history), horizon)
            series.append(_Series(history, axis, given, names[row]))
        if count < self._threads:  # too few to keep every thread busy
            each, shards = 1, self._threads
        else:
            each, shards = self._threads, 1
        if self._on_device is not None:
            parts = self._on_device.chunks(count)
        else:
            check_paths_fit(self.spec, num_samples, horizon, min(each, count))
            parts = chunks(self.spec, context, count, each)
        forecasts: list[Forecast] = []
        with ThreadPoolExecutor(each) as pool:
            for part in parts:
                requests = []
                for row in part:
                    with naming(called[row]):
                        requests.append(
                            self._request(
                                series[row],
                                called[row],
                                horizon,
                                context,
                                num_samples,
                                seeds[row],
                                nonnegative=nonnegative,
                                refine=refine,
                            )
                        )
                if self._on_device is not None:
                    paths = self._on_device.sample(requests)
                else:
                    paths = sample_many(self.backend, self.spec, requests, pool, shards)
                forecasts += [
                    series[row].forecast(*one) for row, one in zip(part, paths, strict=True)
                ]
        return forecasts

    def predict_df(
        self,
        frame: Any,
        *,
        horizon: int,
        id_column: str | None = "unique_id",
        timestamp_column: str | None = "ds",
        target_column: str = "y",
        freq: Any = None,
        quantiles: Sequence[float] = DEFAULT_QUANTILES,
        covariates: Sequence[str] = (),
        time_zone: str | None = None,
        num_samples: int = 100,
        context_length: int | None = None,
        seed: int | None = None,
        nonnegative: bool = False,
    ) -> Any:
        """Forecast the series of a pandas or polars DataFrame or Arrow table, in the same kind.

        A row for each series and time, in any order; columns `item_id`, `timestamp` and `target`
        are taken where the default names are absent; without an id there is one series. The
        result is long: id, time, `mean`, a column for each of `quantiles`. `covariates` names
        columns whose rows without a target hold the future. Raises InputError; docs/tables.md.
        """
        from laglite.frames import FrameColumns, forecast_frame

        columns = FrameColumns(
            id_column, timestamp_column, target_column, tuple(covariates), time_zone
        )
        return forecast_frame(
            self, frame, columns, quantiles, horizon=horizon, freq=freq, num_samples=num_samples,
            context_length=context_length, seed=seed, nonnegative=nonnegative,
        )  # fmt: skip

    def score(
        self,
        history: ArrayLike,
        observed: ArrayLike,
        *,
        start: Any = None,
        freq: Any = None,
        covariates: ArrayLike | None = None,
        context_length: int | None = None,
    ) -> Score:
        """Distributions of `observed`, the values after `history`, each given all before it.

        loc and scale come from `history` alone: this is the function the model is trained on.
        `covariates` [len(history) + len(observed), num_covariates], see `predict`. Raises
        InputError, and LagliteError where values are too far from the history's scale.
        """
        values = as_history(history)
        known = as_history(observed, "observed", may_be_missing=True)
        context = prompt_length(self.spec, context_length, len(known))
        axis = time_axis(self.spec, start, freq)
        given = checked_covariates(self.bundle, covariates, len(values), len(known))
        prompt = encode(self.spec, values, axis, context, known[:-1], given)
        rotary = rotary_tables(self.spec, len(prompt.tokens))
        (prefilled,) = prefill(self.backend, [prompt], rotary)
        params = {name: each[-len(known) :] for name, each in prefilled.arguments.items()}
        if not all(np.isfinite(each).all() for each in params.values()):
            raise LagliteError(
                "the model's distributions are not finite; the observed values may be too many "
                f"orders of magnitude from the history's scale, {prompt.window.scale:.3g}"
            )
        head, window = HEADS[self.spec.head], prompt.window
        there = np.nan_to_num(known)  # NaN comes back below
        gone = np.isnan(known)
        return Score(
            params,
            window.loc,
            window.scale,
            np.where(gone, np.nan, head.log_prob(params, there, window)),
            np.where(gone, np.nan, head.cdf(params, there, window)),
        )

    def embed(
        self,
        target: ArrayLike,
        *,
        start: Any = None,
        freq: Any = None,
        covariates: ArrayLike | None = None,
        context_length: int | None = None,
    ) -> NDArray[np.float32]:
        """The network's states behind the last values of `target`, float32 [tokens, width].

        A row for each of the last `context_length` values, fewer where the history is shorter and
        the model does not pad it: what the network knows after that value, of which the head makes
        the distribution of the next one. `covariates` [len(target) + 1, num_covariates] reach that
        next value; the rest is as in `predict`. Raises InputError, and BackendError for a bundle
        of an older laglite.
        """
        history = as_history(target)
        context = prompt_length(self.spec, context_length, 1)
        axis = time_axis(self.spec, start, freq)
        given = checked_covariates(self.bundle, covariates, len(history), 1)
        prompt = encode(self.spec, history, axis, context, covariates=given)
        rotary = rotary_tables(self.spec, len(prompt.tokens))
        states: NDArray[np.float32] = self.backend.embed(prompt.tokens[None], *rotary)[0]
        return states

    def stream(
        self,
        history: ArrayLike = (),
        *,
        start: Any = None,
        freq: Any = None,
        context_length: int | None = None,
        refresh: int | None = None,
        horizon: int = 1,
        warm_up: int = 1,
        alarm_rate: float = 0.01,
        adaptive: bool = False,
    ) -> Stream:
        """A stream of the values after `history`, which may be empty; see `laglite.Stream`.

        `refresh` is how many values share a scale (None: the model's context length), `horizon`
        the longest forecast that will be asked for. Nothing is predicted before `warm_up` values
        were observed. `alarm_rate` is the share of values that an `Update` calls outside, over
        time also of a model that is not calibrated with `adaptive` (see
        `laglite.streaming.alarm`). Streams have no covariates. Raises InputError.
        """
        refresh = whole_number("refresh", self.spec.context_length if refresh is None else refresh)
        context = prompt_length(
            self.spec, context_length, max(refresh, whole_number("horizon", horizon))
        )
        values = as_history(history, may_be_missing=True) if np.size(history) else np.empty(0)
        checked_covariates(self.bundle, None, 0, 0)
        axis, alarm = time_axis(self.spec, start, freq), Alarm(alarm_rate, adaptive)
        return Stream(self, axis, values, context, refresh, whole_number("warm_up", warm_up), alarm)


@dataclass(frozen=True)
class _Series:
    """A checked series: its values, times, covariates and name."""

    history: NDArray[np.float64]
    axis: TimeAxis
    covariates: NDArray[np.float64] | None
    item_id: str | None

    def forecast(
        self, samples: NDArray[np.float32], marginals: NDArray[np.float32] | None
    ) -> Forecast:
        """Its sample paths with their times."""
        start, freq, length = self.axis.start, self.axis.freq, len(self.history)
        first = None
        if start is not None and freq is not None:
            first = timestamps(start, freq, length, 1)[0]
        return Forecast(samples, first, freq, self.item_id, start, length, marginals=marginals)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
