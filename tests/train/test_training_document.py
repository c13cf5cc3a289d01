"""docs/training.md: every key of the config is in its section's table, with its default."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import pytest

from laglite_train.config import TrainConfig

DOCUMENT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
SECTIONS = {
    name: hint
    for name, hint in typing.get_type_hints(TrainConfig).items()
    if dataclasses.is_dataclass(hint)
}


def table_keys(section: str) -> dict[str, str]:
    """Keys of a section's table with the text of their default."""
    _, _, text = DOCUMENT.partition(f"### `{section}`")
    rows = [row for row in text.partition("\n#")[0].splitlines() if row.startswith("| `")]
    found = {}
    for row in rows:
        keys, default = (cell.strip() for cell in row.split("|")[1:3])
        names = re.findall(r"`(\w+)`", keys)
        defaults = default.split(", ") if len(default.split(", ")) == len(names) else None
        for place, name in enumerate(names):
            found[name] = defaults[place] if defaults else default
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented_and_no_other(section: str) -> None:
    fields = dataclasses.fields(SECTIONS[section])  # type: ignore[arg-type]
    assert set(table_keys(section)) == {field.name for field in fields}


@pytest.mark.parametrize("section", SECTIONS)
def test_defaults_are_those_of_the_code(section: str) -> None:
    found = table_keys(section)
    for field in dataclasses.fields(SECTIONS[section]):  # type: ignore[arg-type]
        text = found[field.name].strip("`").removesuffix(" each")
        if field.default is dataclasses.MISSING:
            assert text in ("required", "{}"), field.name
        elif field.default is None:
            assert text in ("none", "all cores"), field.name
        elif isinstance(field.default, bool):
            assert text == str(field.default).lower(), field.name
        elif isinstance(field.default, tuple):
            assert text == str(list(field.default)), field.name
        elif isinstance(field.default, str):
            assert text == field.default, field.name
        else:
            assert float(text) == field.default, field.name


def test_the_other_keys_are_described() -> None:
    for name in {field.name for field in dataclasses.fields(TrainConfig)} - SECTIONS.keys():
        assert f"`{name}`" in DOCUMENT
