"""Fixtures of the reading tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laglite.reading import Columns, InputSeries, read_series

Read = Callable[..., "tuple[list[InputSeries], list[str]]"]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Series and notes from text, or from columns or a table written as Parquet."""

    def read(
        content: Any,
        columns: Columns | None = None,
        freq: str | None = None,
        name: str = "data.csv",
    ) -> tuple[list[InputSeries], list[str]]:
        if isinstance(content, str):
            content = content.encode()
        if isinstance(content, bytes):
            path = tmp_path / name
            path.write_bytes(content)
        else:
            path = tmp_path / "data.parquet"
            pq.write_table(pa.table(content), path)
        notes: list[str] = []
        return read_series(str(path), columns or Columns(), freq, notes.append), notes

    return read
