"""Writes that the store could not take, until it can.

Deleting makes room: where the store lies on the disk that is full, no deletion can wait for room to note it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from ..errors import StoreError

_log = logging.getLogger("littlest_binder.owed")

Write = Callable[[], Awaitable[object]]


class Owed:
    """Writes in the order in which they were asked for; what is owed when the process ends is lost."""

    def __init__(self) -> None:
        self._writes: deque[Write] = deque()
        self._one_at_a_time = asyncio.Lock()

    async def write(self, work: Write) -> None:
        """Now, after all that is owed; or, where the store fails, with a later write."""
        self._writes.append(work)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Write what is owed, as far as the store takes it."""
        async with self._one_at_a_time:
            while self._writes:
                work = self._writes.popleft()
                try:
                    await work()
                except StoreError as error:
                    self._writes.appendleft(work)
                    _log.warning("%d notes of deletions are written later: %s", len(self._writes), error)
                    return
