"""The page: one document whose script and style are its own, and a policy that allows no others."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Response

FOLDER = Path(__file__).parent / "page_files"

router = APIRouter()


@router.head("/", include_in_schema=False)
@router.get("/", response_class=Response, include_in_schema=False)
async def page() -> Response:
    """Forecast a CSV in the browser."""
    html, policy = document()
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }
    return Response(html, media_type="text/html; charset=utf-8", headers=headers)


@cache
def document() -> tuple[str, str]:
    """The page, and the policy that lets a browser run its script and style, and nothing else."""
    html, style, *scripts = (
        (FOLDER / name).read_text(encoding="utf-8")
        for name in ("page.html", "page.css", "chart.js", "page.js")
    )
    script = "\n".join(['"use strict";', *scripts])
    html = html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return html, "; ".join(f"{name} {value}" for name, value in policy.items())


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
