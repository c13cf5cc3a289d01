"""`POST /table`: the reader of the command line, its guesses and its messages."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pytest

from tests.service.conftest import Serve, problem

CSV = "date,sales\n2024-01-01,11.5\n2024-01-02,\n2024-01-03,14\n"


def read(client: httpx.Client, text: str | bytes, media: str = "text/csv", **options: Any) -> Any:
    headers = {"Content-Type": media}
    return client.post("/table", content=text, headers=headers, params=options)


def test_a_csv_becomes_series_that_can_be_forecast(client: httpx.Client) -> None:
    found = read(client, CSV).json()
    times = ["2024-01-01", "2024-01-02", "2024-01-03"]
    (series,) = found["series"]
    assert series == {
        "id": None, "values": [11.5, None, 14.0], "start": "2024-01-01", "freq": "D",
        "timestamps": times,
    }  # fmt: skip
    assert found["notes"][0] == "columns: time 'date', target 'sales'"
    del series["timestamps"]
    asked = {"series": [series], "horizon": 1, "samples": 2}
    answer = client.post("/forecast", json=asked).json()
    assert answer["forecasts"][0]["timestamps"] == ["2024-01-04"]


def test_wide_tables_semicolons_json_lines_and_plain_values_are_read_too(
    client: httpx.Client,
) -> None:
    wide = "ds;a;b\n2024-01-01;1,5;2\n2024-01-02;2,5;3\n2024-01-03;3,5;4\n"
    found = read(client, wide).json()
    assert [(one["id"], one["values"]) for one in found["series"]] == [
        ("a", [1.5, 2.5, 3.5]),
        ("b", [2, 3, 4]),
    ]
    lines = '{"ds": "2024-01-01 05:00", "y": 1}\n{"ds": "2024-01-01 06:00", "y": 2}\n'
    found = read(client, lines, "application/x-ndjson", freq="h").json()
    assert found["series"][0]["start"] == "2024-01-01 05:00:00"
    found = read(client, "1\n2\n3\n").json()
    assert found["series"][0] == {
        "id": None, "values": [1, 2, 3], "start": None, "freq": None, "timestamps": None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "options", "detail"),
    [
        ("date,sales\n2024-01-01,1\n2024-01-02,x2\n", {}, "table, row 3, column 'sales': 'x2' is"),
        ("date,sales\n2024-01-01,1\n2024-01-02,2,3\n", {}, "table, row 3: 3 cells"),
        ("date,sales\n2024-01-01,1\n2024-13-02,2\n", {}, "row 3, column 'date'"),
        ("date,a,b,c\n2024-01-01,1,2,x\n2024-01-02,2,3,y\n", {}, "choose with target_column"),
        ("date,sales\n2024-01-01,1\n2024-01-02,2\n", {}, "give it (freq, freq=)"),
        ("", {}, "table: the file is empty"),
        (b"\xff\xfe\xfd", {}, "not UTF-16 text"),
        (b"a,b\n1,\xff\n", {}, "table, row 2: not UTF-8 text"),
        (CSV, {"target_column": "y"}, "no column 'y'; the columns are date, sales"),
        (CSV, {"freq": "x"}, "frequency 'x' is not known"),
        ("date,sales\n1/2/2024,1\n2/2/2024,2\n", {}, "give date_order dmy or mdy"),
        (CSV, {"time_zone": "Moon"}, "time zone 'Moon' is not known"),
        (CSV, {"name": "my.csv", "id_column": "x"}, "my.csv: no column 'x'"),
        ('{"ds": 1', {}, "row 1: not valid JSON"),
        ('{"a":' * 100_000, {}, "row 1: nested too deeply"),
        ("a\n" + "1" * 200_000, {}, "field larger than field limit"),
    ],
)
def test_a_bad_table_is_explained_with_its_row(
    client: httpx.Client, text: str | bytes, options: dict[str, str], detail: str
) -> None:
    found = problem(read(client, text, **options), 422, "invalid-input")
    assert detail in found["detail"]
    assert found["field"] == "body"
    assert "--" not in found["detail"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"delimiter": "ab"}, "delimiter"),
        ({"decimal": "x"}, "decimal"),
        ({"wide": "x"}, "wide"),
        ({"date_order": "ymd"}, "date_order"),
        ({"target-column": "sales"}, "target-column"),
    ],
)
def test_a_wrong_parameter_is_named(
    client: httpx.Client, options: dict[str, str], field: str
) -> None:
    assert problem(read(client, CSV, **options), 422, "invalid-input")["field"] == field


def test_a_table_must_be_text_and_said_to_be_a_table(client: httpx.Client) -> None:
    problem(read(client, CSV, "application/json"), 415, "unsupported-media-type")
    for packed, kind in ((gzip.compress(CSV.encode()), "packed by gzip"), (b"PAR1..", "Parquet")):
        found = problem(read(client, packed, name="x"), 415, "unsupported-media-type")
        assert found["detail"].startswith("x: ")
        assert kind in found["detail"]


def test_few_rows_far_apart_cannot_fill_the_memory(serve: Serve) -> None:
    service = serve(table_values=1000, series=3, values=500)
    far = "id,ds,y\n" + "".join(
        f"{name},{day},1\n" for name in "ab" for day in ("2022-01-01", "2022-01-02", "2023-08-01")
    )
    found = problem(read(service.client, far), 422, "invalid-input")
    assert "series 'b': 3 rows span 578 steps" in found["detail"]
    assert "but 422 can still be taken" in found["detail"]
    one_far = "".join(line for line in far.splitlines(True) if not line.startswith("b"))
    assert problem(read(service.client, one_far), 422, "over-limit")["limit"] == 500
    many = "ds,a,b,c,d\n" + "".join(f"2024-01-0{day},1,2,3,4\n" for day in (1, 2, 3))
    assert problem(read(service.client, many), 422, "over-limit")["limit"] == 3
