"""The service against requests made up from its own description (schemathesis), a few of them."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed"
)
def test_no_request_that_can_be_made_up_is_answered_other_than_described(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    command = importlib.import_module("service_fuzz").main
    output = tmp_path / "fuzz.json"
    options = ["--output", str(output), "--examples", "8", "--phases", "examples,fuzzing"]
    done = CliRunner().invoke(command, options)
    assert done.exit_code == 0, done.output
    found = json.loads(output.read_text())
    assert found["requests"] >= 80
    assert found["server_errors"] == found["failures"] == 0
    assert "0 answers with status 500" in output.with_suffix(".md").read_text()
