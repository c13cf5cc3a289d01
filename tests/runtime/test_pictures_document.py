"""docs/pictures.md: its code makes the series it draws, and its pictures are there and small."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from laglite.reading import Columns, read_series

DOCUMENT = Path(__file__).parents[2] / "docs" / "pictures.md"


def test_the_code_makes_four_series_of_four_frequencies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    exec(code[1], {})
    series = read_series("several.csv", Columns(), None, lambda message: None)
    assert [one.freq.alias for one in series if one.freq] == ["h", "MS", "D", "YS"]
    assert [int(np.isnan(one.values).sum()) for one in series] == [12, 0, 0, 0]


def test_the_pictures_are_there_and_small() -> None:
    names = re.findall(r"\]\((images/.*?)\)", DOCUMENT.read_text(encoding="utf-8"))
    assert len(names) == 3
    for name in names:
        assert (DOCUMENT.parent / name).stat().st_size < 150_000
