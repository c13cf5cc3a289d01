"""How much memory is left: of the machine, the container and the process."""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
STATM = Path("/proc/self/statm")


def available_memory() -> int | None:
    """Bytes that this process can still take; None where the system does not say."""
    bounds = [_machine(), _control_groups(), _address_space()]
    return min((bound for bound in bounds if bound is not None), default=None)


def gigabytes(size: int) -> str:
    """A number of bytes, for people."""
    return f"{size / 1e9:,.1f} GB"


def _machine() -> int | None:
    for line in _text(MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _control_groups() -> int | None:
    """What is left of the limits of the process's control group, a unit's, and of those above."""
    own = next((x[3:] for x in _text(OWN_CGROUP).splitlines() if x.startswith("0::/")), "/")
    folder = CGROUP / own.strip("/")
    groups = [folder, *(each for each in folder.parents if each.is_relative_to(CGROUP))]
    bounds = [_control_group(each) for each in groups]
    return min((bound for bound in bounds if bound is not None), default=None)


def _control_group(folder: Path) -> int | None:
    most, used = (_text(folder / name).strip() for name in ("memory.max", "memory.current"))
    if not most.isdecimal() or not used.isdecimal():
        return None
    held = (line.split() for line in _text(folder / "memory.stat").splitlines())
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
