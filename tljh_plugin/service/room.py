"""What a person may choose and what is free, for pages and API; Docker is asked at most once a second."""

from __future__ import annotations

import asyncio

from ..engine import Engine
from ..errors import EngineError
from ..launch.room import offer, read_machine
from ..launch.running import Running, running_servers
from ..settings import Settings, fresh
from ..wire import Person, ProfilesView
from .shared_question import SharedQuestion

_FRESH_S = 1.0
_WAIT_S = 2.0

Servers = dict[tuple[str, str], Running]


class Room:
    """Shares one question to Docker between all who ask; a slow Docker makes no page wait for long."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._running = SharedQuestion(self._ask, fresh_s=_FRESH_S)

    async def servers(self) -> Servers | None:
        """All running servers by person and name; None where Docker does not tell."""
        try:
            return await self._running.answer(_WAIT_S)
        except asyncio.TimeoutError:
            return None

    async def profiles(self, person: Person) -> ProfilesView:
        """The person's profiles and what is free. Raises `ProfileRefused` if none is meant for them."""
        servers = await self.servers()
        try:
            machine = read_machine()
        except EngineError:
            machine = None
        others = None if servers is None else list(servers.values())
        return offer(fresh(self._settings), person, others, machine)

    async def _ask(self) -> Servers | None:
        try:
            return await running_servers(self._engine)
        except EngineError:
            return None
