"""Waiting for a condition that nobody announces, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

# A disk that stalls, or a machine that others use too, has made tests wait half a minute for what is usually
# there at once; nobody waits so long but for what never comes.
LONG_S = 120.0


class Overdue(AssertionError):
    """What was waited for did not come in its time."""


async def until(
    condition: Callable[[], T | Awaitable[T]], seconds: float = LONG_S, *, every: float = 0.01
) -> T:
    """What `condition` gives, plain or awaitable, as soon as it is true; raises `Overdue` after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        result = await found if isinstance(found, Awaitable) else found
        if result:
            return result
        if asyncio.get_running_loop().time() > deadline:
            raise Overdue(f"not within {seconds:g} s: {condition}")
        await asyncio.sleep(every)
