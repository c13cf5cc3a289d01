"""`predict_df`: the numbers of `predict_batch`, in a frame of the kind that was given."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from laglite import Forecaster
from laglite.errors import FrequencyError, InputError, MissingDependencyError
from laglite.spec import ModelSpec
from laglite_train.model import LagLlama

OPTIONS: dict[str, Any] = {"horizon": 3, "seed": 1, "num_samples": 20}
STARTS = {"b": "2024-05-01", "a": "2024-06-01"}
LENGTHS = {"b": 40, "a": 25}


class ArrowOnly:
    """A table of which nothing is known but the Arrow stream it gives."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


KINDS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "capsule": lambda frame: ArrowOnly(pa.Table.from_pandas(frame, preserve_index=False)),
}


def values(item: str) -> np.ndarray:
    length = LENGTHS[item]
    return 50 + 9 * np.sin(np.arange(length) / 3) + np.arange(length) / length


def long_frame(names: tuple[str, str, str] = ("unique_id", "ds", "y")) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                names[0]: item,
                names[1]: pd.date_range(STARTS[item], periods=LENGTHS[item]),
                names[2]: values(item),
            }
        )
        for item in STARTS
    ]
    return pd.concat(parts, ignore_index=True)


def to_pandas(frame: Any) -> pd.DataFrame:
    return frame if isinstance(frame, pd.DataFrame) else frame.to_pandas()


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_holds_the_numbers_of_predict_batch(tiny: Forecaster, kind: str) -> None:
    frame = tiny.predict_df(KINDS[kind](long_frame()), quantiles=(0.1, 0.5), **OPTIONS)
    kinds = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
    assert isinstance(frame, kinds.get(kind, pa.Table))
    result = to_pandas(frame)
    assert list(result.columns) == ["unique_id", "ds", "mean", "0.1", "0.5"]
    forecasts = tiny.predict_batch(
        [values(item) for item in STARTS], start=list(STARTS.values()), freq="D", **OPTIONS
    )
    for item, forecast in zip(STARTS, forecasts, strict=True):
        own = result[result["unique_id"] == item]
        np.testing.assert_array_equal(own["ds"], forecast.index)
        np.testing.assert_array_equal(own["mean"].astype(np.float32), forecast.mean)
        np.testing.assert_array_equal(own["0.1"].astype(np.float32), forecast.quantile(0.1))
        np.testing.assert_array_equal(own["0.5"].astype(np.float32), forecast.median)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_rows_does_not_matter(tiny: Forecaster, kind: str) -> None:
    frame = long_frame()
    mixed = pd.concat([frame.iloc[:1], frame.iloc[1:].sample(frac=1, random_state=0)])
    expected = to_pandas(tiny.predict_df(frame, **OPTIONS))
    got = to_pandas(tiny.predict_df(KINDS[kind](mixed.reset_index(drop=True)), **OPTIONS))
    pd.testing.assert_frame_equal(got, expected, check_dtype=False)


def test_the_names_of_chronos_are_known_and_kept(tiny: Forecaster) -> None:
    names = ("item_id", "timestamp", "target")
    result = tiny.predict_df(long_frame(names), **OPTIONS)
    assert list(result.columns[:3]) == ["item_id", "timestamp", "mean"]
    expected = tiny.predict_df(long_frame(), **OPTIONS)
    np.testing.assert_array_equal(result["mean"], expected["mean"])


def test_other_names_are_given_and_kept(tiny: Forecaster) -> None:
    result = tiny.predict_df(
        long_frame(("shop", "day", "sold")).assign(price=1.0, note="x"),
        id_column="shop",
        timestamp_column="day",
        target_column="sold",
        **OPTIONS,
    )
    assert list(result.columns[:3]) == ["shop", "day", "mean"]


def test_columns_that_are_not_named_may_hold_anything(tiny: Forecaster) -> None:
    frame = long_frame()
    expected = tiny.predict_df(frame, **OPTIONS)
    frame["note"] = [1, "x"] + [{"a": 1}] * 63
    pd.testing.assert_frame_equal(tiny.predict_df(frame, **OPTIONS), expected)


def test_a_frame_without_id_is_one_series(tiny: Forecaster) -> None:
    one = long_frame().query("unique_id == 'b'").drop(columns="unique_id")
    result = tiny.predict_df(one, **OPTIONS)
    assert list(result.columns[:2]) == ["ds", "mean"]
    forecast = tiny.predict(values("b"), start=STARTS["b"], freq="D", **OPTIONS)
    np.testing.assert_array_equal(result["mean"].astype(np.float32), forecast.mean)


