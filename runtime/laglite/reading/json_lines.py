"""JSON lines to tables: an object a line, its keys the columns."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from laglite.errors import InputError
from laglite.reading.tables import Table, check_width

MOST_EMPTY = 10  # cells of a table for each one that the file holds


def read_json_lines(source: str, text: str) -> Table:
    """A table of the objects in `text`; a key that a line lacks is a missing value.

    Raises InputError that names the line.
    """
    objects, rows = [], []
    names: dict[str, None] = {}
    held = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        one = _parse(source, number, line)
        objects.append(one)
        rows.append(number)
        names.update(dict.fromkeys(one))
        held += len(one)
        check_width(source, len(names))
    if not objects:
        raise InputError(f"{source}: the file is empty")
    if len(names) * len(objects) > MOST_EMPTY * held + 1000:
        raise InputError(
            f"{source}: the objects share few of their {len(names):,} keys; "
            "write each row with the same keys"
        )
    cells = [[one.get(name) for one in objects] for name in names]
    return Table(source, list(names), cells, rows)


def _parse(source: str, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line, object_pairs_hook=once_each)
        if "\\u" in line:  # half of a pair of escapes is no text
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise InputError(f"{source}, row {number}: nested too deeply") from None
    except ValueError as error:
        hint = "; JSON lines hold one whole object a line" if number == 1 else ""
        raise InputError(f"{source}, row {number}: not valid JSON ({error}){hint}") from error
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else repr(value)
        raise InputError(
            f'{source}, row {number}: an object such as {{"ds": "2024-01-31", "y": 1.5}} '
            f"was expected, not {kind}; JSON lines hold one object a line"
        )
    return value


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values. Raises ValueError for a key that stands there twice."""
    held = dict(pairs)
    if len(held) < len(pairs):
        count = Counter(key for key, _ in pairs)
        twice = next(key for key in held if count[key] > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return held
