"""docs/neighbours.md: its code runs from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "neighbours.md"


@pytest.mark.filterwarnings("ignore")
def test_the_code_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    space: dict[str, Any] = {}
    for block in blocks:
        exec(block, space)
    assert space["forecast"].samples.shape == (100, 28)
    assert 0 < space["summary"]["test_error"] < 0.05
    assert space["prediction"].n_samples == 200
    assert list(space["scores"]["metric"].unique()) == ["mase", "coverage_level80"]
    assert len(space["validation"]) == 84
