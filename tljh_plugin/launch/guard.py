"""Firewall rules that stay: put back whenever somebody took them away, while the hub runs.

Docker writes its chains anew when it starts, administrators' firewalls flush everything when they reload, and
after a boot there is nothing. So we look every few seconds (a few milliseconds of `iptables-save`, no call to
Docker), and at once when Docker was restarted or made a network. Servers that run while the hub is away are
looked after again when it is back: it looks as soon as it has read its configuration, before any start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from .. import request_ids
from ..engine import Engine
from ..errors import BinderError
from ..time_limit import within

log = logging.getLogger("littlest_binder.firewall")

PERIOD_S = 5.0
_RETRY_S = 1.0


class FirewallGuard:
    """`start()` … `stop()`. `look` sets what is missing and does nothing where nothing is to be guarded; it
    is told whether Docker may know better than we by now, and answers whether there is anything to guard.
    """

    def __init__(
        self, look: Callable[[bool], Awaitable[bool]], engine: Engine, *, period_s: float = PERIOD_S
    ) -> None:
        self._look = look
        self._engine = engine
        self._period_s = period_s
        self._woken = asyncio.Event()
        self._docker_changed = True
        self._guards = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, in a running loop; can be called again."""
        if not self._tasks:
            self._tasks = request_ids.apart(
                lambda: [asyncio.create_task(self._look_for_ever()), asyncio.create_task(self._listen())]
            )

    def stop(self) -> None:
        """No further look."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def wake(self) -> None:
        """Something has changed in Docker: look now."""
        self._docker_changed = True
        self._woken.set()

    async def _look_for_ever(self) -> None:
        while True:
            self._woken.clear()
            changed, self._docker_changed = self._docker_changed, False
            try:
                if await self._look(changed):
                    self._guards.set()
            except BinderError as error:
                self._docker_changed = changed
                log.debug("The firewall is looked at again: %s", error)
            except Exception:
                log.exception("The firewall could not be looked at; that is tried again.")
            with suppress(asyncio.TimeoutError, TimeoutError):
                await within(self._period_s, self._woken.wait())

    async def _listen(self) -> None:
        """Docker's networks, and its restarts, which end the stream of events."""
        await self._guards.wait()
        while True:
            with suppress(BinderError):
                async for event in self._engine.events(("network", "daemon")):
                    if event.action not in ("connect", "disconnect"):  # of each container
                        self.wake()
            self.wake()
            await self._until_docker_answers()
            self.wake()

    async def _until_docker_answers(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_S)
            with suppress(BinderError):
                await self._engine.info()
                return
