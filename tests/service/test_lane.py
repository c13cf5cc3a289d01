"""Lanes: one call after the other, and none that has waited too long."""

from __future__ import annotations

import asyncio
import threading

import pytest

from laglite.service.lane import Lane
from laglite.service.problems import OVERLOADED, RefusalError


def test_calls_run_one_after_the_other_in_their_order() -> None:
    lane, seen = Lane("test", 600.0), list[tuple[int, int]]()

    async def several() -> list[int]:
        def call(number: int) -> int:
            seen.append((number, threading.get_ident()))
            return number

        return await asyncio.gather(*(lane.run(lambda n=n: call(n)) for n in range(5)))  # type: ignore[misc]

    assert asyncio.run(several()) == [0, 1, 2, 3, 4]
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in seen}) == 1
    lane.close()


def test_a_call_that_has_waited_too_long_is_refused_and_not_made() -> None:
    lane, made = Lane("test", -1.0), list[int]()
    with pytest.raises(RefusalError, match="without being computed") as caught:
        asyncio.run(lane.run(lambda: made.append(1)))
    assert caught.value.kind is OVERLOADED
    assert caught.value.headers == {"Retry-After": "2"}
    assert made == []
    lane.close()
