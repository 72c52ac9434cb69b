"""Whether Docker answers and the firewall holds: asked every few seconds at most, never waited for long."""

from __future__ import annotations

import asyncio

from ..engine import Engine, EngineInfo
from ..errors import BinderError, EngineTimedOut
from .shared_question import SharedQuestion

_FRESH_S = 3.0
_WAIT_S = 2.0


class EngineHealth:
    """What pages and monitors say about Docker; they all share one question to it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._info = SharedQuestion(self._ask, fresh_s=_FRESH_S)
        self._firewall = SharedQuestion(engine.missing_firewall, fresh_s=_FRESH_S)

    async def info(self) -> EngineInfo | BinderError:
        """What Docker says of itself, or why it does not."""
        try:
            return await self._info.answer(_WAIT_S)
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
        return await self._firewall.answer()

    async def _ask(self) -> EngineInfo | BinderError:
        try:
            return await self._engine.info()
        except BinderError as error:
            return error
