"""CSV and JSON lines as people and programs write them: marks, encodings, packing, and bounds."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laglite import memory
from laglite.errors import InputError
from laglite.reading import Columns, TableForm, read_series, text_series
from laglite.reading.tables import MOST_COLUMNS
from tests.runtime.conftest import Read

VALUES = [1.5, 2.0, 1034.25, -0.125, 7.5]
DAYS = [f"2024-05-{day:02d}" for day in range(1, 6)]
NUMBERS = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 4))


def write(delimiter: str, decimal: str = ".", header: str = "day,sold") -> str:
    lines = [header.replace(",", delimiter)] if header else []
    for day, value in zip(DAYS, VALUES, strict=True):
        lines.append(delimiter.join([day, str(value).replace(".", decimal)]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("delimiter", "said"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")]
)
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("header", ["day,sold", ""])
def test_delimiter_and_decimal_mark_are_found_and_said(
    read: Read, delimiter: str, said: str, decimal: str, header: str
) -> None:
    (series,), notes = read(write(delimiter, decimal, header))
    assert series.values.tolist() == VALUES
    assert series.start == np.datetime64(DAYS[0])
    mark = " and a comma as decimal mark" if decimal == "," else ""
    assert notes[0].endswith(f"data.csv: read with {said} between the cells{mark}")


def test_commas_and_points_are_taken_without_a_word(read: Read) -> None:
    (series,), notes = read(write(","))
    assert series.values.tolist() == VALUES
    assert not any("read with" in note for note in notes)


def test_what_is_given_is_taken_without_a_word(read: Read) -> None:
    form = TableForm(delimiter=";", decimal=",")
    (series,), notes = read(write(";", ","), Columns(form=form))
    assert series.values.tolist() == VALUES
    assert not any("read with" in note for note in notes)
    (series,), _ = read("ds;y\n2024-05-01;1,500\n", Columns(form=form), freq="D")
    assert series.values.tolist() == [1.5]


def test_one_column_of_numbers_with_a_comma_is_one_column(read: Read) -> None:
    (series,), notes = read("y\n1,5\n2\n-3,25\n")
    assert series.values.tolist() == [1.5, 2, -3.25]
    assert notes == [notes[0]]
    assert notes[0].endswith("read with a comma as decimal mark")


def test_a_line_for_excel_says_the_delimiter(read: Read) -> None:
    (series,), _ = read("sep=;\r\n" + write(";", ","))
    assert series.values.tolist() == VALUES
    with pytest.raises(InputError, match="row 4, column 'sold': 'x' is not a number"):
        read("sep=|\n" + write("|").replace("2.0", "x"))


def test_a_quoted_cell_may_hold_the_delimiter(read: Read) -> None:
    text = "shop;ds;y\n" + "".join(f'"a; b, c";{day};1,5\n' for day in DAYS)
    (series,), _ = read(text)
    assert series.item_id == "a; b, c"


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=20),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([".", ","]),
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[float, float]],
    delimiter: str,
    decimal: str,
    item: str,
) -> None:
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["unique_id", "ds", "y", "price"])
    for hour, row in enumerate(rows):
        cells = [str(value).replace(".", decimal) for value in row]
        writer.writerow([f"id {item}", f"2024-05-01 {hour:02d}:00", *cells])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    form = TableForm(delimiter, decimal)
    columns = Columns("unique_id", "ds", "y", ("price",), form)
    (series,) = read_series(str(path), columns, "h", lambda _: None)
    assert series.item_id == f"id {item}"
    assert series.covariates is not None
    np.testing.assert_array_equal(
        np.column_stack([series.values, series.covariates[: len(series.values)]]), rows
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ds;y\n2024-05-01;1,000\n", "row 2: the ',' of '1,000' may be the decimal mark or a thou"),
        ("ds;y\n2024-05-01;1.000\n", "row 2: the '.' of '1.000' may be .* give --decimal '.'"),
        ("ds;y\nx;1,5\ny;1.5\n", "'1,5' in row 2 has a decimal comma, '1.5' in row 3 a point"),
        ("ds;y\nx;1,5\ny;1.500\n", "'1,5' in row 2 has a decimal comma, '1.500' in row 3 a point"),
        ("ds;y\n2024-05-01;1.234,5\n2024-05-02;1,5\n", "'1.234,5' is not a number; write numbers"),
        (
            'ds,y\n2024-05-01,"1,000"\n',
            "column 'y': '1,000' is not a number; write numbers",
        ),
        ("ds,y\n2024-05-01,1 000\n", "column 'y': '1 000' is not a number; write numbers"),
        ("ds,y\n2024-05-01,1_000\n", "column 'y': '1_000' is not a number; write numbers"),
        ('ds,y\n2024-05-01,"1,5"\n', "'1,5' is not a number; write decimals with a point, or give"),
        ("a;b,c;d\n1;2,3;4\n", "several columns could be the target column"),
        ("a|b;c\nx|y;z\n", "semicolons or bars may divide the cells; say which with --delimiter"),
        ("ds;y\n2024-05-01;1\n2024-05-02\n", "row 3: 1 cells where the header has 2"),
    ],
)
def test_marks_that_are_in_doubt_are_refused_with_the_way_out(
    read: Read, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=rf"(?s)data\.csv.*{message}"):
        read(text)


def test_a_point_is_refused_where_the_decimal_mark_is_a_comma(read: Read) -> None:
    with pytest.raises(InputError, match="'1.5' is not a number; the decimal mark of this file is"):
        read("ds;y\n2024-05-01;1.5\n", Columns(form=TableForm(decimal=",")))


@pytest.mark.parametrize(
    "text",
    [
        ",ds,y\n" + "".join(f"{n},{day},{n}\n" for n, day in enumerate(DAYS)),
        ",ds,y\n" + "".join(f"{n + 1},{day},{n}\n" for n, day in enumerate(DAYS)),
        "ds,y,\n" + "".join(f"{day},{n},\n" for n, day in enumerate(DAYS)),
    ],
    ids=["pandas' index", "R's row names", "a comma at the end"],
)
def test_columns_without_a_name_that_number_the_rows_or_are_empty_are_left_out(
    read: Read, text: str
) -> None:
    (series,), notes = read(text)
    assert series.values.tolist() == [0, 1, 2, 3, 4]
    assert notes[0] == "columns: time 'ds', target 'y'"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("packed", [False, True])
def test_byte_order_marks_and_gzip_are_read_whatever_the_ending(
    read: Read, encoding: str, packed: bool
) -> None:
    raw = write(";", ",", "day,größe").encode(encoding)
    for name in ("data.csv", "data.csv.gz", "data.txt"):
        (series,), notes = read(gzip.compress(raw) if packed else raw, name=name)
        assert series.values.tolist() == VALUES
        assert "columns: time 'day', target 'größe'" in notes


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            "ds,größe\n".encode("latin-1"),
            r"row 1: not UTF-8 text \(byte 5\); if it is Latin-1: i",
        ),
        (b"\xff\xfed\x00s", r"row 1: not UTF-16 text"),
        ("ds,y\n".encode("utf-16-le"), "holds NUL characters: a binary file, or UTF-16 without"),
        (b"PAR1....", "is a Parquet file; give it the ending .parquet"),
        (b"PK\x03\x04....", "is a zip archive or an Excel workbook; save the sheet as CSV"),
        (gzip.compress(b"ds,y\n" * 50, mtime=0)[:-12], "a damaged or cut gzip file"),
        (b"\x1f\x8bno gzip", "a damaged or cut gzip file"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
    ],
)
def test_bytes_that_are_no_text_are_refused_by_kind(read: Read, raw: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"data\.csv.*{message}"):
        read(raw)


def lines(*objects: Any) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


@pytest.mark.parametrize("name", ["data.jsonl", "data.ndjson", "data.jsonl.gz", "data.csv"])
def test_json_lines_are_rows_by_their_keys(read: Read, name: str) -> None:
    rows = [{"ds": day, "y": v, "id": "a"} for day, v in zip(DAYS, VALUES, strict=True)]
    del rows[1]["y"]
    rows[2]["y"] = None
    raw = lines(*rows).encode()
    (series,), notes = read(gzip.compress(raw) if name.endswith(".gz") else raw, name=name)
    np.testing.assert_array_equal(series.values, [1.5, np.nan, np.nan, -0.125, 7.5])
    assert (series.item_id, series.start) == ("a", np.datetime64(DAYS[0]))
    assert notes[0] == "columns: id 'id', time 'ds', target 'y'"


def test_json_lines_of_gluonts_are_series(read: Read) -> None:
    text = lines(
        {"item_id": "T1", "start": "2024-05-01 00:00:00", "target": [1, None, "NaN", 4.5]},
        {"item_id": 2, "start": "2024-06-01", "target": [5]},
    )
    series, _ = read(text, freq="h", name="data.jsonl")
    assert [each.item_id for each in series] == ["T1", "2"]
    np.testing.assert_array_equal(series[0].values, [1, np.nan, np.nan, 4.5])
    assert [str(each.start)[:10] for each in series] == ["2024-05-01", "2024-06-01"]
    assert {each.freq.alias for each in series if each.freq is not None} == {"h"}
    own, _ = read(text.replace('"target"', '"freq": "D", "target"'), name="data.jsonl")
    assert own[0].freq is not None
    assert own[0].freq.alias == "D"


def test_series_without_an_item_id_are_named_by_their_line(read: Read) -> None:
    one = {"start": "2024-05-01", "freq": "D", "target": [1.0]}
    series, _ = read(lines(one, one), name="data.jsonl")
    assert [each.item_id for each in series] == ["1", "2"]


def test_covariates_of_json_series_are_lists_that_may_be_longer(read: Read) -> None:
    text = lines({"start": "2024-05-01", "freq": "D", "target": [1, 2], "dynamic": [[3, 4, 5]]})
    (series,), _ = read(text, Columns(covariates=("dynamic",)), name="data.jsonl")
    np.testing.assert_array_equal(series.covariates, [[3], [4], [5]])


SERIES = {"item_id": "a", "start": "2024-05-01", "freq": "D", "target": [1.0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ('{"y": 1}\n{"y": \n', r"row 2: not valid JSON"),
        ('{\n"y": 1}\n', "row 1: not valid JSON .*; JSON lines hold one whole object a line"),
        ('{"y": 1}\n\n[1]\n', "row 3: an object such as .* was expected, not a list"),
        ('{"y": 1}\n7\n', "row 2: an object such as .* was expected, not 7"),
        ('{"y": 1, "y": 2}\n', "row 1: not valid JSON .the key 'y' stands there twice"),
        ('{"y": 1}\n{"y": "high"}\n', "row 2, column 'y': 'high' is not a number"),
        ('{"y": 1}\n{"y": [2]}\n', r"row 2, column 'y': \[2\] is not a number"),
        ('{"y": ' + "[" * 100_000 + "\n", "row 1: n(ested too deeply|ot valid JSON)"),
        (lines({"start": "2024-05-01", "target": [1]}), r"states no frequency; give it \(--freq\)"),
        (lines(SERIES, SERIES), r"row 2 \(a\): the item_id is that of row 1; each needs its own"),
        (lines({**SERIES, "item_id": None}), "row 1 .*: item_id is missing"),
        (lines({**SERIES, "target": [1, [2]]}), r"row 1 \(a\): target must be a list of numbers"),
        (lines({**SERIES, "target": [[1], [2]]}), r"row 1 \(a\): target must be a list of numbers"),
        (lines({**SERIES, "start": None}), r"row 1 \(a\): None is not a point in time"),
        (lines({**SERIES, "freq": "X"}), r"row 1 \(a\): frequency 'X' is not known"),
        (lines(*({f"k{n}": 1} for n in range(1000))), "the objects share few of their 1,000 keys"),
    ],
)
def test_json_lines_that_make_no_sense_are_refused_with_their_line(
    read: Read, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=rf"(?s)data\.jsonl.*{message}"):
        read(text, name="data.jsonl")


HUGE = f"1{400 * '0'}"  # which JSON holds, and no float does


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f'{{"ds": "2024-05-01", "y": {HUGE}}}', "row 1, column 'y': infinite value"),
        (
            f'{{"item_id": "a", "start": "2024-05-01", "freq": "D", "target": [1, {HUGE}]}}',
            r"row 1 \(a\): target must be a list of numbers",
        ),
        (r'{"unique_id": "\ud800", "y": 1}', "row 1: not valid JSON .*surrogates"),
        (r'{"\ud800": 1}', "row 1: not valid JSON .*surrogates"),
    ],
)
def test_json_that_is_no_number_or_text_is_refused(read: Read, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(line, name="data.jsonl")


def test_escaped_pairs_of_json_are_text(read: Read) -> None:
    series, _ = read('{"unique_id": "\\ud83d\\ude00", "y": 1}', name="data.jsonl")
    assert series[0].item_id == "\U0001f600"


def test_a_closed_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="standard input: is closed"):
        read_series("-", Columns(), None, lambda _: None)


def test_a_json_list_is_refused_with_the_form_that_is_read(read: Read) -> None:
    with pytest.raises(InputError, match="one object a line"):
        read('[{"ds": "2024-05-01", "y": 1}]', name="data.json")


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_million_columns_are_refused_at_once(read: Read, delimiter: str) -> None:
    header = delimiter.join(f"c{n}" for n in range(1_000_000))
    with pytest.raises(InputError, match=f"1,000,000 columns, of at most {MOST_COLUMNS:,}"):
        read(f"{header}\n")


def test_a_name_that_stands_twice_is_found_among_many(read: Read) -> None:
    names = [f"c{n}" for n in range(50_000)] + ["c7"]
    with pytest.raises(InputError, match="the header names column 'c7' twice"):
        read(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")


def test_a_file_that_unpacks_to_more_than_memory_holds_is_refused_while_it_is_read(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = gzip.compress(b"1\n" * 20_000_000)
    assert len(bomb) < 100_000
    monkeypatch.setattr("laglite.reading.text_files.available_memory", lambda: 10_000_000)
    with pytest.raises(InputError, match=r"more than 16,777,216 bytes \(unpacked\).*GB are left"):
        read(bomb, name="data.csv.gz")


def test_a_parquet_table_that_does_not_fit_is_refused_before_it_is_read(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laglite.reading.memory.available_memory", lambda: 1000)
    with pytest.raises(InputError, match="a table of 100 rows needs about .* of memory to read"):
        read({"y": np.arange(100.0)})


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from laglite.errors import InputError
from laglite.reading import Columns, read_series
try:
    read_series(sys.argv[1], Columns(), None, print)
except InputError as error:
    print(error)
"""


