"""Tables that take more memory than is left are refused before they are read."""

from __future__ import annotations

from laglite.errors import InputError
from laglite.memory import available_memory, gigabytes

WAY_OUT = (
    "split the file, or write it in the Parquet series format (item_id, start, freq, target), of "
    "which more than 1,024 series are read bit by bit"
)


def check_fits(source: str, size: int, what: str) -> None:
    """Raises InputError where reading takes more than the memory that is left."""
    available = available_memory()
    if available is not None and size > available:
        raise too_large(source, what, size, available)


def too_large(source: str, what: str, size: int, available: int) -> InputError:
    """The error for a table that does not fit, and the way out."""
    return InputError(
        f"{source}: {what} needs about {gigabytes(size)} of memory to read, and "
        f"{gigabytes(available)} are left; {WAY_OUT}"
    )
