"""The exceptions laglite raises: each names what was wrong, where, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LagliteError(Exception):
    """Base of every error that laglite raises on purpose."""


class InputError(LagliteError, ValueError):
    """Values, timestamps or arguments that cannot be forecast as given."""


class FrequencyError(InputError):
    """A frequency alias that is not known, or that the timestamps contradict."""


class SpecError(LagliteError, ValueError):
    """A model specification with impossible or unknown settings."""


class BundleError(LagliteError):
    """A model bundle that is missing, altered, unsafe, or from a newer laglite."""


class CheckpointError(LagliteError):
    """A training checkpoint that cannot be read safely, or holds another architecture."""


class StateError(LagliteError):
    """A saved stream that is damaged, from a newer laglite, or of another model."""


class BrokerError(LagliteError):
    """An MQTT broker that refuses what the bridge needs."""


class BackendError(LagliteError):
    """A backend that is not installed, or cannot run here."""


class DeviceMemoryError(BackendError):
    """A device without room for what was asked for."""


class CapacityError(BackendError):
    """Shapes beyond what an engine was compiled for."""


class MissingDependencyError(LagliteError, ImportError):
    """An optional dependency is needed; the message names the pip command that adds it."""


def missing(module: str, extra: str, purpose: str) -> MissingDependencyError:
    """The error for an optional `module` that `purpose` needs and `extra` provides."""
    return MissingDependencyError(
        f"{purpose} needs {module}, which is not installed: pip install 'laglite[{extra}]'"
    )


@contextmanager
def naming(series: str | None) -> Iterator[None]:
    """Put a series' name before what is wrong with it; None for a series without one."""
    try:
        yield
    except LagliteError as error:
        if series is None or isinstance(error, BackendError):  # which is no fault of the series
            raise
        raise type(error)(f"series {series}: {error}") from error


class LagliteWarning(UserWarning):
    """Something a forecast can live with, but whoever asked for it should know."""
