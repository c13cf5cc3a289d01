"""The accuracy benchmark as a command, on data sets small enough for a test."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HAS_STATSFORECAST = importlib.util.find_spec("statsforecast") is not None


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> click.Command:
    monkeypatch.syspath_prepend(BENCHMARKS)
    main: click.Command = importlib.import_module("accuracy").main
    return main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    days = np.datetime64("2024-01-01") + np.arange(40)
    lines = [f"{day},{step % 7 + step % 3}" for step, day in enumerate(days)]
    (tmp_path / "daily.csv").write_text("\n".join(["ds,y", *lines]))
    (tmp_path / "manifest.csv").write_text("dataset,freq,horizon,seasonality\ndaily,D,5,7\n")
    return tmp_path


def test_one_command_gives_the_table_and_a_bundles_evaluation(
    command: click.Command, folder: Path, tiny_bundle: Path
) -> None:
    output = folder / "accuracy.json"
    arguments = [str(folder), "--model", str(tiny_bundle), "--samples", "10", "--context", "8,16"]
    result = CliRunner().invoke(command, [*arguments, "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "geometric mean" in result.stdout
    report = json.loads(output.read_text())
    assert report["model"] == "lag_llama_tiny, context 8"
    assert "lag_llama_tiny, context 16" in report["methods"]
    np.testing.assert_allclose(report["relative_wql"], report["data_sets"]["daily"]["relative"])


@pytest.mark.skipif(not HAS_STATSFORECAST, reason="statsforecast is not installed")
def test_autoets_is_measured_on_the_same_windows(
    command: click.Command, folder: Path, tiny_bundle: Path
) -> None:
    output = folder / "accuracy.json"
    arguments = [str(folder), "--model", str(tiny_bundle), "--samples", "10", "--peer", "autoets"]
    result = CliRunner().invoke(command, [*arguments, "--output", str(output)])
    assert result.exit_code == 0, result.output
    methods = json.loads(output.read_text())["data_sets"]["daily"]["methods"]
    assert methods["AutoETS"]["values"] == 5
    assert 0 < methods["AutoETS"]["relative"] < 2


@pytest.mark.skipif(HAS_STATSFORECAST, reason="statsforecast is installed")
def test_without_statsforecast_the_peer_names_the_pip_command(
    command: click.Command, folder: Path, tiny_bundle: Path
) -> None:
    arguments = [str(folder), "--model", str(tiny_bundle), "--peer", "autoets"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1
    assert "pip install statsforecast" in result.stderr
