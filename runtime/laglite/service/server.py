"""The server: a socket, uvicorn on it, and an end that loses no accepted request."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from laglite.errors import InputError
from laglite.service.app import Service

KEEP_ALIVE_SECONDS = 75  # longer than proxies keep idle connections, which are theirs to close


def listen(host: str, port: int) -> socket.socket:
    """A socket that connections can already queue at. Raises InputError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise InputError(
            f"cannot listen at {host}, port {port} ({error.strerror or error}); choose others "
            "with --host and --port"
        ) from error


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def address(bound: socket.socket) -> str:
    """The URL of the socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server(app: Service) -> uvicorn.Server:
    """A server that answers what it has accepted before it ends."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
    )


def run(app: Service, bound: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; then no new connection is taken, and what came is answered."""
    with _quiet_end():
        server(app).run(sockets=[bound])


@contextmanager
def _quiet_end() -> Iterator[None]:
    """The server raises the signal again once it has ended; nothing is left to be done then."""

    def nothing(_: int, __: Any) -> None:
        pass

    before: dict[signal.Signals, Callable[..., Any] | int | None] = {
        one: signal.signal(one, nothing) for one in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
