"""`GET projects`, `PATCH|DELETE projects/{id}`, `POST projects/{id}/undelete`, `GET storage`,
`POST storage/adopt`.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ...access import is_admin
from ..handler import ApiHandler


class ProjectChanges(BaseModel):
    """`PATCH projects/{project}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str  #: what the person calls it; empty: after its repository


class ProjectList(ApiHandler):
    async def get(self) -> None:
        """The person's kept projects with size, last use, and the servers that use them; `?deleted=1`: with
        the deleted ones. Answers a list of `ProjectView`.
        """
        kept = self.context.kept_files
        found = await kept.projects(self.person)
        if self.flag("deleted"):
            found += await kept.deleted(self.person)
        self.answer(found)


class OneProject(ApiHandler):
    async def patch(self, project: str) -> None:
        """What the person calls it. Answers `ProjectView`."""
        asked = self.body(ProjectChanges)
        self.answer(await self.context.kept_files.rename(self.person, project, asked.title))

    async def delete(self, project: str) -> None:
        """Put it away; a deleted one is removed for good, with 204. Answers `ProjectView`."""
        kept = self.context.kept_files
        if project in [each.id for each in await kept.deleted(self.person)]:
            await kept.remove(self.person, project)
            self.set_status(204)
        else:
            self.answer(await kept.delete(self.person, project))


class UndeleteProject(ApiHandler):
    async def post(self, project: str) -> None:
        """Bring a deleted one back; its id is another one if its own was taken meanwhile. Answers
        `ProjectView`.
        """
        self.answer(await self.context.kept_files.undelete(self.person, project))


class StorageState(ApiHandler):
    async def get(self) -> None:
        """What the person keeps in all, the limit, and why the files cannot be reached, if they cannot.
        Answers `StorageView`.
        """
        self.answer(await self.context.kept_files.storage(self.person, admin=is_admin(self.person)))


class AdoptStorage(ApiHandler):
    async def post(self) -> None:
        """Administrators: say that the folder of `storage.root` is new. Answers `StorageView`."""
        self.only_administrators()
        self.answer(await self.context.kept_files.adopt(self.person))
