"""Files to tables, whatever their format."""

from __future__ import annotations

from pathlib import Path

from laglite.errors import InputError
from laglite.reading.columns import TableForm
from laglite.reading.csv_files import read_csv
from laglite.reading.json_lines import read_json_lines
from laglite.reading.memory import WAY_OUT
from laglite.reading.parquet_files import read_parquet
from laglite.reading.tables import Note, Table
from laglite.reading.text_files import read_text

JSON = (".jsonl", ".ndjson", ".json")


def read_table(path: str, form: TableForm, note: Note) -> Table:
    """Read a Parquet, JSON lines or CSV file; "-" is one of the latter on standard input.

    Text may be packed by gzip. Text that begins as an object does is JSON lines, whatever its
    ending. Raises InputError.
    """
    try:
        if path.endswith(".parquet"):
            return read_parquet(Path(path))
        source, text = read_text(path)
        if path.removesuffix(".gz").endswith(JSON):
            return read_json_lines(source, text)
        return text_table(source, text, form, note)
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into memory; {WAY_OUT}") from error


def text_table(source: str, text: str, form: TableForm, note: Note) -> Table:
    """A table of text: JSON lines if it begins as an object does, else CSV. Raises InputError."""
    if text.lstrip().startswith(("{", "[{")):
        return read_json_lines(source, text)
    return read_csv(source, text, form, note)
