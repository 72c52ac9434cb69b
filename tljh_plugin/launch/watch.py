"""Looking at a server again and again, by a clock that nobody sets.

JupyterHub itself looks by a tornado `PeriodicCallback`, which goes by the time of day: when that is set back,
it pauses for as long (https://github.com/tornadoweb/tornado/issues/2333), and nobody sees what has ended.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

log = logging.getLogger("littlest_binder.launch")


class Watch:
    """`look` every `every_s` seconds, give or take `jitter` of half of that, from `start` to `stop`."""

    def __init__(self, look: Callable[[], Awaitable[object]], every_s: float, jitter: float = 0.0) -> None:
        self._look = look
        self._every_s = every_s
        self._jitter = jitter
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._running = False

    def start(self) -> None:
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """No further look; one that goes on, from which this may be called, goes on to its end."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        pause = self._every_s * (1 + self._jitter * (random.random() - 0.5))  # noqa: S311  # no secret
        self._timer = asyncio.get_running_loop().call_later(pause, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._once())

    async def _once(self) -> None:
        try:
            await self._look()
        except Exception:
            log.exception("A server could not be looked at; that is tried again.")
        if self._running:
            self._schedule()
