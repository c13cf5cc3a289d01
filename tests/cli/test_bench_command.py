"""`laglite bench`: a table, files, and what it refuses before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from laglite.cli import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *(str(argument) for argument in arguments)])


QUICK = ("--repeats", 2, "--horizon", 3, "--threads", 1)


def test_every_combination_is_measured_and_written(tiny_bundle: Path, tmp_path: Path) -> None:
    output, traces = tmp_path / "bench.json", tmp_path / "traces"
    done = run(
        tiny_bundle, *QUICK, "--paths", "3,5", "--context", "8,16", "--output", output,
        "--profile", traces,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "4 of 4 measured" in done.stderr
    written = json.loads(output.read_text())
    sizes = [(row["workload"]["context"], row["workload"]["paths"]) for row in written["results"]]
    assert sizes == [(8, 3), (8, 5), (16, 3), (16, 5)]
    assert {operator["graph"] for operator in written["operators"]} == {"prefill", "step"}
    assert len(list(traces.iterdir())) == 2
    rows = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("fp32")]
    assert [row[2:5] for row in rows] == 2 * [[str(c), "3", str(p)] for c, p in sizes]
    assert "MatMul" in done.stdout


def test_markdown_is_written_for_readers(tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.md"
    done = run(tiny_bundle, *QUICK, "--paths", 3, "--output", output)
    assert done.exit_code == 0, done.stderr
    text = output.read_text()
    assert text.startswith("# laglite bench\n")
    assert "| fp32 | 1 |" in text


@pytest.mark.parametrize("text", ["", "a", "3,", "0", "2,-1", "1.5"])
def test_lists_of_other_than_counts_are_wrong_usage(text: str) -> None:
    done = run("nano", "--paths", text)
    assert done.exit_code == 2
    assert "is not a list of whole numbers of at least 1" in done.stderr


def test_what_cannot_be_measured_or_written_is_refused_at_once(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    for arguments, message in (
        (["no-such-model"], "no-such-model: neither a model directory nor a shipped model"),
        ([tiny_bundle, "--precision", "fp32,int4"], "no precision 'int4'; this bundle has fp32"),
        ([tiny_bundle, "--output", tmp_path / "a.csv"], "the ending must be .json or .md"),
        ([tiny_bundle, "--output", tmp_path / "no" / "a.md"], "no does not exist"),
        ([tiny_bundle, "--profile", blocked / "traces"], "traces: cannot be written to"),
    ):
        done = run(*arguments)
        assert done.exit_code == 1, arguments
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_context_beyond_the_model_ends_with_its_message(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "bench.md"
    done = run(tiny_bundle, *QUICK, "--context", 100_000, "--output", output)
    assert done.exit_code == 1
    assert "shorten one of them" in done.stderr
    assert not output.exists()
