"""Refusals: every error that a client sees has one shape, that of RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:laglite:problem:"
RETRY_SECONDS = 2
MOST_FAULTS = 10  # of a body that are listed


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its name, HTTP status, and what it means whatever the request."""

    name: str
    status: int
    title: str


BAD_REQUEST = Kind("bad-request", 400, "The request cannot be understood")
INVALID_JSON = Kind("invalid-json", 400, "The body is not valid JSON")
UNAUTHORIZED = Kind("unauthorized", 401, "A bearer token is needed")
NOT_FOUND = Kind("not-found", 404, "There is no such thing here")
METHOD = Kind("method-not-allowed", 405, "The method is not allowed here")
TOO_SLOW = Kind("body-too-slow", 408, "The body did not arrive in time")
TOO_LARGE = Kind("too-large", 413, "The body is too large")
MEDIA = Kind("unsupported-media-type", 415, "The body has another content type than needed")
INVALID = Kind("invalid-input", 422, "The input cannot be forecast as given")
LIMIT = Kind("over-limit", 422, "The request asks for more than a limit allows")
STREAMS_FULL = Kind("too-many-streams", 429, "No further stream can be opened now")
INTERNAL = Kind("internal", 500, "The service failed")
OVERLOADED = Kind("overloaded", 503, "The service has too much to do")

KINDS = (
    BAD_REQUEST, INVALID_JSON, UNAUTHORIZED, NOT_FOUND, METHOD, TOO_SLOW, TOO_LARGE, MEDIA, INVALID,
    LIMIT, STREAMS_FULL, INTERNAL, OVERLOADED,
)  # fmt: skip
JSON_PROBLEMS = (  # of endpoints that take JSON
    INVALID_JSON, UNAUTHORIZED, TOO_SLOW, TOO_LARGE, MEDIA, INVALID, LIMIT, OVERLOADED,
)  # fmt: skip
OF_STATUS = {kind.status: kind for kind in (BAD_REQUEST, NOT_FOUND, METHOD, TOO_LARGE, MEDIA)}


class Fault(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Path in the body, or name of a parameter.")
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457). `type` tells the kind; `detail` is for people."""

    type: str = Field(description=f"`{TYPE_PREFIX}` and the kind's name; see docs/service.md.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong here, and what to do next.")
    field: str | None = Field(None, description="Where, such as `series.0.values.3`, if known.")
    limit: float | None = Field(None, description="The limit that was passed, if one was.")
    errors: list[Fault] = Field(
        default_factory=list, description=f"The first {MOST_FAULTS} faults of a body's fields."
    )


class RefusalError(Exception):
    """A request that is not fulfilled, and why. `headers` go with the answer."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        field: str | None = None,
        limit: float | None = None,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.headers = dict(headers or {})
        self.problem = Problem(
            type=TYPE_PREFIX + kind.name,
            title=kind.title,
            status=kind.status,
            detail=detail,
            field=field,
            limit=limit,
            errors=list(errors),
        )

    def response(self) -> Response:
        """The answer to the client."""
        return Response(
            self.problem.model_dump_json(),
            status_code=self.kind.status,
            media_type=MEDIA_TYPE,
            headers=self.headers,
        )


def overloaded(detail: str) -> RefusalError:
    """The refusal of a request that may succeed later."""
    return RefusalError(OVERLOADED, detail, headers={"Retry-After": str(RETRY_SECONDS)})


def check_limit(field: str, amount: float, limit: float, what: str) -> None:
    """Raises RefusalError that says the limit if `amount` is beyond it."""
    if amount > limit:
        raise RefusalError(
            LIMIT, f"{field}: {amount:,} {what}; this service allows {limit:,}",
            field=field, limit=limit,
        )  # fmt: skip


def documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of these kinds."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        example = {"type": TYPE_PREFIX + kind.name, "title": kind.title, "status": kind.status}
        response = found.setdefault(kind.status, {"description": kind.title, "content": {}})
        content = response["content"].setdefault(
            MEDIA_TYPE, {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
        )
        content["examples"][kind.name] = {"value": example | {"detail": f"{kind.title}: ..."}}
        if kind in (OVERLOADED, STREAMS_FULL):
            seconds = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            response["headers"] = {"Retry-After": seconds}
    return found
