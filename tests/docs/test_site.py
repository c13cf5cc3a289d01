"""The documentation site: what its hooks do to pages."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.docs.workspace import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
HOOKS = runpy.run_path(str(ROOT / "docs" / "site.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_are_links_that_the_site_checks_and_moves(page: Path) -> None:
    # A page lies in a folder of its own there, and only Markdown's links are moved with it.
    text = HOOKS["on_page_markdown"](page.read_text(encoding="utf-8"))
    assert "<img" not in text
    assert "](../" not in text


def test_the_width_of_a_picture_is_kept() -> None:
    html = 'the page | <img src="images/a.png" alt="a page" width="300"> |'
    found = HOOKS["on_page_markdown"](html)
    assert found == 'the page | ![a page](images/a.png){width="300"} |'
