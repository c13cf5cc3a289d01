"""The server: a socket, uvicorn on it, and an end that loses no accepted request."""

from __future__ import annotations

import asyncio
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
UNREAD_SECONDS = 20.0  # between looks for clients that take nothing of their answers


def listen(host: str, port: int) -> socket.socket:
    """A socket that connections can already queue at. Raises InputError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, TypeError) as error:  # TypeError: no host can be called so
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen at {host}, port {port} ({reason}); choose others with --host and --port"
        ) from error


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def address(bound: socket.socket) -> str:
    """The URL of the socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """A server that does not wait for clients that read nothing, neither to go on nor to end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self._cutting = asyncio.create_task(self._cut_off())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what has been accepted; refuse it where a second SIGINT has come."""
        await super().shutdown(sockets)
        if self.force_exit:
            waiting = [one for one in self.server_state.tasks if one.cancel()]
            await asyncio.gather(*waiting, return_exceptions=True)
            await self.lifespan.shutdown()

    async def _cut_off(self) -> None:
        """Let connections go that took nothing of what was written from one look to the next."""
        before: dict[Any, int] = {}
        while True:
            await asyncio.sleep(UNREAD_SECONDS)
            unread = {
                one: one.transport.get_write_buffer_size() for one in self.server_state.connections
            }
            for one, size in unread.items():
                if size and before.get(one) == size:
                    one.transport.abort()
            before = unread


def server(app: Service) -> Server:
    """A server that answers what it has accepted before it ends."""
    return Server(
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


def run(app: Service, bound: socket.socket) -> bool:
    """Serve until SIGTERM or SIGINT; then no new connection is taken, and what came is answered.

    False if a SIGINT after that ended it early, what was not answered yet refused.
    """
    serving = server(app)
    with _quiet_end():
        serving.run(sockets=[bound])
    return not serving.force_exit


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