def test_without_times_rows_are_taken_in_their_order(tiny: Forecaster) -> None:
    one = long_frame()[["unique_id", "y"]]
    with pytest.warns(UserWarning, match="calendar"):
        result = tiny.predict_df(one, timestamp_column=None, **OPTIONS)
    assert list(result.columns[:3]) == ["unique_id", "step", "mean"]
    assert result["step"].tolist() == [1, 2, 3] * 2


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series([7, 3]),
        pd.Series(["x", "y"], dtype="category"),
        pd.Series([1.0, 2.0]),
        pd.Series(["1", "2"], dtype="string"),
    ],
    ids=["int", "category", "float", "string"],
)
def test_ids_keep_their_type(tiny: Forecaster, ids: pd.Series) -> None:
    frame = long_frame()
    frame["unique_id"] = ids.repeat([40, 25]).reset_index(drop=True)
    result = tiny.predict_df(frame, **OPTIONS)
    assert result["unique_id"].tolist() == ids.repeat(3).tolist()
    if ids.dtype.kind in "if":
        assert result["unique_id"].dtype == ids.dtype
    joined = frame.merge(result, on="unique_id")
    assert len(joined) == 3 * len(frame)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC"])
@pytest.mark.parametrize("freq", ["h", "D"])
def test_times_keep_their_zone_over_a_change_of_the_clocks(
    tiny: Forecaster, zone: str, freq: str
) -> None:
    times = pd.date_range("2024-10-20", "2024-10-26 23:00", freq=freq, tz=zone)
    frame = pd.DataFrame({"ds": times, "y": np.arange(len(times)) % 5})
    options = {**OPTIONS, "horizon": 30}
    expected = pd.date_range(times[-1], periods=31, freq=freq)[1:]
    result = tiny.predict_df(frame, **options)
    assert result["ds"].dtype == frame["ds"].dtype
    assert result["ds"].tolist() == list(expected)
    polars = tiny.predict_df(pl.from_pandas(frame), **options)
    assert polars["ds"].dtype == pl.from_pandas(frame)["ds"].dtype
    assert polars["ds"].to_list() == [stamp.to_pydatetime() for stamp in expected]


def test_dates_stay_dates_where_every_step_is_one(tiny: Forecaster) -> None:
    frame = pl.from_pandas(long_frame()).with_columns(pl.col("ds").cast(pl.Date))
    assert tiny.predict_df(frame, **OPTIONS)["ds"].dtype == pl.Date
    hourly = tiny.predict_df(frame.with_columns(pl.col("ds")), **{**OPTIONS, "horizon": 1})
    assert hourly["ds"].dtype == pl.Date


def test_text_times_come_out_as_times(tiny: Forecaster) -> None:
    frame = long_frame()
    expected = tiny.predict_df(frame, **OPTIONS)
    frame["ds"] = frame["ds"].dt.strftime("%Y-%m-%d")
    result = tiny.predict_df(frame, **OPTIONS)
    assert result["ds"].tolist() == expected["ds"].tolist()
    frame["ds"] += "T00:00+02:00"
    zoned = tiny.predict_df(pl.from_pandas(frame), **OPTIONS)
    assert zoned["ds"].dtype.time_zone == "UTC"  # type: ignore[attr-defined]
    assert zoned["ds"][0].isoformat() == "2024-06-09T22:00:00+00:00"


def test_gaps_are_missing_values_and_logged(
    tiny: Forecaster, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "laglite"):
        result = tiny.predict_df(long_frame().drop(index=5), **OPTIONS)
    history = values("b")
    history[5] = np.nan
    forecast = tiny.predict(history, start=STARTS["b"], freq="D", **OPTIONS)
    np.testing.assert_array_equal(result["mean"][:3].astype(np.float32), forecast.mean)
    assert any("1 timestamp is absent" in message for message in caplog.messages)
    assert any("frequency 'D'" in message for message in caplog.messages)


def test_a_naive_repeated_hour_needs_a_zone(tiny: Forecaster) -> None:
    times = pd.date_range("2024-10-26", periods=48, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"ds": times.tz_localize(None), "y": np.arange(48.0)})
    with pytest.raises(InputError, match="time_zone="):
        tiny.predict_df(frame, **OPTIONS)
    zoned = tiny.predict_df(frame.assign(ds=times), **OPTIONS)
    given = tiny.predict_df(frame, time_zone="Europe/Berlin", **OPTIONS)
    np.testing.assert_array_equal(given["mean"], zoned["mean"])


def test_more_series_than_a_batch_are_all_there_in_their_order(tiny: Forecaster) -> None:
    ids = [f"s{n}" for n in np.random.default_rng(0).permutation(70)]
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat(ids, 4),
            "ds": np.tile(pd.date_range("2024-05-01", periods=4), 70),
            "y": np.arange(280.0),
        }
    )
    result = tiny.predict_df(frame, horizon=1, seed=0, num_samples=2)
    assert result["unique_id"].tolist() == ids


