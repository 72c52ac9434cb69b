"""What the service does to people's files by itself: measure them, and remove what was deleted long ago.

In rounds, one thing at a time, and never while the root is not the one that we made. What a round cannot do
is tried in the next one.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ..engine import Engine
from ..engine.threads import in_thread
from ..errors import BinderError, EngineError, ProjectFailed
from ..settings import Settings, fresh
from ..store import ProjectRow
from ..time_limit import within
from .archive import Deleted, give_up, given_up, read_deleted, remove
from .child import run_as_owner
from .clock import Clock
from .locks import Locks
from .owning import gather
from .people import people
from .root import StorageRoot
from .sizes import Sizes

log = logging.getLogger("littlest_binder.projects")

_REMOVE_TIMEOUT_S = 3600.0
_ENDED = ("exited", "dead")


class UpkeepStore(Protocol):
    """What is asked of the store."""

    async def all_projects(self) -> list[ProjectRow]: ...
    async def forget_project(self, owner: str, project_id: str) -> bool: ...
    async def audit(self, who: str, what: str, thing: str, result: str) -> None: ...


class Upkeep:
    """`start`, then `wake` when something is to be removed, then `stop`."""

    def __init__(
        self,
        settings: Settings,
        store: UpkeepStore,
        engine: Engine,
        root: StorageRoot,
        sizes: Sizes,
        locks: Locks,
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._root = root
        self._sizes = sizes
        self._locks = locks
        self._clock = Clock(settings.clock_path)
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._in_use: frozenset[str] = frozenset()
        self._complained = ""

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="upkeep of people's files")

    async def stop(self) -> None:
        """End; a removal that is under way goes on at the next start."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def wake(self) -> None:
        """Begin the next round now."""
        self._woken.set()

    async def round(self) -> None:
        """Remove what is to go, then measure what may have changed."""
        if not await in_thread(lambda: self._root.ready):
            await self._complain()
            return
        self._complained = ""
        used_until = {row.path: row.last_used for row in await self._store.all_projects()}
        newest = max(filter(None, used_until.values()), default="")
        known = datetime.fromisoformat(newest) if newest else None
        await self.remove_expired(await in_thread(lambda: self._clock.for_removal(known)))
        now_in_use = await self._mounted()
        # What was in use before has changed since it was measured last.
        await self._sizes.round(used_until, now_in_use | self._in_use)
        self._in_use = now_in_use

    async def remove_expired(self, now: datetime) -> None:
        """Remove what was deleted longer ago than `storage.keep_deleted_days`, and what was given up."""
        everybody = await in_thread(lambda: list(people(self._root.path)))
        days = fresh(self._settings).storage.keep_deleted_days
        for owner, folder in everybody:
            for each in await in_thread(lambda o=owner, f=folder: read_deleted(f, o)):  # type: ignore[misc]
                if each.until(days) <= now:
                    await self._expire(owner, each)
            for place in await in_thread(lambda f=folder: given_up(f)):  # type: ignore[misc]
                await self._remove(owner, place)

    # -- within ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self.round()
            except (BinderError, OSError) as error:
                log.warning("looking after people's files: %s", error)
            with suppress(asyncio.TimeoutError, TimeoutError):
                await within(self._settings.storage.measure_every_s, self._woken.wait())

    async def _complain(self) -> None:
        """Log why people's files cannot be reached, once; a root that is still to be made is no reason."""
        kept_before = bool(await self._store.all_projects())
        problem = await in_thread(lambda: self._root.problem(kept_before))
        if problem is not None and str(problem) != self._complained:
            self._complained = str(problem)
            log.error("%s", problem)

    async def _expire(self, owner: str, deleted: Deleted) -> None:
        async with self._locks.of_person(owner):
            try:
                await in_thread(lambda: give_up(deleted))
            except FileNotFoundError:
                return  # it was brought back meanwhile
            await self._store.forget_project(owner, deleted.row.id)
        await self._store.audit("service", "project.purge", f"{owner}/{deleted.row.id}", "kept long enough")

    async def _remove(self, owner: str, place: Path) -> None:
        try:
            await remove(place, lambda home: self._empty(owner, home))
        except (BinderError, OSError) as error:
            log.warning("%s of %s is not removed yet: %s", place, owner, error)
        else:
            log.info("%s of %s was removed", place, owner)

    async def _empty(self, owner: str, folder: Path) -> None:
        try:
            await run_as_owner(folder, "remove.py", _REMOVE_TIMEOUT_S)
        except ProjectFailed:
            # It may have been handed over in part, when somebody deleted it.
            if not await gather(self._settings, owner, folder):
                raise
            await run_as_owner(folder, "remove.py", _REMOVE_TIMEOUT_S)

    async def _mounted(self) -> frozenset[str]:
        """The places on the host that running containers see."""
        try:
            rows = await self._engine.containers()
        except EngineError:
            return frozenset()
        return frozenset(source for row in rows if row.state not in _ENDED for source in row.mounts)
