"""Units and images: every command they run exists, with those options and those extras."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from laglite.cli import main

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SERVE, STREAM = DEPLOY / "laglite-serve.service", DEPLOY / "laglite-stream@.service"
DOCKERFILES = [DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.jetson"]
# What systemd and an environment file put into the commands.
VARIABLES = {
    "${CREDENTIALS_DIRECTORY}": "/run/credentials/laglite",
    "${STATE_DIRECTORY}": "/var/lib/laglite/meter",
    "${BROKER}": "broker:1883",
    "${TOPIC}": "site/meter",
    "${FREQ}": "min",
    "$OPTIONS": "--quantiles 0.1,0.9",
}


def settings(unit: Path) -> dict[str, str]:
    """The unit's keys, of which the last value counts here."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def parse(arguments: list[str]) -> click.Context:
    """Check a command line as `laglite` would, without running it."""
    name, *options = arguments
    command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
    assert command is not None, f"laglite has no command {name!r}"
    context: click.Context = command.make_context(name, options)
    return context


@pytest.mark.parametrize("unit", [SERVE, STREAM], ids=lambda unit: unit.name)
def test_a_units_command_has_the_options_that_it_uses(unit: Path) -> None:
    line = settings(unit)["ExecStart"]
    for variable, value in VARIABLES.items():
        line = line.replace(variable, value)
    assert "$" not in line
    program, *arguments = shlex.split(line)
    assert program == "/opt/laglite/bin/laglite"
    parse(arguments)


def test_the_stream_keeps_its_state_where_systemd_keeps_it() -> None:
    unit = settings(STREAM)
    assert unit["StateDirectory"] == "laglite/%i"  # its own: each instance is another user
    assert "--state ${STATE_DIRECTORY}/" in unit["ExecStart"]


def test_the_drop_in_of_gpus_changes_what_the_unit_says() -> None:
    changed = settings(DEPLOY / "laglite-serve-gpu.conf")
    unit = settings(SERVE)
    assert set(changed) - set(unit) == {"SupplementaryGroups", "ExecStartPre"}
    assert all(unit.get(key) != value for key, value in changed.items())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize(
    ("unit", "drop_in"),
    [(SERVE, None), (STREAM, None), (SERVE, DEPLOY / "laglite-serve-gpu.conf")],
    ids=["serve", "stream", "serve on a GPU"],
)
def test_systemd_accepts_the_unit(unit: Path, drop_in: Path | None, tmp_path: Path) -> None:
    installed = tmp_path / unit.name.replace("@", "@meter")
    text = unit.read_text(encoding="utf-8").replace("/opt/laglite/bin/laglite", sys.executable)
    installed.write_text(text, encoding="utf-8")
    if drop_in is not None:
        folder = tmp_path / f"{installed.name}.d"
        folder.mkdir()
        shutil.copy(drop_in, folder)
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(installed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_installs_extras_that_there_are(dockerfile: Path) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))
    used = re.findall(r"(?:\.whl\)|'\.)\[([\w,-]+)\]", dockerfile.read_text(encoding="utf-8"))
    assert used
    assert set(",".join(used).split(",")) <= extras


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_a_command_that_there_is(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["laglite"]' in text
    parse(json.loads(command))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_a_container_with_much_to_do_is_not_called_unhealthy(dockerfile: Path) -> None:
    """`/health` says 503 while no request is admitted, which is no reason to restart."""
    text = dockerfile.read_text(encoding="utf-8")
    asked = re.findall(r"http://127\.0\.0\.1:8000(/[\w/]+)", text)
    assert asked == ["/health/live"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_what_the_build_context_lets_through(dockerfile: Path) -> None:
    let_through = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied: set[str] = set()
    for line in re.findall(r"^COPY (.*)$", dockerfile.read_text(encoding="utf-8"), re.MULTILINE):
        copied.update(line.split()[:-1])
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)
