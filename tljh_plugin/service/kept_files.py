"""What a person keeps, for pages and the API: projects, deleted ones, sizes, and the limit."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BinderError, StorageMissing
from ..projects import DeletedProjects, Projects, Sizes
from ..projects.archive import Deleted
from ..projects.prepare import project_view
from ..projects.usage import uses
from ..settings import Settings, fresh
from ..store import SizeRow, Store
from ..wire import ErrorView, Person, ProjectView, StorageView


class KeptFiles:
    """Asks the stage `projects` and decides nothing. Every method is about the person's own files."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        projects: Projects,
        deleted: DeletedProjects,
        sizes: Sizes,
    ) -> None:
        self._settings = settings
        self._store = store
        self._projects = projects
        self._deleted = deleted
        self._sizes = sizes

    async def projects(self, person: Person) -> list[ProjectView]:
        """The projects, last used first, with the servers that use them as far as Docker says it now."""
        found = await self._projects.list(person)
        leases = await self._store.leases()  # before the containers, see `DeletedProjects.users`
        try:
            containers = await self._projects.containers()
        except BinderError:
            containers = []
        paths = {row.id: row.path for row in await self._store.projects(person.name)}
        views = [
            each.model_copy(
                update={"servers": tuple(use.shown for use in uses(paths[each.id], containers, leases))}
            )
            for each in found
            if each.id in paths
        ]
        return sorted(views, key=lambda each: (each.last_used or each.created, each.id), reverse=True)

    async def deleted(self, person: Person) -> list[ProjectView]:
        """The deleted projects that can be brought back, newest first."""
        sizes = await self._store.sizes(person.name)
        return [self._view(each, sizes) for each in await self._deleted.of_person(person.name)]

    async def delete(self, person: Person, identifier: str) -> ProjectView:
        """Put a project away. Raises `NotFound`, `ProjectInUse`, `ProjectFailed`, or an `EngineError`."""
        await self._reachable()
        deleted = await self._deleted.delete(person, identifier)
        return self._view(deleted, await self._store.sizes(person.name))

    async def undelete(self, person: Person, identifier: str) -> ProjectView:
        """Bring a deleted project back. Raises `NotFound`, `ProjectFailed`."""
        await self._reachable()
        row = await self._deleted.undelete(person, identifier)
        return await self._one(person, row.id)

    async def remove(self, person: Person, identifier: str) -> None:
        """Remove a deleted project for good, before its time. Raises `NotFound`, `ProjectFailed`."""
        await self._reachable()
        await self._deleted.remove(person, identifier)

    async def rename(self, person: Person, identifier: str, title: str) -> ProjectView:
        """Give a project a title, or none. Raises `NotFound`, `InvalidRequest`, `ProjectFailed`."""
        await self._reachable()
        await self._deleted.rename(person, identifier, title)
        return await self._one(person, identifier)

    async def storage(self, person: Person, *, admin: bool = False) -> StorageView:
        """What the person keeps in all, against the limit, and whether it can be reached."""
        standing = await self._sizes.standing(person.name)
        problem = await self._projects.problem()
        return StorageView(
            used_bytes=standing.used,
            whole=standing.whole,
            limit_bytes=standing.limit,
            state=standing.state,
            my_files_bytes=standing.my_files.bytes if standing.my_files else None,
            problem=_error(problem) if problem else None,
            root=str(self._settings.storage_root) if admin else "",
        )

    async def adopt(self, person: Person) -> StorageView:
        """Take the folder that `storage.root` names for people's files; for administrators.

        Raises `StorageMissing` if its place does not exist, `ProjectFailed` if the disk refuses.
        """
        root = str(self._settings.storage_root)
        try:
            await self._projects.adopt_root()
        except BinderError as error:
            await self._store.audit(person.name, "storage.adopt", root, error.code)
            raise
        await self._store.audit(person.name, "storage.adopt", root, "done")
        return await self.storage(person, admin=True)

    # -- within ---------------------------------------------------------------------------------------

    async def _reachable(self) -> None:
        problem = await self._projects.problem()
        if problem is not None:
            raise problem

    async def _one(self, person: Person, identifier: str) -> ProjectView:
        row = await self._projects.find(person, identifier)
        found: Sequence[ProjectView] = await self._projects.list(person)
        return next(each for each in found if each.id == row.id)

    def _view(self, deleted: Deleted, sizes: dict[str, SizeRow]) -> ProjectView:
        until = deleted.until(fresh(self._settings).storage.keep_deleted_days)
        return project_view(deleted.row, sizes.get(deleted.row.path)).model_copy(
            update={
                "archived": True,
                "deleted": deleted.deleted.isoformat(timespec="milliseconds"),
                "kept_until": until.isoformat(timespec="milliseconds"),
            }
        )


def _error(problem: StorageMissing) -> ErrorView:
    return ErrorView(**problem.to_dict())
