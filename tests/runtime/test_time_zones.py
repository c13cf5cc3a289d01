"""Time zones and summer time: regular series, forecasts told in the zone; pandas as reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from laglite.errors import InputError
from laglite.forecast import Forecast
from laglite.forecast_writer import render_csv
from laglite.reading import Columns, InputSeries, TableForm
from tests.runtime.conftest import Read

PERIODS = {"D": 5, "h": 72, "2h": 36, "15min": 200}
BERLIN = "Europe/Berlin"
SPRING, AUTUMN = "2024-03-30", "2024-10-26"  # the day before each change of 2024
IN_BERLIN = Columns(form=TableForm(time_zone=BERLIN))


def index(start: str, freq: str, zone: str = BERLIN, periods: int | None = None) -> Any:
    return pd.date_range(start, periods=periods or PERIODS[freq], freq=freq, tz=zone)


def text(times: Any, form: str = "%Y-%m-%dT%H:%M:%S%z") -> str:
    return "ds,y\n" + "".join(f"{t.strftime(form)},{n}\n" for n, t in enumerate(times))


def told(series: InputSeries, steps: int = 30) -> list[str]:
    """The times of a forecast of a series, as they are written."""
    assert series.start is not None
    assert series.freq is not None
    forecast = Forecast(
        np.zeros((2, steps), np.float32),
        series.start,
        series.freq,
        origin=series.start,
        passed=len(series.values),
        zone=series.zone,
    )
    return [line.split(",")[0] for line in render_csv([forecast], []).splitlines()[1:]]


@pytest.mark.parametrize("start", [SPRING, AUTUMN])
@pytest.mark.parametrize("freq", ["h", "15min", "2h", "D"])
@pytest.mark.parametrize("kind", ["offsets", "parquet", "--time-zone"])
def test_a_series_over_a_change_of_the_clocks_is_regular_and_whole(
    read: Read, start: str, freq: str, kind: str
) -> None:
    times = index(start, freq)
    if kind == "offsets":
        (series,), notes = read(text(times))
    elif kind == "parquet":
        (series,), notes = read({"ds": pa.array(times), "y": np.arange(len(times), dtype=float)})
    else:
        (series,), notes = read(text(times, "%Y-%m-%d %H:%M:%S"), IN_BERLIN)
    assert series.values.tolist() == list(range(len(times)))
    assert series.freq is not None
    assert series.freq.alias == freq
    assert any("UTC offsets +01:00, +02:00" in n or f"time zone {BERLIN}" in n for n in notes)
    expected = pd.date_range(times[-1], periods=31, freq=freq)[1:]  # by pandas' own rule
    got = pd.to_datetime(pd.Series(told(series)), utc=True)
    assert got.tolist() == list(expected.tz_convert("UTC"))


def test_hours_follow_the_wall_clock_of_the_last_row(read: Read) -> None:
    times = index(AUTUMN, "h")
    (series,), _ = read(text(times))
    assert series.start == times[0].tz_convert("Etc/GMT-1").tz_localize(None).to_datetime64()


@pytest.mark.parametrize("kind", ["parquet", "--time-zone"])
def test_days_of_a_named_zone_begin_at_midnight_also_after_the_next_change(
    read: Read, kind: str
) -> None:
    times = index("2024-10-01", "D", periods=20)
    if kind == "parquet":
        (series,), _ = read({"ds": pa.array(times), "y": np.zeros(20)})
    else:
        (series,), _ = read(text(times, "%Y-%m-%d"), IN_BERLIN)
    stamps = told(series)
    assert [stamp[11:19] for stamp in stamps] == ["00:00:00"] * 30
    assert (stamps[0][19:], stamps[-1][19:]) == ("+02:00", "+01:00")


def test_hours_regular_by_the_wall_clock_alone_stay_so(read: Read) -> None:
    days = pd.date_range("2024-10-20", periods=14, tz=BERLIN)
    times = [day.replace(hour=hour) for day in days for hour in (6, 18)]
    (series,), _ = read({"ds": pa.array(pd.DatetimeIndex(times)), "y": np.arange(28.0)})
    assert series.values.tolist() == list(range(28))
    assert {stamp[11:19] for stamp in told(series)} == {"06:00:00", "18:00:00"}


@pytest.mark.parametrize(("suffix", "told_as"), [("+02:00", "+02:00"), ("Z", "+00:00")])
def test_a_constant_offset_is_kept_and_the_wall_clock_is_the_calendar(
    read: Read, suffix: str, told_as: str
) -> None:
    (series,), notes = read(text(index("2024-05-01", "h", "UTC"), f"%Y-%m-%dT%H:%M{suffix}"))
    assert series.start == np.datetime64("2024-05-01")
    assert any("calendar features follow its wall clock" in note for note in notes)
    assert told(series, 1) == [f"2024-05-04 00:00:00{told_as}"]


def test_each_series_has_the_offset_of_its_own_rows(read: Read) -> None:
    rows = [f"{item},2024-05-{day:02d}T00:00{zone},1" for item, zone in
            (("a", "+02:00"), ("b", "-05:00")) for day in (1, 2, 3)]  # fmt: skip
    series, _ = read("\n".join(["id,ds,y", *rows]) + "\n")
    assert [told(each, 1) for each in series] == [
        ["2024-05-04 00:00:00+02:00"], ["2024-05-04 00:00:00-05:00"]
    ]  # fmt: skip


def test_times_with_offsets_are_told_in_a_zone_that_is_given(read: Read) -> None:
    times = index("2024-05-01", "h", "UTC")
    (series,), _ = read(text(times), IN_BERLIN)
    assert series.start == np.datetime64("2024-05-01T02:00")
    assert told(series, 1) == ["2024-05-04 02:00:00+02:00"]


@pytest.mark.parametrize("freq", ["h", "30min", "15min"])
def test_a_repeated_hour_without_zone_is_explained_with_its_row(read: Read, freq: str) -> None:
    times = index(AUTUMN, freq, periods=200)
    row = 2 + int(
        np.flatnonzero(np.diff(times.tz_localize(None).values) <= np.timedelta64(0))[0] + 1
    )
    with pytest.raises(
        InputError, match=rf"row {row}: 2024-10-27 02:00:00 comes a second time, as"
    ):
        read(text(times, "%Y-%m-%d %H:%M:%S"))


@pytest.mark.parametrize("time", ["2024-06-05 02:00:00", "2024-10-27 14:00:00"])
def test_other_repeated_times_are_plain_errors(read: Read, time: str) -> None:
    stamps = [*pd.date_range(end=time, periods=5, freq="h"), pd.Timestamp(time)]
    with pytest.raises(InputError, match="row 7: .* appears twice; keep one value"):
        read(text(stamps, "%Y-%m-%d %H:%M:%S"))


def test_an_absent_hour_of_spring_is_a_missing_value_and_explained(read: Read) -> None:
    (series,), notes = read(text(index(SPRING, "h"), "%Y-%m-%d %H:%M:%S"))
    assert np.flatnonzero(np.isnan(series.values)).tolist() == [26]
    assert any("the hour from 2024-03-31 02:00:00 is absent, as where clocks" in n for n in notes)
    assert any("70 of 71 steps are 1 hour" in n for n in notes)


def test_an_absent_hour_of_another_day_is_only_a_missing_value(read: Read) -> None:
    times = pd.date_range("2024-05-01", periods=50, freq="h").delete(20)
    _, notes = read(text(times, "%Y-%m-%d %H:%M:%S"))
    assert not any("clocks" in note for note in notes)


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (
            "ds,y\n2024-03-31 01:00,1\n2024-03-31 02:00,2\n2024-03-31 03:00,2\n",
            IN_BERLIN,
            r"row 3: 2024-03-31 02:00:00 does not exist in Europe/Berlin",
        ),
        ("ds,y\n2024-05-01T00:00+02:00,1\n2024-05-02T00:00,1\n", Columns(), "row 3.*without a UTC"),
        (
            "ds,y\n2024-05-01,1\n",
            Columns(form=TableForm(time_zone="Europe/Nowhere")),
            "time zone 'Europe/Nowhere' is not known; write a name such as Europe/Berlin",
        ),
        ("ds,y\n9999-12-31,1\n", IN_BERLIN, "9999-12-31.*known for the years 2 to 9998"),
        (
            "ds,y\n2024-05-01,1\n",
            Columns(form=TableForm(time_zone="../etc/passwd")),
            "time zone .* is not known",
        ),
    ],
)
def test_times_that_no_zone_explains_are_refused(
    read: Read, content: str, columns: Columns, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(content, columns)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (pd.date_range("2024-01-01", periods=30, freq="h"), "'h' (all 29 steps are 1 hour)"),
        (pd.date_range("2024-01-01", periods=30, freq="15min"), "'15min' (all 29 steps are 15 min"),
        (
            pd.date_range("2024-01-01", periods=1000, freq="h").delete(500),
            "'h' (997 of 998 steps are 1 hour)",
        ),
        (
            pd.date_range("2024-01-01", periods=30, freq="2h").append(
                pd.DatetimeIndex(["2024-01-03 11:00", "2024-01-03 12:00"])
            ),
            "'h' (2 of 31 steps are 1 hour, most are 2 hours: "
            "if that is right, give it (--freq, freq=))",
        ),
        (pd.date_range("2024-01-31", periods=9, freq="QE-JAN"), "(all 8 steps are 1 quarter)"),
        (pd.bdate_range("2024-01-01", periods=9), "'B' (all 8 steps are 1 business day)"),
    ],
)  # fmt: skip
def test_the_frequency_is_said_with_its_evidence(read: Read, times: Any, said: str) -> None:
    _, notes = read(text(times, "%Y-%m-%d %H:%M:%S"))
    assert said in notes[-1]
    assert notes[-1].endswith(", from the timestamps")


@pytest.mark.parametrize("zone", ["+24:00", "-99:99", "+9999"])
def test_an_offset_of_a_day_or_more_is_refused(read: Read, zone: str) -> None:
    with pytest.raises(InputError, match="is a day or more"):
        read("ds,y\n2024-01-01,1\n", Columns(form=TableForm(time_zone=zone)))
