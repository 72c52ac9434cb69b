"""My projects: what a person keeps, how much it is, and deleting, bringing back and renaming it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from math import ceil

from ...amounts import shown_bytes
from ...errors import BinderError, NotFound
from ...settings import fresh
from ...source.spec import LaunchLink
from ...wire import ErrorView, ProjectView
from ..links import read_spec
from ..texts import _
from .page import Page


@dataclass(frozen=True)
class ShownProject:
    """A project for people. `name` is its title, else its repository; `link` goes on with it."""

    id: str
    name: str
    title: str
    repository: str
    commit: str
    last_used: str
    size: str
    measured: str
    servers: tuple[str, ...]
    link: str
    deleted: str = ""
    days_left: int = 0


def shown_size(count: int | None, whole: bool) -> str:
    """A size for people, which may be a lower bound or not known yet."""
    if count is None:
        return _("not measured yet")
    return shown_bytes(count) if whole else _("at least {size}").format(size=shown_bytes(count))


def days_left(until: str, now: datetime) -> int:
    """Days until a moment, begun ones counted."""
    return max(0, ceil((datetime.fromisoformat(until) - now).total_seconds() / 86400)) if until else 0


class OfProjects(Page):
    """A page that shows the projects, be it after something went wrong."""

    tab = "projects"

    async def show_projects(self, problem: BinderError | None = None) -> None:
        """The page, with what went wrong above it."""
        kept = self.context.kept_files
        storage = await kept.storage(self.person)
        unreachable = storage.problem
        self.show(
            "projects.html",
            status=problem.http_status if problem else 200,
            problem=problem,
            unreachable=unreachable,
            projects=[shown_project(self, each) for each in await kept.projects(self.person)],
            deleted=[shown_project(self, each) for each in await kept.deleted(self.person)],
            storage=storage,
            used=shown_size(storage.used_bytes, storage.whole),
            limit=shown_bytes(storage.limit_bytes) if storage.limit_bytes else "",
            my_files=shown_size(storage.my_files_bytes, True) if storage.my_files_bytes is not None else "",
            keep_days=f"{fresh(self.context.settings).storage.keep_deleted_days:g}",
        )


class ProjectsPage(OfProjects):
    async def get(self) -> None:
        await self.show_projects()


class RenameProject(OfProjects):
    async def post(self, project: str) -> None:
        try:
            await self.context.kept_files.rename(self.person, project, self.get_body_argument("title", ""))
        except BinderError as error:
            await self.show_projects(error)
            return
        self.redirect(f"{self.prefix}projects", status=303)


class UndeleteProjectPage(OfProjects):
    async def post(self, project: str) -> None:
        try:
            await self.context.kept_files.undelete(self.person, project)
        except BinderError as error:
            await self.show_projects(error)
            return
        self.redirect(f"{self.prefix}projects", status=303)


class DeleteProject(Page):
    """GET asks, POST deletes; a deleted one is removed for good."""

    tab = "projects"

    async def get(self, project: str) -> None:
        self.ask(await self._project(project))

    async def post(self, project: str) -> None:
        found, kept = await self._project(project), self.context.kept_files
        try:
            if found.archived:
                await kept.remove(self.person, found.id)
            else:
                await kept.delete(self.person, found.id)
        except BinderError as error:
            self.ask(found, error)
            return
        self.redirect(f"{self.prefix}projects", status=303)

    def ask(self, project: ProjectView, error: BinderError | None = None) -> None:
        """The question, or why it was not done."""
        self.show(
            "delete-project.html",
            status=error.http_status if error else 200,
            project=shown_project(self, project),
            archived=project.archived,
            refused=ErrorView(**error.to_dict()) if error else None,
            keep_days=f"{fresh(self.context.settings).storage.keep_deleted_days:g}",
        )

    async def _project(self, identifier: str) -> ProjectView:
        kept = self.context.kept_files
        everything = [*await kept.projects(self.person), *await kept.deleted(self.person)]
        for each in everything:
            if each.id == identifier:
                return each
        raise NotFound(f"You have no project {identifier!r:.110}.", "Go back to your projects.")


def shown_project(page: Page, project: ProjectView) -> ShownProject:
    """A project as pages show it."""
    spec = read_spec(project.spec)
    link = ""
    if spec is not None and not project.archived:
        link = LaunchLink(spec.at(project.commit), project=project.id).to_url(page.prefix)
    repository = page.context.offers.title_of(project.spec)
    return ShownProject(
        id=project.id,
        name=project.title or repository,
        title=project.title,
        repository=repository,
        commit=project.commit,
        last_used=project.last_used or project.created,
        size=shown_size(project.size_bytes, project.size_whole),
        measured=project.measured,
        servers=project.servers,
        link=link,
        deleted=project.deleted,
        days_left=days_left(project.kept_until, datetime.now(timezone.utc)),
    )
