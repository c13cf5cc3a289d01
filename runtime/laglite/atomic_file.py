"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laglite.errors import InputError


def check_place(path: Path) -> None:
    """Refuse a place where `replacing` would fail, before anything is computed for it.

    Raises InputError.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a directory")
        if not path.parent.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist")
        _temporary(path).unlink()
    except OSError as error:  # a folder without permission, a name that is too long
        raise _cannot_be_written(path, error) from error


def check_unused(path: Path) -> None:
    """Refuse a place where something is already. Raises InputError."""
    if path.exists():
        raise InputError(f"{path} exists; choose another --output, or add --overwrite")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it if the block succeeds, removed if not.

    Raises InputError if the place cannot be written.
    """
    try:
        temporary = _temporary(path)
        try:
            yield temporary
            # mkstemp's files are private; results get what a plain open() would give.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:  # a folder without permission, a full disk
        raise _cannot_be_written(path, error) from error


def _temporary(path: Path) -> Path:
    """A new empty file beside `path`."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    return Path(name)


def _cannot_be_written(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror or error})")
