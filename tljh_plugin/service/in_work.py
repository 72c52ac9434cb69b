"""The requests that are being answered, so that the service ends after its answers."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakSet

_LOOK_S = 0.02


class InWork:
    """Handlers from the beginning of a request to its answer, or until a reader that went away is noticed.

    Streams are not among them: they last as long as a build does, and who reads one comes back for the rest.
    """

    def __init__(self) -> None:
        self._handlers: WeakSet[Any] = WeakSet()
        self.last = False  # what is answered from now on is the last answer of its connection

    def begin(self, handler: Any) -> None:
        self._handlers.add(handler)

    def end(self, handler: Any) -> None:
        self._handlers.discard(handler)

    async def finish(self, limit_s: float) -> bool:
        """Let the last answers be given, within so many seconds; whether all were."""
        self.last = True
        # Looked at again and again, since a handler that goes away tells nobody.
        for _ in range(1 + round(limit_s / _LOOK_S)):
            over = not self._handlers
            await asyncio.sleep(_LOOK_S)  # what was written last goes out meanwhile
            if over:
                return True
        return False
