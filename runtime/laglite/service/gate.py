"""The gate: what every request passes before it is looked at, as ASGI.

It counts, asks for the token, admits so many requests at a time, and reads bodies within their
limits, so that no endpoint sees half a body or one that is too large. A request whose client has
gone is given up. What fails unforeseen is logged, and answered as every other problem.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laglite.service.metrics import Metrics
from laglite.service.problems import (
    INTERNAL,
    TOO_LARGE,
    TOO_SLOW,
    UNAUTHORIZED,
    RefusalError,
    overloaded,
)
from laglite.service.settings import Limits

LOG = logging.getLogger("laglite.service")
OPEN_PATHS = frozenset({"/", "/health", "/health/live"})  # the page holds no data
UNCOUNTED_PATHS = OPEN_PATHS | {"/metrics", "/models", "/openapi.json"}  # answered under any load


class ClientGoneError(Exception):
    """The connection ended before the answer began."""


@dataclass
class Admission:
    """How many requests are read, wait or are computed, and the bytes of their bodies."""

    most: int
    most_bytes: int
    admitted: int = 0
    held_bytes: int = 0

    @property
    def full(self) -> bool:
        return self.admitted >= self.most


@dataclass
class Room:
    """What one request takes of the admitted bytes: those announced, else those that came."""

    admission: Admission
    size: int = 0

    def grow(self, size: int) -> None:
        """Take so many in all. Raises RefusalError if not so many are left."""
        more = max(0, size - self.size)
        if self.admission.held_bytes + more > self.admission.most_bytes:
            raise overloaded(
                f"this body and those that are waiting have more than "
                f"{self.admission.most_bytes:,} bytes, as many as this service holds"
            )
        self.admission.held_bytes += more
        self.size += more

    def leave(self) -> None:
        """Give back what was taken."""
        self.admission.held_bytes -= self.size


class Gate:
    """ASGI middleware around the service."""

    def __init__(
        self, app: ASGIApp, limits: Limits, admission: Admission, metrics: Metrics,
        token: str | None,
    ) -> None:  # fmt: skip
        self._app, self._limits, self._admission, self._metrics = app, limits, admission, metrics
        self._token = None if token is None else _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._pass(scope, receive, watched)
        except RefusalError as refusal:
            await refusal.response()(scope, receive, watched)
        except ClientGoneError:
            status = 499
        except asyncio.CancelledError:  # the service ends early
            if status:
                raise
            await overloaded("the service ends now").response()(scope, receive, watched)
        except Exception:
            LOG.exception("%r %r failed", scope["method"], scope["path"])
            if status:
                raise  # the answer has begun: only the connection can tell
            fault = RefusalError(INTERNAL, "a fault of the service; its log says more")
            await fault.response()(scope, receive, watched)
        finally:
            fitting = scope["app"].fitting(scope)  # refused or not
            endpoint = fitting[0].path if fitting else "other"
            self._metrics.requests.labels(endpoint, _method(scope), str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - began)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, headers = scope["path"], Headers(scope=scope)
        if path not in OPEN_PATHS:
            self._check_token(headers)
        if path in UNCOUNTED_PATHS:
            await self._app(scope, receive, send)
            return
        if self._admission.full:
            raise overloaded(
                f"{self._admission.most} requests are waiting, as many as this service admits"
            )
        self._admission.admitted += 1
        room = Room(self._admission)
        try:
            body = await self._read(room, headers, receive)
            await self._while_there(scope, body, receive, send)
        finally:
            self._admission.admitted -= 1
            room.leave()

    async def _while_there(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the endpoint. Raises ClientGoneError, and gives it up, if the client goes first."""
        began = False

        async def noted(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        work = asyncio.ensure_future(self._app(scope, _given(body), noted))
        gone = asyncio.ensure_future(_end(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if work.done() or began:
                await work
                return
            work.cancel()
            await asyncio.wait((work,))
            raise ClientGoneError
        finally:
            work.cancel()
            gone.cancel()

    def _check_token(self, headers: Headers) -> None:
        if self._token is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(_digest(given.strip().encode("latin-1")), self._token)
        if scheme.lower() != "bearer" or not same:
            raise RefusalError(
                UNAUTHORIZED,
                "send the header Authorization: Bearer TOKEN with this service's token",
                headers={"WWW-Authenticate": 'Bearer realm="laglite"'},
            )

    async def _read(self, room: Room, headers: Headers, receive: Receive) -> bytes:
        """The whole body. Raises RefusalError for one that is too large or too slow."""
        announced = headers.get("content-length", "")
        if announced.isdecimal():
            self._take(room, int(announced))
        seconds = self._limits.body_seconds
        try:
            return await asyncio.wait_for(self._collect(room, receive), seconds)
        except asyncio.TimeoutError:
            raise RefusalError(
                TOO_SLOW, f"the body did not arrive within {seconds:g} s", limit=seconds,
                headers={"Connection": "close"},
            ) from None  # fmt: skip

    async def _collect(self, room: Room, receive: Receive) -> bytes:
        pieces, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            piece = message.get("body", b"")
            size += len(piece)
            self._take(room, size)
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)

    def _take(self, room: Room, size: int) -> None:
        """Room for a body of this size. Raises RefusalError if that is too much."""
        limit = self._limits.body
        if size > limit:
            raise RefusalError(
                TOO_LARGE, f"the body is longer than {limit:,} bytes, this service's limit: send "
                "fewer series or values at a time", limit=limit, headers={"Connection": "close"},
            )  # fmt: skip
        room.grow(size)


def _given(body: bytes) -> Receive:
    """What gives the whole body."""

    async def give() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return give


async def _end(receive: Receive) -> None:
    """Wait for the end of the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _method(scope: Scope) -> str:
    """The method, for a label: clients may send any word."""
    known = ("GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
