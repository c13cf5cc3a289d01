"""State files: what a stream needs to go on after a restart, checked before it is used."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from laglite.atomic_file import replacing
from laglite.errors import StateError
from laglite.version import __version__

SCHEMA_VERSION = 1
FORMAT = "laglite stream state"


def write_state(path: Path, content: dict[str, Any]) -> None:
    """Replace the file by `content`, plain values for JSON, once all of it is on the disk.

    Raises InputError if the place cannot be written; the file that was there stays.
    """
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "laglite": __version__,
        "sha256": _digest(content),
        "content": content,
    }
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` wrote. Raises StateError for a file that is damaged, foreign or newer."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StateError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise StateError(
            f"{path}: damaged or cut short ({error}); restore a copy of it, or remove it to "
            "begin anew"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StateError(f"{path}: not the state of a stream; name another file")
    version, content = document.get("schema_version"), document.get("content")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise StateError(
            f"{path}: schema version {version} is newer than this laglite reads "
            f"({SCHEMA_VERSION}); upgrade laglite"
        )
    if not isinstance(content, dict) or _digest(content) != document.get("sha256"):
        raise StateError(
            f"{path}: altered, its sha256 is not that of its content; restore a copy of it, or "
            "remove it to begin anew"
        )
    return content


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
