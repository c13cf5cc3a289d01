"""What those who run the service ask: `/health` and `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from laglite.service.metrics import CONTENT_TYPE
from laglite.service.problems import UNAUTHORIZED, documented
from laglite.service.schemas import Health
from laglite.service.state import State

router = APIRouter(tags=["service"])


@router.head("/health", include_in_schema=False)
@router.get(
    "/health", responses={503: {"model": Health, "description": "No request is admitted now."}}
)
async def health(state: State, response: Response) -> Health:
    """Whether requests are admitted now; never asks for the token."""
    if state.admission.full:
        response.status_code = 503
        return Health(live=True, ready=False, detail=f"{state.admission.most} requests wait")
    return Health(live=True, ready=True, detail="ready")


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> Health:
    """Whether the process answers; never asks for the token."""
    return Health(live=True, ready=True, detail="live")


@router.get(
    "/metrics",
    response_class=Response,
    responses=documented(UNAUTHORIZED)
    | {200: {"description": "Prometheus' text format.",
             "content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def metrics(state: State) -> Response:
    """Counters for Prometheus."""
    return Response(state.metrics.text(), media_type=CONTENT_TYPE)
