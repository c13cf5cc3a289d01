"""What a shell completes where click, to which these are texts, would complete nothing."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from laglite.bundle import shipped_models


def complete_path(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of files, which the shell knows."""
    return [CompletionItem(incomplete, type="file")]


def complete_model(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shipped models that begin so, and folders."""
    names = [CompletionItem(name) for name in shipped_models() if name.startswith(incomplete)]
    return [CompletionItem(incomplete, type="dir"), *names]
