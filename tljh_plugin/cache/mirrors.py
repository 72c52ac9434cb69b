"""Stored copies of repositories that nobody needs any more go: by themselves after a time, or at once when an
administrator says so.

A copy is needed while an image of its repository is in our list, since a newer commit of that is likely
wanted; what goes costs no more than a longer fetch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial

from ..amounts import shown_bytes
from ..engine.threads import in_thread
from ..settings import Settings, fresh
from ..source import mirrors
from ..source.mirror import folder_name
from ..store import ImageRow

log = logging.getLogger("littlest_binder.mirrors")

_EVERY_S = 3600.0


@dataclass(frozen=True)
class Kept:
    """A stored copy: the name of its folder, its allocated bytes, when it was used last, and whether an image
    of its repository is in the list."""

    name: str
    bytes: int
    used: datetime
    needed: bool


class Mirrors:
    """`await tidy()` as often as you like; it looks once an hour."""

    def __init__(
        self,
        settings: Settings,
        images: Callable[[], Awaitable[Sequence[ImageRow]]],
        note: Callable[[str, str, str, str], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._root = settings.mirror_dir
        self._images = images
        self._note = note
        self._next = 0.0
        self._removing = asyncio.Lock()

    async def all(self) -> list[Kept]:
        """Every copy, the one that is unused for longest first. Raises `StoreError` and `OSError`."""
        needed = await self._needed()
        return await in_thread(
            lambda: [
                Kept(
                    each.folder.name,
                    mirrors.occupied_bytes(each.folder),
                    each.used,
                    each.folder.name in needed,
                )
                for each in mirrors.stored(self._root)
            ]
        )

    async def tidy(self) -> None:
        """Remove what was not used for `source.mirror_days`. Raises `StoreError` and `OSError`."""
        days = fresh(self._settings).source.mirror_days
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY_S
        await in_thread(lambda: mirrors.sweep(self._root))
        if days:
            await self.remove("system", days)

    async def remove(self, who: str, unused_days: float = 0.0) -> list[Kept]:
        """Remove those that no image needs and nobody used for so long; what went. One in use stays.

        Raises `StoreError` and `OSError`.
        """
        async with self._removing:
            needed = await self._needed()
            found = await in_thread(lambda: mirrors.stored(self._root))
            gone = []
            for each in mirrors.unneeded(found, needed, unused_days, datetime.now(timezone.utc)):
                occupied = await in_thread(partial(mirrors.remove, each))
                if occupied is not None:
                    gone.append(Kept(each.folder.name, occupied, each.used, needed=False))
                    await self._note(who, "mirror.remove", each.folder.name, shown_bytes(occupied))
            if gone:
                log.info("%d stored repositories went, %s", len(gone), shown_bytes(_sum(gone)))
            return gone

    async def _needed(self) -> frozenset[str]:
        """Names of folders: one that was fetched with a credential is its person's alone."""
        return frozenset(
            folder_name(image.url, "sha256" if len(image.commit) == 64 else "sha1", audience)
            for image in await self._images()
            for audience in ("", image.built_by)
        )


def _sum(gone: Sequence[Kept]) -> int:
    return sum(each.bytes for each in gone)
