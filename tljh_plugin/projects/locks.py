"""One person's projects change one step at a time; those of different people at the same time."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Locks:
    """Locks that live as long as somebody holds or awaits them."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of_person(self, owner: str) -> asyncio.Lock:
        """For short steps: choosing a project, deleting one, bringing one back."""
        return self._locks.setdefault((owner, ""), asyncio.Lock())

    def of_project(self, owner: str, identifier: str) -> asyncio.Lock:
        """For filling one, which takes long. Never taken while the person's lock is held."""
        return self._locks.setdefault((owner, identifier), asyncio.Lock())
