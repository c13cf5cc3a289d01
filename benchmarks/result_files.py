"""Where a benchmark's results go: JSON for programs, Markdown beside it for readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from laglite.atomic_file import replacing


def write_results(output: Path, content: dict[str, Any], markdown: str) -> None:
    """Write `content` to `output` and `markdown` beside it; each file appears whole."""
    text = json.dumps(content, indent=1) + "\n"
    for path, written in ((output, text), (output.with_suffix(".md"), markdown)):
        with replacing(path) as temporary:
            temporary.write_text(written, encoding="utf-8")
