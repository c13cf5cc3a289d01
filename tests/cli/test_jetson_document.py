"""docs/jetson.md: its commands exist, and its memory follows from the models' sizes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from laglite.bundle import locate, open_bundle
from laglite.cli import main

DOCUMENT = (Path(__file__).parents[2] / "docs" / "jetson.md").read_text(encoding="utf-8")
CONTEXT, PATHS = 64, 100


def test_every_command_has_the_options_it_is_given() -> None:
    lines = re.findall(r"^(?:laglite/bin/)?laglite (.*)$", DOCUMENT, re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        name, *options = shlex.split(line, comments=True)
        command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
        assert command is not None, line
        command.make_context(name, options)


@pytest.mark.parametrize("model", ["nano", "base"])
def test_the_memory_of_a_model_is_that_of_its_sizes(model: str) -> None:
    spec = open_bundle(locate(model)).spec
    token = 2 * spec.num_layers * spec.width * 4
    expected = [
        4 * spec.num_parameters / 1e6, token / 1e3, CONTEXT * token / 1e6,
        PATHS * 23 * token / 1e6, PATHS * 95 * token / 1e6,
    ]  # fmt: skip
    (row,) = re.findall(rf"^\| `{model}` \(.*?\) \|(.*)\|$", DOCUMENT, re.MULTILINE)
    for cell, number in zip(row.split("|"), expected, strict=True):
        stated = cell.split()[0]
        decimals = len(stated.partition(".")[2])
        assert float(stated) == round(number, decimals)
