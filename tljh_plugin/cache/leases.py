"""Leases: an image that a start in progress was promised does not go away under it.

They are kept in the store: a start goes on in the hub while the service restarts, and the image that it is
about to use has no container yet that would protect it. A lease that nobody gives back expires.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone

from ..errors import ImageInUse, StoreError
from ..store import Store

_log = logging.getLogger("littlest_binder.leases")


class Leases:
    """Handed out to starts, and asked by deletions: of the two, whoever comes first wins."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._going: dict[str, asyncio.Event] = {}

    async def take(self, image_id: str, seconds: float, server: str = "") -> str:
        """The id of a new lease for the start of `server` (`person/name`).

        For an image that is being deleted now it waits for the end of that: whoever looks then knows whether
        the image is there, and a start that has it built anew does not come upon what is still going.
        """
        await self._nobody_deletes(image_id)
        # The store works in order: a deletion that begins from here on sees this lease when it looks.
        return (await self._store.add_lease(image_id, _in(seconds), server)).id

    @asynccontextmanager
    async def renewed(self, lease_id: str, seconds: float) -> AsyncIterator[None]:
        """While the block takes, a lease of `seconds` does not expire; at its end it has all of them left."""
        task = asyncio.create_task(self._renew(lease_id, seconds), name=f"lease {lease_id}")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._store.renew_lease(lease_id, _in(seconds))

    async def _renew(self, lease_id: str, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds / 4)
            try:
                await self._store.renew_lease(lease_id, _in(seconds))
            except StoreError as error:
                _log.warning("The lease %s was not renewed: %s", lease_id, error)

    async def release(self, lease_id: str) -> None:
        """Give a lease back; one that is unknown or expired is no error."""
        await self._store.drop_lease(lease_id)

    async def end(self, lease_id: str) -> None:
        """Give back the lease of a start that succeeded, which counts as a launch of its image."""
        await self._store.end_lease(lease_id)

    async def held(self, image_id: str) -> bool:
        return any(lease.image_id == image_id for lease in await self._store.leases())

    @asynccontextmanager
    async def none_on(self, image_id: str) -> AsyncIterator[None]:
        """While the image is deleted: nobody gets a lease. Raises `ImageInUse` if somebody has one.

        Of two deletions the second one waits for the first.
        """
        await self._nobody_deletes(image_id)
        over = self._going[image_id] = asyncio.Event()
        try:
            if await self.held(image_id):
                raise ImageInUse(
                    f"A server is being started with the image {image_id}, or it is being exported.",
                    "Wait until it runs and stop it, or until the export is done, and try again.",
                )
            yield
        finally:
            del self._going[image_id]
            over.set()

    async def _nobody_deletes(self, image_id: str) -> None:
        while (going := self._going.get(image_id)) is not None:
            await going.wait()


def _in(seconds: float) -> str:
    """The moment in so many seconds, as the store keeps it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
