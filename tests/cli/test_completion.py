"""What the shell completes after `laglite`: commands and options by click, names of files by us."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete

from laglite.cli import COMMANDS, main


def completions(line: str) -> set[tuple[str, str]]:
    """Kind and text of what is offered for the last word of a line."""
    *words, incomplete = line.split(" ")
    shell = ShellComplete(main, {}, "laglite", "_LAGLITE_COMPLETE")
    return {(item.type, item.value) for item in shell.get_completions(words, incomplete)}


def test_commands_and_options_are_completed() -> None:
    assert {text for _, text in completions("")} == set(COMMANDS)
    assert ("plain", "--horizon") in completions("forecast --ho")
    assert ("plain", "cpu") in completions("forecast --backend ")


@pytest.mark.parametrize(
    "line",
    [
        "forecast da",
        "forecast data.csv --output da",
        "evaluate da",
        "stream --history da",
        "train da",
        "train config.yaml --data da",
        "train config.yaml --output da",
        "train config.yaml --init da",
        "finetune --data da",
        "finetune --model da",
        "export da",
    ],
)
def test_names_of_files_are_left_to_the_shell(line: str) -> None:
    assert completions(line) == {("file", "da")}


@pytest.mark.parametrize(
    "line",
    [
        "info n",
        "verify n",
        "bench n",
        "compile n",
        "checkpoint n",
        "forecast data.csv --model n",
        "evaluate data.csv --model n",
        "stream --model n",
        "serve --model n",
    ],
)
def test_models_are_shipped_ones_and_folders(line: str) -> None:
    assert completions(line) == {("plain", "nano"), ("dir", "n")}
