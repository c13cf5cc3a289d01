"""The messages that the troubleshooting page quotes are those of the code."""

from __future__ import annotations

import ast
import re

from tests.docs.workspace import ROOT

HOLE = "…"


def _templates() -> list[str]:
    """Every text in the code, with `…` for what is filled in."""
    texts = []
    for package in ("runtime", "export", "train"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [
                        part.value if isinstance(part, ast.Constant) else HOLE
                        for part in node.values
                    ]
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return texts


def _quoted() -> list[str]:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^### `(.+)`$", page, flags=re.MULTILINE)


def test_every_quoted_message_is_in_the_code() -> None:
    templates = _templates()
    missing = [text for text in _quoted() if not any(text in each for each in templates)]
    assert len(_quoted()) > 20
    assert not missing, missing
