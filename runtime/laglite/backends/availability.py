"""Whether a backend can run on this machine, and if not, why and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from laglite.errors import BackendError

TENSORRT_MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")  # the first that is there


@dataclass(frozen=True)
class Availability:
    """What can be told of a backend without a model.

    `version` names the libraries it runs on, and the GPU if it needs one; empty where they are
    not installed. `problem` is why it cannot run, in one sentence without its full stop, and
    `remedy` what to do about it; both are empty if it can.
    """

    backend: str
    version: str = ""
    problem: str = ""
    remedy: str = ""

    @property
    def available(self) -> bool:
        return not self.problem

    def error(self) -> BackendError:
        """The error of a backend that was asked for by name and cannot run."""
        return BackendError(f"backend {self.backend!r} cannot run: {self.problem}; {self.remedy}")
