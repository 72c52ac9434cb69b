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
from .filesystems import usage_of

log = logging.getLogger("littlest_binder.mirrors")

_EVERY_S = 3600.0
_LOOK_S = 60.0
_FULL_DAYS = 1.0  # on a disk that is too full; what a build has just fetched stays in any case


@dataclass(frozen=True)
class Kept:
    """A stored copy: the name of its folder, its allocated bytes, when it was used last, and whether an image
    of its repository is in the list."""

    name: str
    bytes: int
    used: datetime
    needed: bool


class Mirrors:
    """`await tidy()` as often as you like; it looks once an hour, and each minute on a disk that is full."""

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
        self._look = self._next = 0.0
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
        """Remove what was not used for `source.mirror_days`, or for a day on a disk above the high watermark
        of retention: a copy is missed less than an image. Raises `StoreError` and `OSError`.
        """
        now = time.monotonic()
        if now < self._look:
            return
        self._look = now + _LOOK_S
        settings = fresh(self._settings)
        days = settings.source.mirror_days
        full = settings.retention_enabled and await in_thread(self._percent) > (
            settings.retention.high_watermark_percent
        )
        if full:
            days = min(days, _FULL_DAYS)
        elif now < self._next:
            return
        self._next = now + _EVERY_S
        async with self._removing:  # what an administrator removes now is not what was cut off
            await in_thread(lambda: mirrors.sweep(self._root))
        if days:
            await self.remove("system", days)

    def _percent(self) -> float:
        return usage_of(self._settings.state_dir).percent

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
