"""Where the stand-ins cannot be compiled, one sentence says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cuda_stand_ins import building
from tests.cuda_stand_ins.building import CannotBuildError, build_stand_ins


@pytest.mark.parametrize("tool", ["gcc", "nm"])
def test_a_tool_that_is_not_there_is_named(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == tool else name)
    with pytest.raises(CannotBuildError, match=f"^{tool} is not installed"):
        build_stand_ins(tmp_path)


def test_without_the_wheel_the_rule_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "find_spec", lambda _: None)
    with pytest.raises(CannotBuildError, match="^onnxruntime-gpu is not installed.*make stand-ins"):
        build_stand_ins(tmp_path)


def test_a_wheel_for_another_cuda_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_undefined_symbols", lambda _: {"libcudart.so.12": []})
    with pytest.raises(CannotBuildError, match="is not for CUDA 13"):
        build_stand_ins(tmp_path)


def test_what_gcc_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "HEADERS", tmp_path)
    with pytest.raises(CannotBuildError, match=r"(?s)gcc failed:\n.*cuda_runtime_api\.h"):
        build_stand_ins(tmp_path)