FRAME = long_frame()


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (FRAME.iloc[:0], {}, "frame: the table has no rows"),
        (FRAME.drop(columns="ds"), {}, "no column 'ds'; .*give timestamp_column; an index is not"),
        (FRAME.drop(columns="y"), {}, "no column 'y'; the columns are unique_id, ds: give target_"),
        (FRAME, {"id_column": "shop"}, "no column 'shop'; .*give id_column"),
        (pd.concat([FRAME, FRAME.iloc[5:6]]), {}, "series 'b', row 65: 2024-05-06 appears twice"),
        (FRAME.drop(columns="unique_id"), {"freq": "D"}, "row 4[0-9]: 2024-06-01 appears twice"),
        (FRAME.assign(y="high"), {}, "frame, row 0, column 'y': 'high' is not a number"),
        (FRAME.assign(y=np.inf), {}, "frame, row 0, column 'y': infinite value"),
        (FRAME.assign(ds="soon"), {}, "frame, row 0, column 'ds': 'soon' is not a timestamp"),
        (FRAME.assign(ds=pd.NaT), {}, "column 'ds': (the time is missing|None is not a point)"),
        (FRAME.assign(unique_id=None), {}, "frame, row 0, column 'unique_id': the id is missing"),
        (FRAME.assign(y=np.nan), {}, "series 'b': .*all 40 values are missing"),
        (FRAME, {"quantiles": [1.5]}, "quantile 1.5"),
        (FRAME, {"quantiles": 0.5}, "quantiles must be a list of numbers from 0 to 1, not 0.5"),
        (FRAME, {"id_column": "y"}, "frame: the column 'y' is named for something else too"),
        (FRAME.assign(ds=FRAME["ds"].dt.to_period("D")), {}, r"'ds': .*is not read; .*to_time"),
        (FRAME, {"horizon": 0}, "horizon must be a whole number"),
        (FRAME, {"time_zone": "Mars"}, "time zone 'Mars' is not known"),
        (FRAME, {"freq": "weekly"}, "frequency 'weekly' is not known"),
        (FRAME, {"covariates": ["price"]}, "no column 'price'"),
        ([1, 2, 3], {}, "frame: a pandas or polars DataFrame or an Arrow table is needed"),
        (FRAME.assign(y=[1, "x"] + [2.5] * 63), {}, "frame: cannot be read as a table"),
        (pl.from_pandas(FRAME).lazy(), {}, "an Arrow table is needed, not LazyFrame"),
        (FRAME.set_axis(["ds", "y", "y"], axis=1), {}, "frame: cannot be read as a table"),
        (FRAME.set_axis([1, "ds", 2], axis=1), {}, "no column 'y'; the columns are 1, ds, 2"),
        (
            pa.table([FRAME["ds"], FRAME["y"], FRAME["y"]], names=["ds", "y", "y"]),
            {},
            "frame: cannot be read as a table",
        ),
    ],
)  # fmt: skip
def test_a_frame_that_makes_no_sense_is_refused(
    tiny: Forecaster, frame: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tiny.predict_df(frame, **{**OPTIONS, **options})


def test_columns_known_beforehand_hold_the_future_in_rows_without_a_target(
    small_spec: ModelSpec, export_to: Callable[[LagLlama, str], Path]
) -> None:
    model = LagLlama(dataclasses.replace(small_spec, num_covariates=1))
    model.initialise()
    forecaster = Forecaster.load(export_to(model.eval(), "one-covariate"), threads=1)
    frame = long_frame().assign(price=lambda each: each.index % 4 / 2)
    future = pd.DataFrame(
        {
            "unique_id": np.repeat(list(STARTS), 3),
            "ds": [
                day
                for item, start in STARTS.items()
                for day in pd.date_range(start, periods=LENGTHS[item] + 3)[-3:]
            ],
            "price": 9.0,
        }
    )
    result = forecaster.predict_df(pd.concat([frame, future]), covariates=["price"], **OPTIONS)
    known = [
        np.append(frame.query("unique_id == @item")["price"], [9.0] * 3)[:, None] for item in STARTS
    ]
    forecasts = forecaster.predict_batch(
        [values(item) for item in STARTS],
        start=list(STARTS.values()),
        freq="D",
        covariates=known,
        **OPTIONS,
    )
    expected = np.concatenate([forecast.mean for forecast in forecasts])
    np.testing.assert_array_equal(result["mean"].astype(np.float32), expected)
    assert result["ds"].tolist() == future["ds"].tolist()


def test_irregular_times_are_refused_by_series(tiny: Forecaster) -> None:
    frame = long_frame()
    frame.loc[3, "ds"] += pd.Timedelta("5h17min3s")
    with pytest.raises(FrequencyError, match="frame, series 'b': "):
        tiny.predict_df(frame, **OPTIONS)


def test_without_pyarrow_the_pip_command_is_named(
    tiny: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingDependencyError, match=r"predict_df needs pyarrow.*laglite\[tables\]"
    ):
        tiny.predict_df(long_frame(), **OPTIONS)


@pytest.mark.parametrize(
    ("old", "new", "option"),
    [("unique_id", "mean", "id_column"), ("ds", "0.5", "timestamp_column")],
)
def test_a_name_that_the_result_needs_is_refused(
    tiny: Forecaster, old: str, new: str, option: str
) -> None:
    frame = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2024-05-01", periods=9), "y": np.arange(9.0)}
    ).rename(columns={old: new})
    with pytest.raises(InputError, match=f"have a column '{new}' of their own"):
        tiny.predict_df(frame, **OPTIONS, **{option: new})
