"""Fenced code blocks of a Markdown page, and what the comment before one says of running it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

NOT_RUN = re.compile(r"<!--\s*not run:\s*(\S.*?)\s*-->", re.DOTALL)
BACKGROUND = re.compile(r"<!--\s*in the background, on port (\d+)\s*-->")
BRIDGE = re.compile(r"<!--\s*in the background, with a broker, on topic (\S+)\s*-->")


@dataclass(frozen=True)
class Block:
    """One fence: its first line's number, language ("" for none) and text.

    `not_run` is the reason why it is not run, `port` that of a service which it starts and which
    is used by later blocks, `topic` that of the values which it takes from an MQTT broker.
    """

    line: int
    language: str
    text: str
    not_run: str | None
    port: int | None
    topic: str | None


def blocks_of(page: Path) -> list[Block]:
    """The page's blocks, in order."""
    found, comment = [], ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            reason, port = NOT_RUN.search(comment), BACKGROUND.search(comment)
            topic = BRIDGE.search(comment)
            language = (token.info.split() or [""])[0]
            found.append(
                Block(
                    (token.map or [0])[0] + 2,
                    language,
                    token.content,
                    reason and reason[1],
                    port and int(port[1]),
                    topic and topic[1],
                )
            )
        if token.type == "html_block":
            comment = token.content
        elif token.nesting >= 0:
            comment = ""
    return found
