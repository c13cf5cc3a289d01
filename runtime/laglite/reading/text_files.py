"""Text files to text: gzip, encodings, and a bound on what is held in memory."""

from __future__ import annotations

import codecs
import gzip
import io
import sys
import zlib
from pathlib import Path
from typing import IO, cast

from laglite.errors import InputError
from laglite.memory import available_memory
from laglite.reading.memory import too_large

# Memory that reading takes for each byte, row and cell: at most this on tables of 1 to 50 columns.
BYTE, ROW, CELL = 7, 300, 100
BETWEEN_CELLS = (b",", b";", b"\t", b"|")
PIECE = 1 << 24
MARKS = (  # the longer ones first: UTF-32 begins as UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
GZIP = b"\x1f\x8b"
OTHER_KINDS = {
    b"PAR1": "a Parquet file; give it the ending .parquet",
    b"PK\x03\x04": "a zip archive or an Excel workbook; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
}


def read_text(path: str) -> tuple[str, str]:
    """Name for messages and text of a file, "-" being standard input; gzip is unpacked.

    UTF-8, or what a byte order mark says. Raises InputError, also for more than memory can hold.
    """
    source = "standard input" if path == "-" else path
    if path == "-" and sys.stdin is None:
        raise InputError(f"{source}: is closed")
    try:
        if path == "-":
            raw = _read_within_memory(source, sys.stdin.buffer)
        else:
            with Path(path).open("rb") as file:
                raw = _read_within_memory(source, file)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error
    if raw.startswith(GZIP):
        raw = _unpack(source, raw)
    return source, decode_text(source, raw)


def _read_within_memory(source: str, file: IO[bytes], unpacked: str = "") -> bytes:
    """All bytes, read in pieces so that an endless file ends as an error."""
    available = available_memory()
    pieces: list[bytes] = []
    size = rows = cells = 0
    while piece := file.read(PIECE):
        pieces.append(piece)
        size += len(piece)
        rows += piece.count(b"\n")
        cells += sum(map(piece.count, BETWEEN_CELLS))
        needed = size * BYTE + rows * (ROW + CELL) + cells * CELL
        if available is not None and needed > available:
            what = f"a table of more than {size:,} bytes{unpacked} and {rows:,} rows"
            raise too_large(source, what, needed, available)
    return b"".join(pieces)


def _unpack(source: str, raw: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            return _read_within_memory(source, cast("IO[bytes]", file), " (unpacked)")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{source}: a damaged or cut gzip file ({error})") from error


def decode_text(source: str, raw: bytes) -> str:
    """The text of a file's bytes: UTF-8, or what a byte order mark says. Raises InputError."""
    kind = next((kind for magic, kind in OTHER_KINDS.items() if raw.startswith(magic)), None)
    if kind is not None:
        raise InputError(f"{source}: is {kind}")
    encoding = next((name for mark, name in MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{source}, row {line}: not {encoding.upper()} text (byte {error.start}); if it is "
            "Latin-1: iconv -f WINDOWS-1252 -t UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(
            f"{source}: holds NUL characters: a binary file, or UTF-16 without a byte order mark"
        )
    return text
