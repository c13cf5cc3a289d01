"""Hooks of the site: pages link to measured results, which lie outside of its folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
IMAGE = re.compile(r'<img src="([^"]*)" alt="([^"]*)" width="(\d+)">')
OUTSIDE = ("benchmarks/results/*.*", "CHANGELOG.md", "CONTRIBUTING.md", "tests/golden/README.md")


def on_files(files: Files, config: Any) -> Files:
    """Add the files that pages link to."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links lead to where `on_files` puts things, those of pictures with a width too."""
    markdown = IMAGE.sub(r'![\2](\1){width="\3"}', markdown)
    return markdown.replace("](../", "](").replace("](docs/", "](")
