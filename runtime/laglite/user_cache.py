"""Where laglite keeps what it can make again: compiled engines, corpora laid out for training."""

from __future__ import annotations

import os
from pathlib import Path

from laglite.errors import InputError


def user_cache(kind: str) -> Path:
    """The folder `$XDG_CACHE_HOME/laglite/KIND`, or the same below `~/.cache`.

    Raises InputError where neither is known, as in a container whose user has no name.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "laglite" / kind
    except RuntimeError as error:
        raise InputError(
            "this user has no home directory to keep a cache in; set XDG_CACHE_HOME to a folder"
        ) from error
