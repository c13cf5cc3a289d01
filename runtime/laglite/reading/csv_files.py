"""CSV to tables, with the standard library; delimiter and decimal mark found where not given."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from laglite.errors import InputError
from laglite.reading.columns import ID_NAMES, TARGET_NAMES, TIME_NAMES, TableForm
from laglite.reading.dates import is_date
from laglite.reading.tables import DECIMAL_COMMA, Note, Table, check_width, is_missing, is_number

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
NO_DELIMITER = "\x1f"  # for a single column whose numbers hold commas
SAMPLE_ROWS = 200
SAMPLE_CHARACTERS = 1 << 16
DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
BY_COMMAS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
BY_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
EXCEL_LINE = re.compile(r"sep=([^\r\n])(?=[\r\n])")  # a first line by which Excel is told
USUAL_NAMES = frozenset({*ID_NAMES, *TIME_NAMES, *TARGET_NAMES})

Rows = list[tuple[int, list[str]]]


def read_csv(source: str, text: str, form: TableForm, note: Note) -> Table:
    """A table of CSV text; what was found is told to `note`. Raises InputError."""
    excel = EXCEL_LINE.match(text)
    if excel is not None:
        text = text[excel.end() :]  # from the line's end on, so that rows keep their numbers
        form = replace(form, delimiter=form.delimiter or excel[1])
    delimiter = form.delimiter or _find_delimiter(source, text)
    rows = _rows(source, text, delimiter)
    if not rows:
        raise InputError(f"{source}: the file is empty")
    check_width(source, len(rows[0][1]))
    decimal = form.decimal or _find_decimal(source, rows, delimiter)
    names, body = _split_header(source, rows, decimal)
    if not body:
        raise InputError(f"{source}: there is a header, but no row of values")
    for number, row in body:
        if not any(row):
            raise InputError(
                f"{source}, row {number}: a blank line between the values; "
                "write NaN if a value is missing, or remove the line"
            )
        if len(row) != len(names):
            raise InputError(
                f"{source}, row {number}: {len(row)} cells where the header has {len(names)}"
            )
    found = []
    if form.delimiter is None and delimiter in DELIMITERS and delimiter != "," and len(names) > 1:
        found.append(f"{DELIMITERS[delimiter]} between the cells")
    if form.decimal is None and decimal == ",":
        found.append("a comma as decimal mark")
    if found:
        note(f"{source}: read with {' and '.join(found)}")
    cells = list(zip(*(row for _, row in body), strict=True))
    kept = [place for place, name in enumerate(names) if name or not _is_filler(cells[place])]
    return Table(
        source,
        [names[place] for place in kept],
        [cells[place] for place in kept],
        [number for number, _ in body],
        decimal=decimal,
    )


def _is_filler(cells: Sequence[str]) -> bool:
    """Whether a column without a name is empty, or numbers the rows as pandas and R do."""
    return all(not cell.strip() for cell in cells) or any(
        all(cell == str(number) for number, cell in enumerate(cells, first)) for first in (0, 1)
    )


def _rows(source: str, text: str, delimiter: str) -> Rows:
    """Rows with their line numbers, without blank lines at either end."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{source}, row {reader.line_num}: not valid CSV ({error})") from error
    filled = [place for place, (_, row) in enumerate(rows) if any(row)]
    return rows[filled[0] : filled[-1] + 1] if filled else []


def _find_delimiter(source: str, text: str) -> str:
    """The delimiter that divides the first lines evenly, and most of them into readable cells."""
    whole = len(text) <= SAMPLE_CHARACTERS
    sample = text if whole else text[:SAMPLE_CHARACTERS]
    samples = {}
    for delimiter in DELIMITERS:
        lines = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        rows = [row for row in islice(lines, SAMPLE_ROWS) if any(row)]
        samples[delimiter] = rows if whole or len(rows) < 2 else rows[:-1]  # the last may be cut
    if not samples[","]:
        return ","
    named = [delimiter for delimiter, rows in samples.items() if len(rows[0]) > 1]
    if not named:
        body = samples[","][1:]
        single = body and all(
            len(row) == 1 or DECIMAL_COMMA.fullmatch(",".join(row)) for row in body
        )
        return NO_DELIMITER if single and any(len(row) > 1 for row in body) else ","
    even = [
        delimiter
        for delimiter in named
        if all(len(row) == len(samples[delimiter][0]) for row in samples[delimiter])
    ]
    candidates = even or named
    shares = {delimiter: _readable(samples[delimiter], delimiter) for delimiter in candidates}
    best = max(shares.values())
    chosen = [delimiter for delimiter in candidates if shares[delimiter] == best]
    if len(chosen) > 1:
        kinds = " or ".join(DELIMITERS[delimiter] for delimiter in chosen)
        raise InputError(f"{source}: {kinds} may divide the cells; say which with --delimiter")
    return chosen[0]


def _readable(rows: list[list[str]], delimiter: str) -> float:
    """The share of cells below the first row that are numbers or dates."""
    marks = (".",) if delimiter == "," else (".", ",")
    cells = [cell for row in rows[1:] for cell in row]
    readable = sum(is_date(cell) or any(is_number(cell, m) for m in marks) for cell in cells)
    return readable / max(1, len(cells))


def _find_decimal(source: str, rows: Rows, delimiter: str) -> str:
    """The decimal mark. Between commas it is a point; otherwise the numbers show it."""
    if delimiter == ",":
        return "."
    comma = point = maybe_comma = maybe_point = None
    for number, row in rows:
        for cell in map(str.strip, row):
            if "," in cell and BY_COMMAS.fullmatch(cell):
                maybe_comma = maybe_comma or (number, cell)
            elif "," in cell and DECIMAL_COMMA.fullmatch(cell):
                comma = comma or (number, cell)
            elif "." in cell and BY_POINTS.fullmatch(cell):
                maybe_point = maybe_point or (number, cell)
            elif "." in cell and DECIMAL_POINT.fullmatch(cell):
                point = point or (number, cell)
    other = point or maybe_point
    if comma and other:
        raise InputError(
            f"{source}: {comma[1]!r} in row {comma[0]} has a decimal comma, {other[1]!r} in row "
            f"{other[0]} a point; write all numbers alike, or say which mark it is with --decimal"
        )
    # Points are doubtful between semicolons alone, which is how commas are kept for decimals.
    doubtful = maybe_comma or (maybe_point if delimiter == ";" else None)
    if doubtful and not comma and not point:
        mark = "," if "," in doubtful[1] else "."
        raise InputError(
            f"{source}, row {doubtful[0]}: the {mark!r} of {doubtful[1]!r} may be the decimal mark "
            f"or a thousands separator; give --decimal '{mark}' in the first case, remove the "
            "separators in the second"
        )
    return "," if comma else "."


def _split_header(source: str, rows: Rows, decimal: str) -> tuple[list[str], Rows]:
    """Column names and the rows below them; plain values need no header."""
    number, first = rows[0]
    values = [cell for cell in first if is_number(cell, decimal) or is_date(cell)]
    if len(values) == len(first):
        return [f"column {n + 1}" for n in range(len(first))], rows
    stray = next((cell for cell in values if not is_missing(cell)), None)
    named = any(cell.strip().lower() in USUAL_NAMES for cell in first)
    if stray is not None and len(first) > 1 and not named:
        raise InputError(
            f"{source}, row {number}: {stray!r} is a value, not a column's name; "
            "add a first line that names the columns"
        )
    return [name.strip() for name in first], rows[1:]
