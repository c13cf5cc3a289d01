"""What `pip install laglite` brings: the wheel and the source distribution."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

import pytest

from laglite.version import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = ("laglite", "laglite_export", "laglite_train")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def _metadata(wheel: zipfile.ZipFile) -> Message:
    return HeaderParser().parsestr(wheel.read(f"laglite-{__version__}.dist-info/METADATA").decode())


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {*PACKAGES, f"laglite-{__version__}.dist-info"}


def test_the_wheel_holds_every_file_of_the_packages_that_git_tracks(wheel: zipfile.ZipFile) -> None:
    folders = {"laglite": "runtime", "laglite_export": "export", "laglite_train": "train"}
    listed = subprocess.run(
        ["git", "ls-files", *folders.values()], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    tracked = {PurePosixPath(name).relative_to(name.split("/")[0]).as_posix() for name in listed}
    held = {name for name in wheel.namelist() if not name.startswith("laglite-")}
    assert held == tracked


def test_the_wheel_says_that_it_is_typed_and_brings_models_and_license(
    wheel: zipfile.ZipFile,
) -> None:
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {f"laglite/models/{name}/manifest.json" for name in ("base", "nano")} <= names
    assert f"laglite-{__version__}.dist-info/licenses/LICENSE" in names
    assert sum(info.compress_size for info in wheel.infolist()) < 20e6


def test_the_base_install_needs_numpy_click_and_rich_alone(wheel: zipfile.ZipFile) -> None:
    required = _metadata(wheel).get_all("Requires-Dist") or []
    always = {text.split(">")[0] for text in required if "extra ==" not in text}
    assert always == {"numpy", "click", "rich"}


def test_metadata_name_version_python_and_license(wheel: zipfile.ZipFile) -> None:
    metadata = _metadata(wheel)
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_payload()  # the README


def test_the_source_distribution_builds_the_same_wheel(
    built: Path, wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert not [path for path in folder.rglob("*") if path.name == "__pycache__"]
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (again,) = (folder / "dist").glob("*.whl")
    assert set(zipfile.ZipFile(again).namelist()) == set(wheel.namelist())
