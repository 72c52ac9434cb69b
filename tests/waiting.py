"""Waiting for a condition that nobody announces, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(
    condition: Callable[[], T | Awaitable[T]], seconds: float = 30.0, *, every: float = 0.01
) -> T:
    """What `condition` gives, plain or awaitable, as soon as it is true; fails after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        result = await found if isinstance(found, Awaitable) else found
        if result:
            return result
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {condition}")
        await asyncio.sleep(every)
