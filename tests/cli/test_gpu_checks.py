"""`gpu_checks.sh` with a stand-in for Python: what is run, in which order, and what failures do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_checks.sh"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A `python` that tells its arguments and fails where one is of $FAILING; an `nvidia-smi`."""
    folder = tmp_path / "tools"
    folder.mkdir()
    fails = 'case "$* " in *"$FAILING "*) exit 3;; esac\n'
    for name in ("python", "nvidia-smi"):
        tool = folder / name
        tool.write_text(f'#!/bin/sh\necho "$LAGLITE_GPU:$*"\n{fails}')
        tool.chmod(0o755)
    return folder


def checks(tools: Path, *arguments: str, **given: str) -> tuple[int, dict[str, str], Path]:
    """Exit status, and what the summary says by step, and the output."""
    output = tools.parent / "output"
    environment = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": str(tools / "python"),
        "FAILING": "nothing", **given,
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(SCRIPT), str(output), *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr
    lines = (output / "summary.txt").read_text().splitlines()
    return (
        done.returncode,
        {name: rest for name, _, rest in (x.partition(" ") for x in lines)},
        output,
    )


def test_cuda_is_proven_before_the_benchmark_takes_the_rest_of_the_time(tools: Path) -> None:
    status, summary, output = checks(tools)
    assert status == 0
    assert list(summary) == [
        "nvidia-smi", "packages", "info", "verify-cuda-fp32", "verify-cuda-fp16", "tests-cuda",
        "benchmark",
    ]  # fmt: skip
    assert all("exit   0" in line for line in summary.values())
    assert "--backend cuda --precision fp16" in (output / "verify-cuda-fp16.log").read_text()
    assert (output / "tests-cuda.log").read_text().startswith("cuda:-m pytest -m gpu")
    words = (output / "benchmark.log").read_text().split()
    assert 500 < int(words[words.index("--budget") + 1]) <= 525
    assert "--model" not in words


def test_a_step_that_fails_keeps_none_from_running_and_is_told(tools: Path) -> None:
    status, summary, _ = checks(tools, FAILING="--precision fp32")
    assert status == 1
    assert "exit   3" in summary.pop("verify-cuda-fp32")
    assert all("exit   0" in line for line in summary.values())


def test_what_has_no_time_left_is_told(tools: Path) -> None:
    status, summary, output = checks(tools, LIMIT="9")
    assert status == 1
    assert {line.strip() for line in summary.values()} == {"no time left"}
    assert not (output / "benchmark.log").exists()


def test_a_step_past_its_limit_is_ended_and_the_next_runs(tools: Path) -> None:
    slow = 'case "$*" in *benchmarks/gpu.py*) exec sleep 60;; esac\n'
    (tools / "python").write_text(f'#!/bin/sh\necho "$*"\n{slow}')
    status, summary, _ = checks(tools, BUDGET="-44")
    assert status == 1
    assert "no time left" in summary["benchmark"]
    status, summary, _ = checks(tools, BUDGET="-35", PARTS="benchmark tensorrt")
    assert "exit 124" in summary["benchmark"]
    assert "exit   0" in summary["tests-tensorrt"]


def test_tensorrt_is_proven_where_it_was_asked_for(tools: Path) -> None:
    status, summary, output = checks(tools, PARTS="tensorrt", REQUIRE="tensorrt")
    assert status == 0
    assert list(summary)[3:] == [
        f"{what}-{precision}"
        for precision in ("fp32", "fp16")
        for what in ("compile", "verify-tensorrt", "verify-onnxruntime-tensorrt")
    ] + ["tests-tensorrt"]
    log = (output / "tests-tensorrt.log").read_text()
    assert log.startswith("tensorrt:-m pytest")
    assert "-k tensorrt" in log


def test_without_pytorch_the_benchmark_runs_the_shipped_model(tools: Path) -> None:
    missing = 'case "$*" in *find_spec*torch*) exit 1;; esac\n'
    (tools / "python").write_text(f'#!/bin/sh\necho "$*"\n{missing}')
    _, _, output = checks(tools, PARTS="benchmark")
    assert "--model base" in (output / "benchmark.log").read_text()


def test_the_model_and_where_python_lies_may_be_given(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tools.parent)
    status, _, output = checks(tools, PARTS="benchmark", MODEL="a model", PYTHON="tools/python")
    assert status == 0
    assert "--model a model --folder" in (output / "benchmark.log").read_text()


def test_wheels_that_cannot_be_installed_keep_none_from_running(tools: Path) -> None:
    status, summary, output = checks(tools, str(tools), FAILING="onnxruntime-gpu")
    assert {path.suffix for path in output.iterdir()} == {".log", ".txt"}, "nothing large"
    assert status == 1
    assert "exit   3" in summary["install-onnxruntime-gpu"]
    assert "exit   0" in summary["install-torch"]
    assert "exit   0" in summary["benchmark"]
