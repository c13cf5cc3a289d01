"""Bodies of JSON: read strictly, whatever is wrong with them said as the same kind of error."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from laglite.reading.json_lines import once_each


def parse(body: bytes) -> Any:
    """The value of a body. Raises JSONDecodeError that says what is wrong with it."""
    try:
        return json.loads(body, object_pairs_hook=once_each)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        reason = "nested too deeply"
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    except ValueError as error:  # a key twice, a number of too many digits
        reason = str(error)
    raise json.JSONDecodeError(reason, "", 0)


class _JsonRequest(Request):
    async def json(self) -> Any:
        return parse(await self.body())


class JsonRoute(APIRoute):
    """A route whose JSON body is read by `parse`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of requests."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return strict
