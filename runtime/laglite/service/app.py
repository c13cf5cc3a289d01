"""The application: endpoints behind the gate, and every error in one shape."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Scope

from laglite.errors import BackendError, LagliteError
from laglite.forecaster import Forecaster
from laglite.service import (
    forecast_endpoints,
    operations,
    page,
    stream_endpoints,
    table_endpoint,
)
from laglite.service.gate import Gate
from laglite.service.problems import (
    BAD_REQUEST,
    INTERNAL,
    INVALID,
    INVALID_JSON,
    METHOD,
    MOST_FAULTS,
    OF_STATUS,
    Fault,
    Problem,
    RefusalError,
)
from laglite.service.settings import Limits
from laglite.service.state import ServiceState
from laglite.version import __version__

MOST_NAMED = 200  # characters of a field's path, which may be the client's
ROUTERS = tuple(
    module.router
    for module in (forecast_endpoints, stream_endpoints, table_endpoint, operations, page)
)
DESCRIPTION = (
    "Probabilistic forecasts of series, streams and tables. Errors are problem+json (RFC 9457); "
    "GET /models lists the models and the limits."
)


class Service(FastAPI):
    """The service as an ASGI application."""

    def openapi(self) -> dict[str, Any]:
        """The description of the endpoints, with the shape of errors and the token."""
        if self.openapi_schema is None:
            schema = super().openapi()
            schemas = schema["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):  # no answer has their shape
                schemas.pop(name, None)
            for operation in (one for path in schema["paths"].values() for one in path.values()):
                answers = operation["responses"]
                if "HTTPValidationError" in str(answers.get("422")):  # any text is a stream's id
                    del answers["422"]
            reference = "#/components/schemas/{model}"
            problem = Problem.model_json_schema(ref_template=reference)
            schemas |= problem.pop("$defs") | {"Problem": problem}
            if self.state.token is not None:
                schema["components"]["securitySchemes"] = {
                    "token": {"type": "http", "scheme": "bearer"}
                }
                schema["security"] = [{"token": []}]
                for path in ("/health", "/health/live"):
                    schema["paths"][path]["get"]["security"] = []
        return self.openapi_schema or {}

    def fitting(self, scope: Scope) -> list[Route]:
        """The endpoints of a request's path, whatever their methods."""
        routes = [*self.routes, *(one for router in ROUTERS for one in router.routes)]
        return [
            one
            for one in routes
            if isinstance(one, Route) and one.matches(scope)[0] is not Match.NONE
        ]


def create_app(
    forecasters: Mapping[str, Forecaster],
    *,
    limits: Limits | None = None,
    token: str | None = None,
    precision: str = "fp32",
) -> Service:
    """The application that serves these models, the first by default. Raises InputError."""
    state = ServiceState(forecasters, precision, limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with state.running():
            yield

    app = Service(
        title="laglite",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # to an address that the client's Host header would name
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.state.service, app.state.token = state, token
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(
        Gate, limits=state.limits, admission=state.admission, metrics=state.metrics, token=token
    )
    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(LagliteError, _not_forecast)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _not_http)
    return app


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return error.response()


async def _not_forecast(_: Request, error: Exception) -> Response:
    """What the library refuses is the client's, but for a backend that fails."""
    kind = INTERNAL if isinstance(error, BackendError) else INVALID
    return RefusalError(kind, str(error)).response()


async def _not_valid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        reason = found[0].get("ctx", {}).get("error", found[0]["msg"])
        return RefusalError(INVALID_JSON, f"not valid JSON: {reason}").response()
    faults = [Fault(field=_path(one["loc"]), detail=_reason(one)) for one in found[:MOST_FAULTS]]
    first = faults[0]
    return RefusalError(
        INVALID, f"{first.field}: {first.detail}", field=first.field, errors=faults
    ).response()


def _path(location: tuple[str | int, ...]) -> str:
    """`series.0.values.3` of a fault in the body, a parameter's name of any other."""
    found = ".".join(map(str, location[1:])) or str(location[0])
    return found if len(found) <= MOST_NAMED else f"{found[:MOST_NAMED]}..."


def _reason(fault: Mapping[str, Any]) -> str:
    """What is wrong, in the library's own words where they are its own."""
    error = fault.get("ctx", {}).get("error")
    return str(error) if isinstance(error, ValueError) else str(fault["msg"])


async def _not_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = OF_STATUS.get(error.status_code, BAD_REQUEST)
    headers = dict(error.headers or {})
    if kind is METHOD:  # the router names the methods of the first endpoint alone
        fitting = request.app.fitting(request.scope)
        headers["Allow"] = ", ".join(sorted({name for one in fitting for name in one.methods}))
    return RefusalError(kind, str(error.detail), headers=headers).response()
