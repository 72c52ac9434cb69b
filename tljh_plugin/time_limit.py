"""Waiting no longer than a limit.

In place of `asyncio.wait_for`, which up to Python 3.11 may swallow a cancellation that comes in the very
moment in which what it waits for is there (https://github.com/python/cpython/issues/86296): a task that is
waited for after `cancel()` would go on for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import TypeVar

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

T = TypeVar("T")


async def within(limit_s: float | None, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled after `limit_s` seconds; `None` waits as long as it takes.

    Raises `asyncio.TimeoutError`.
    """
    async with timeout(limit_s):
        return await work
