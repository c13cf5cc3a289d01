"""How much memory a table may take: what the machine, the container and the process have left."""

from __future__ import annotations

import os
from pathlib import Path

from laglite.errors import InputError

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
STATM = Path("/proc/self/statm")
WAY_OUT = (
    "split the file, or write it in the Parquet series format (item_id, start, freq, target), of "
    "which more than 1,024 series are read bit by bit"
)


def available_memory() -> int | None:
    """Bytes that this process can still take; None where the system does not say."""
    bounds = [_machine(), _container(), _address_space()]
    return min((bound for bound in bounds if bound is not None), default=None)


def check_fits(source: str, size: int, what: str) -> None:
    """Raises InputError where reading takes more than the memory that is left."""
    available = available_memory()
    if available is not None and size > available:
        raise too_large(source, what, size, available)


def too_large(source: str, what: str, size: int, available: int) -> InputError:
    """The error for a table that does not fit, and the way out."""
    return InputError(
        f"{source}: {what} needs about {_gigabytes(size)} of memory to read, and "
        f"{_gigabytes(available)} are left; {WAY_OUT}"
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


def _machine() -> int | None:
    for line in _text(MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _container() -> int | None:
    most, used = (_text(CGROUP / name).strip() for name in ("memory.max", "memory.current"))
    if not most.isdecimal() or not used.isdecimal():
        return None
    held = (line.split() for line in _text(CGROUP / "memory.stat").splitlines())
    files = sum(int(size) for name, size in held if name in ("active_file", "inactive_file"))
    return max(0, int(most) - int(used) + files)  # pages of files give way


def _address_space() -> int | None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(STATM).split()
    if most == resource.RLIM_INFINITY or not pages:
        return None
    return max(0, most - int(pages[0]) * os.sysconf("SC_PAGE_SIZE"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