def test_ten_gigabytes_under_a_memory_limit_are_an_error_not_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.write(b"ds,y\n" + b"2024-05-01,1\n" * 100)
        file.truncate(10 << 30)  # a hole: it takes no space
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    )
    assert "huge.csv: a table of more than" in run.stdout
    assert "split the file, or write it in the Parquet series format" in run.stdout


def test_the_memory_left_is_the_smallest_of_what_machine_container_and_limit_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2000 kB\n")
    (tmp_path / "memory.max").write_text("1500000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available_memory() == 1_000_000
    (tmp_path / "memory.stat").write_text("anon 1\nactive_file 1000\ninactive_file 200\n")
    assert memory.available_memory() == 1_001_200
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory() == 2_048_000


def test_a_units_limit_counts_and_so_do_those_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd sets `MemoryMax` on a service and on the slice that it is in."""
    unit = tmp_path / "cgroup" / "system.slice" / "laglite-serve.service"
    unit.mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("1:cpu:/elsewhere\n0::/system.slice/laglite-serve.service\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_CGROUP", own)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    (unit / "memory.max").write_text("3000000\n")
    (unit / "memory.current").write_text("1000000\n")
    assert memory.available_memory() == 2_000_000
    (unit.parent / "memory.max").write_text("1500000\n")
    (unit.parent / "memory.current").write_text("1200000\n")
    assert memory.available_memory() == 300_000
    own.write_text("0::/of/another/namespace\n")
    assert memory.available_memory() is None


def test_memory_that_runs_out_all_the_same_is_an_error_of_the_file(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("laglite.reading.files.read_csv", run_out)
    with pytest.raises(InputError, match=r"data\.csv: does not fit into memory; split the file"):
        read("ds,y\n")


def test_text_at_hand_is_read_as_the_file_that_holds_it(read: Read, tmp_path: Path) -> None:
    name = str(tmp_path / "data.csv")
    rows = zip(DAYS, VALUES, strict=True)
    lines = "".join(f'{{"ds": "{day}", "y": {value}}}\n' for day, value in rows)
    for text in (write(";", ","), lines):
        (expected,), said = read(text)
        notes: list[str] = []
        raw = text.encode()
        (found,) = text_series(name, raw, Columns(), None, notes.append, len(VALUES))
        np.testing.assert_array_equal(found.values, expected.values)
        assert (found.start, found.freq, notes) == (expected.start, expected.freq, said)
        with pytest.raises(InputError, match=r"5 rows span 5 steps .* but 4 can still be taken"):
            text_series(name, raw, Columns(), None, notes.append, len(VALUES) - 1)
