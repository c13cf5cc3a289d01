"""Every code block of the README and the documentation, run."""

from __future__ import annotations

import configparser
import contextlib
import difflib
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.docs.code_blocks import Block, blocks_of
from tests.docs.workspace import ROOT, make_workspace

PAGES = [
    page
    for pattern in ("*.md", "docs/*.md", "examples/*.md", "deploy/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if page.name != "neighbours.md"  # run by tests/neighbours, where its libraries are
]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
LONGEST = 120  # seconds that a block may take
PROSE = ("text", "diff", "promql")  # languages of blocks that nothing can be done with


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = blocks_of(page)
    if all(block.not_run or block.language in PROSE for block in blocks):
        return
    environment = make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    with contextlib.ExitStack() as services:
        for block in blocks:
            place = f"{page.relative_to(ROOT)}:{block.line}"
            if block.not_run or block.language in PROSE:
                continue
            if block.language == "python":
                exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
            elif block.port is not None:
                services.enter_context(_service(block, environment, place))
            elif block.language == "sh":
                printed = _run(block, environment, place)
            elif block.language == "json":
                json.loads(block.text)
            elif block.language == "yaml":
                yaml.safe_load(block.text)
            elif block.language == "ini":
                configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
            elif block.language == "":
                _check_printed(block.text, printed, place)
            else:
                pytest.fail(f"{place}: a block in {block.language!r} is neither run nor 'not run'")


def _run(block: Block, environment: dict[str, str], place: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        env=environment, capture_output=True, text=True, timeout=LONGEST, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{place}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@contextlib.contextmanager
def _service(block: Block, environment: dict[str, str], place: str) -> Iterator[None]:
    """Start the block's command and wait until it listens on its port."""
    with subprocess.Popen(["bash", "-c", f"exec {block.text}"], env=environment) as process:
        try:
            for _ in range(600):
                assert process.poll() is None, f"{place}: ended with {process.returncode}"
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", block.port or 0), 1).close()
                    break
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def _check_printed(shown: str, printed: str, place: str) -> None:
    """What a page shows is printed: numbers within 2 %, pictures but for a few characters."""
    lines = [line.rstrip() for line in printed.splitlines()]
    for line in shown.splitlines():
        assert any(_alike(line.rstrip(), other) for other in lines), (
            f"{place}: not printed: {line!r}\n{printed}"
        )


def _alike(shown: str, printed: str) -> bool:
    text, other = NUMBER.sub("#", shown), NUMBER.sub("#", printed)
    numbers = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=False)
    close = all(abs(float(a) - float(b)) <= 0.02 * max(1.0, abs(float(a))) for a, b in numbers)
    likeness = difflib.SequenceMatcher(None, " ".join(text.split()), " ".join(other.split()))
    return close and likeness.ratio() > 0.95


def test_every_block_that_is_not_run_says_why() -> None:
    reasons = [block.not_run for page in PAGES for block in blocks_of(page) if block.not_run]
    assert all(len(reason.split()) >= 2 for reason in reasons), reasons


def test_a_block_whose_output_is_not_what_the_page_shows_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not printed"):
        _check_printed("mean 5.0", "mean 5.5\n", "page.md:1")
