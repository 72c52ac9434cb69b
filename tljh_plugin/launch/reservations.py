"""Places of servers that are starting, so that starts at the same moment cannot take the same room twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from ..engine import Engine
from .running import Running, running_servers

Judge = Callable[[Sequence[Running]], None]


class Reservations:
    """The starts of one hub. A server counts from the begin of its start until its container is gone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._starting: dict[tuple[str, str], Running] = {}
        self._over = 0

    async def others(self, key: tuple[str, str] = ("", "")) -> list[Running]:
        """All servers that run or start, except the one of `key`. Raises `EngineError`."""
        while True:
            over = self._over
            running = await running_servers(self._engine)
            if over == self._over:
                break
            # A start that ended while Docker was asked may be in neither list: ask once more.
        found = {**running, **self._starting}
        return [each for each in found.values() if each.key != key]

    @asynccontextmanager
    async def hold(self, wanted: Running, judge: Judge) -> AsyncIterator[None]:
        """A place for `wanted` while its start is in progress; afterwards its container takes it.

        `judge` gets all other servers and raises where there is no room.
        """
        others = await self.others(wanted.key)
        judge(others)
        # Nothing is awaited between looking and taking, so that nobody comes in between.
        self._starting[wanted.key] = wanted
        try:
            yield
        finally:
            if self._starting.get(wanted.key) is wanted:
                del self._starting[wanted.key]
            self._over += 1
