"""The folder of what laglite keeps for a user."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from laglite.backends.engine_files import were_compiled
from laglite.bundle import locate, open_bundle
from laglite.errors import InputError
from laglite.user_cache import user_cache


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom neither the environment nor the system knows, as `docker run --user 4711`."""

    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "LAGLITE_ENGINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_the_cache_is_in_the_home_directory_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/someone")
    assert user_cache("engines") == Path("/var/cache/someone/laglite/engines")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache("engines") == Path("/home/someone/.cache/laglite/engines")


@pytest.mark.usefixtures("nobody")
def test_a_user_without_a_home_directory_is_told_what_to_set() -> None:
    with pytest.raises(InputError, match="no home directory .* set XDG_CACHE_HOME to a folder"):
        user_cache("engines")


@pytest.mark.usefixtures("nobody")
def test_without_a_home_directory_no_engines_were_compiled() -> None:
    assert not were_compiled(open_bundle(locate("nano")), "fp32")
