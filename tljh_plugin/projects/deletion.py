"""Deleting a project, bringing it back, and removing it for good before its time; renaming one as well.

Each is one step on the disk under the person's lock, told to the audit log. The files themselves are removed
by `upkeep`, in the background.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ..engine import Engine
from ..engine.threads import in_thread
from ..errors import BinderError, InvalidRequest, NotFound, ProjectInUse
from ..settings import Settings
from ..store import LeaseRow, ProjectRow
from ..wire import Person
from .archive import Deleted, bring_back, give_up, put_away, read_deleted
from .clock import Clock
from .disk import on_disk
from .locks import Locks
from .marker import change_marker, read_projects
from .people import person_folder
from .usage import Use, uses

log = logging.getLogger("littlest_binder.projects")

LONGEST_TITLE = 100


class DeletionStore(Protocol):
    """What is asked of the store."""

    async def leases(self) -> list[LeaseRow]: ...
    async def projects(self, owner: str, repository: str = "") -> list[ProjectRow]: ...
    async def move_project(self, project: ProjectRow, moved: ProjectRow) -> bool: ...
    async def forget_project(self, owner: str, project_id: str) -> bool: ...
    async def title_project(self, owner: str, project_id: str, title: str) -> bool: ...
    async def audit(self, who: str, what: str, thing: str, result: str) -> None: ...


class DeletedProjects:
    """What happens to a person's projects besides being started."""

    def __init__(
        self,
        settings: Settings,
        store: DeletionStore,
        engine: Engine,
        locks: Locks,
        removal_wanted: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._locks = locks
        self._removal_wanted = removal_wanted
        self._clock = Clock(settings.clock_path)

    async def of_person(self, owner: str) -> list[Deleted]:
        """A person's deleted projects that can be brought back, newest first, with their last use."""
        folder = await self._folder(owner)
        found = await in_thread(lambda: read_deleted(folder, owner))
        known = {row.id: row for row in await self._store.projects(owner)}
        return [
            replace(each, row=replace(each.row, last_used=known[each.row.id].last_used))
            if each.row.id in known
            else each
            for each in found
        ]

    async def users(self, path: str) -> list[Use]:
        """Who uses the project whose files are at `path`. Raises an `EngineError`."""
        # First the leases: one is given back when its server's container is there, which is seen then.
        leases = await self._store.leases()
        return uses(path, await self._engine.containers(), leases)

    async def delete(self, person: Person, identifier: str) -> Deleted:
        """Put a person's own project away. Raises `NotFound`, `ProjectInUse`, `ProjectFailed`, or an
        `EngineError` if Docker does not say who uses it.
        """
        async with self._told(person, "project.delete", identifier), self._locks.of_person(person.name):
            row = await self._live(person.name, identifier)
            users = await self.users(row.path)
            if users:
                names = ", ".join(use.shown for use in users)
                raise ProjectInUse(
                    f"The project {identifier} is in use by {names}.",
                    "Stop it, then delete the project.",
                )
            moved = await on_disk(lambda: put_away(row, self._clock.for_keeping()))
            await self._store.move_project(row, moved)
        log.info("project %s of %s was deleted: %s", identifier, person.name, moved.path)
        return await self._deleted(person.name, moved.id)

    async def undelete(self, person: Person, identifier: str) -> ProjectRow:
        """Bring a deleted project back; its id is another one if its own is taken by now.

        Raises `NotFound`, `ProjectFailed`.
        """
        async with self._told(person, "project.undelete", identifier), self._locks.of_person(person.name):
            deleted = await self._deleted(person.name, identifier)
            row = await on_disk(lambda: bring_back(deleted))
            await self._store.move_project(deleted.row, row)
        log.info("project %s of %s was brought back", row.id, person.name)
        return row

    async def remove(self, person: Person, identifier: str) -> None:
        """Give a deleted project up before its time; its files go in the background. Raises `NotFound`,
        `ProjectFailed`.
        """
        async with self._told(person, "project.purge", identifier), self._locks.of_person(person.name):
            deleted = await self._deleted(person.name, identifier)
            await on_disk(lambda: give_up(deleted))
            await self._store.forget_project(person.name, identifier)
        self._removal_wanted()

    async def rename(self, person: Person, identifier: str, title: str) -> ProjectRow:
        """Call a project otherwise; without a title it is called after its repository.

        Raises `NotFound`, `InvalidRequest` for a title that is none, `ProjectFailed`.
        """
        title = read_title(title)
        async with self._told(person, "project.rename", identifier), self._locks.of_person(person.name):
            row = await self._live(person.name, identifier)
            await on_disk(lambda: change_marker(Path(row.path).parent, title=title))
            await self._store.title_project(person.name, identifier, title)
        return replace(row, title=title)

    # -- within ---------------------------------------------------------------------------------------

    async def _folder(self, owner: str) -> Path:
        root = self._settings.storage_root
        return await in_thread(lambda: person_folder(root, owner))

    async def _live(self, owner: str, identifier: str) -> ProjectRow:
        folder = await self._folder(owner)
        for row in await in_thread(lambda: read_projects(folder, owner)):
            if row.id == identifier:
                return row
        raise NotFound(
            f"You have no project {identifier!r:.90}.", "See your projects on the page `My projects`."
        )

    async def _deleted(self, owner: str, identifier: str) -> Deleted:
        folder = await self._folder(owner)
        for each in await in_thread(lambda: read_deleted(folder, owner)):
            if each.row.id == identifier:
                return each
        raise NotFound(
            f"You have no deleted project {identifier!r:.110}.",
            "See your deleted projects on the page `My projects`; what was removed for good is gone.",
        )

    @asynccontextmanager
    async def _told(self, person: Person, what: str, identifier: str) -> AsyncIterator[None]:
        """Have the audit log say how it ended."""
        thing = f"{person.name}/{identifier:.110}"
        try:
            yield
        except BinderError as error:
            await self._store.audit(person.name, what, thing, error.code)
            raise
        await self._store.audit(person.name, what, thing, "done")


def read_title(text: str) -> str:
    """A title as it is kept: one line, no control characters, at most 100 characters. Raises
    `InvalidRequest`.
    """
    title = " ".join(text.split())
    if len(title) > LONGEST_TITLE:
        raise InvalidRequest(
            f"The title {title[:40]!r}… has {len(title)} characters.",
            f"Give one of at most {LONGEST_TITLE} characters.",
        )
    if any(unicodedata.category(each) in ("Cc", "Cs", "Cf") for each in title):
        raise InvalidRequest(f"The title {title!r} has invisible characters.", "Leave them out.")
    return title
