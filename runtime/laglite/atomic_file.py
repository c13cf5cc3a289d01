"""Files that appear whole or not at all, and folders that one writes at a time."""

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


@contextmanager
def alone_in(folder: Path, refusal: str = "cannot be written ({})") -> Iterator[None]:
    """Hold the folder's lock, creating the folder: who else asks for it waits.

    Raises InputError, `refusal` with the reason, if the folder cannot be written.
    """
    import fcntl  # not on every system

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise InputError(f"{folder}: {refusal.format(error.strerror)}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        yield


def _temporary(path: Path) -> Path:
    """A new empty file beside `path`."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    return Path(name)


def _cannot_be_written(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror or error})")
