"""Whether Docker answers and the firewall holds: asked every few seconds at most, never waited for long."""

from __future__ import annotations

import asyncio

from ..engine import Engine, EngineInfo
from ..errors import BinderError, EngineTimedOut

_FRESH_S = 3.0
_WAIT_S = 2.0


class EngineHealth:
    """What pages and monitors say about Docker; they all share one question to it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._question: asyncio.Task[EngineInfo | BinderError] | None = None
        self._asked = 0.0
        self._firewall: asyncio.Task[str] | None = None
        self._firewall_asked = 0.0

    async def info(self) -> EngineInfo | BinderError:
        """What Docker says of itself, or why it does not."""
        now = asyncio.get_running_loop().time()
        question = self._question
        if question is None or (question.done() and now - self._asked > _FRESH_S):
            question = self._question = asyncio.create_task(self._ask())
            self._asked = now
        try:
            return await asyncio.wait_for(asyncio.shield(question), _WAIT_S)
        except asyncio.TimeoutError:
            return EngineTimedOut(
                f"Docker has not answered for {_WAIT_S:.0f} seconds.",
                "It may be very busy: try again in a moment. If it stays so, restart Docker.",
            )

    async def problem(self) -> BinderError | None:
        """What is wrong with Docker, if anything is."""
        said = await self.info()
        return said if isinstance(said, BinderError) else None

    async def firewall(self) -> str:
        """Why the servers' network has no firewall rules; empty if they are in force."""
        now = asyncio.get_running_loop().time()
        look = self._firewall
        if look is None or (look.done() and now - self._firewall_asked > _FRESH_S):
            look = self._firewall = asyncio.create_task(self._engine.missing_firewall())
            self._firewall_asked = now
        return await asyncio.shield(look)

    async def _ask(self) -> EngineInfo | BinderError:
        try:
            return await self._engine.info()
        except BinderError as error:
            return error
