"""`Projects`: look up or fill the folder that a server keeps its files in."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from ..engine import Engine, ImageFacts, limits_for
from ..engine.threads import in_thread
from ..errors import BinderError, NotFound, ProjectAtOtherCommit, ProjectError, ProjectFailed, StoreError
from ..settings import Settings
from ..store import ProjectRow, utc_now
from ..wire import Person, PrepareRequest, ProjectView
from .fill import fill
from .marker import HOME, MARKER, read_project, read_projects, sync_folder, write_marker
from .names import further_project_id, person_slug, project_id
from .staging import Staging, clear, make_staging, remove_empty, stagings

log = logging.getLogger(__name__)

T = TypeVar("T")
Rows = list[ProjectRow]


class ProjectStore(Protocol):
    """What is asked of the store. It speeds things up and knows when a project was used; the disk is the
    truth.
    """

    async def add_project(self, project: ProjectRow) -> None: ...
    async def projects(self, owner: str, repository: str = "") -> Rows: ...
    async def use_project(self, owner: str, project_id: str, image_id: str) -> bool: ...


class Projects:
    """People's kept files, below `settings.storage_root`: `<person>/<project>/home`, all above `home`
    ours alone.
    """

    def __init__(self, settings: Settings, store: ProjectStore, engine: Engine) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def prepare(
        self,
        person: Person,
        request: PrepareRequest,
        image: ImageFacts,
        base_image: str,
        *,
        subdir: str = "",
    ) -> tuple[ProjectView, Path]:
        """The project that the request means, filled from `image` if it is not there yet, and its folder to
        be mounted.

        `base_image` is the id or name of our base image. Equal requests at the same time wait for one fill.
        Nothing that exists is ever overwritten. Raises `ProjectAtOtherCommit`, `NotFound` (no project of
        that id), `ProjectTooLarge`, `ProjectFailed`, or an `EngineError`.
        """
        if request.project == "new":
            identifier = further_project_id(request.repository, subdir)
        else:
            identifier = project_id(request.repository, subdir)
        async with self._lock(self._person_folder(person.name) / identifier):
            project = choose(await self._rows(person.name), request, subdir)
            if project is None:
                project = await self._fill(person.name, identifier, request, image, base_image, subdir)
            await in_thread(lambda: self._check_owner(project))
            await self._store.use_project(person.name, project.id, image.id)
        return _view(replace(project, last_used=utc_now())), Path(project.path)

    async def list(self, person: Person) -> list[ProjectView]:
        """The person's own projects, by id."""
        return [_view(row) for row in await self._rows(person.name)]

    async def find(self, person: Person, identifier: str) -> ProjectRow:
        """One of the person's own projects: the commit and image that it belongs to. Raises `NotFound`."""
        for row in await self._rows(person.name):
            if row.id == identifier:
                return row
        raise _no_project(identifier)

    # -- what is there --------------------------------------------------------------------------------

    async def _rows(self, owner: str) -> Rows:
        """What is on the disk, with what the store knows of it; what the store lost is put back."""
        folder = self._person_folder(owner)
        known = {row.id: row for row in await self._store.projects(owner)}
        found = []
        for row in await in_thread(lambda: read_projects(folder, owner)):
            if row.id in known:
                found.append(replace(row, last_used=known[row.id].last_used, image_id=known[row.id].image_id))
            else:
                log.info("project %s of %s was found on the disk", row.id, owner)
                await self._record(row)
                found.append(row)
        return found

    async def _record(self, project: ProjectRow) -> None:
        """Put a project into the store; who just found it on the disk may have done so."""
        try:
            await self._store.add_project(project)
        except StoreError:
            if project.id not in {row.id for row in await self._store.projects(project.owner)}:
                raise

    def _person_folder(self, owner: str) -> Path:
        return self._settings.storage_root / person_slug(owner)

    def _lock(self, folder: Path) -> asyncio.Lock:
        return self._locks.setdefault(folder, asyncio.Lock())

    def _check_owner(self, project: ProjectRow) -> None:
        uid = self._settings.server_uid
        owner = os.lstat(project.path).st_uid
        if owner != uid:
            raise ProjectFailed(
                f"The project folder {project.path} belongs to user {owner}, but servers run as user {uid}.",
                f"If `servers.uid` was changed on purpose, give the files to that user: `chown -R {uid} …`.",
            )

    # -- making one -----------------------------------------------------------------------------------

    async def _fill(
        self,
        owner: str,
        identifier: str,
        request: PrepareRequest,
        image: ImageFacts,
        base_image: str,
        subdir: str,
    ) -> ProjectRow:
        limits = limits_for(self._settings)
        if os.geteuid() not in (0, limits.uid):
            raise ProjectFailed(
                f"Servers run as user {limits.uid}, and user {os.geteuid()} cannot make folders for them.",
                "Leave `servers.uid` out of the settings, or run as root.",
            )
        folder = await _on_disk(lambda: self._make_folder(owner, identifier, request, subdir))
        for left in await _on_disk(lambda: stagings(folder)):
            await clear(self._engine, base_image, limits, left)
        staging = await _on_disk(lambda: make_staging(folder, limits))
        try:
            filled = await fill(
                self._engine,
                image,
                base_image,
                limits,
                staging,
                max_bytes=self._settings.storage.max_fill_bytes,
                reserve_bytes=self._settings.build.disk_reserve_bytes,
            )
            project = ProjectRow(
                id=folder.name,
                owner=owner,
                repository=request.repository,
                spec=request.spec,
                commit=request.commit,
                subdir=subdir,
                image_id=image.id,
                path=str(folder / HOME),
                created=utc_now(),
            )
            name = image.tags[0] if image.tags else ""
            await _on_disk(lambda: _finish(folder, staging, project, name, filled.skipped_names))
        except BaseException:
            await self._give_up(base_image, folder, staging)
            raise
        log.info("filled %s: %d entries, %d bytes", project.path, filled.entries, filled.bytes)
        if filled.skipped:
            log.warning(
                "%s: %d not copied: %s", project.path, filled.skipped, "; ".join(filled.skipped_names)
            )
        await self._record(project)
        return project

    def _make_folder(self, owner: str, identifier: str, request: PrepareRequest, subdir: str) -> Path:
        """The project's folder, ours alone and with nothing finished in it."""
        person_folder = self._person_folder(owner)
        self._settings.storage_root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(person_folder)
        folder = person_folder / identifier
        while os.path.lexists(folder / HOME) or _is_of_another(folder, owner, request.repository, subdir):
            folder = person_folder / further_project_id(request.repository, subdir)
        _make_private(folder)
        return folder

    async def _give_up(self, base_image: str, folder: Path, staging: Staging) -> None:
        """Remove what a failed fill has left; where that fails as well, the next one does it."""
        if not await in_thread(lambda: os.path.lexists(staging.home)):
            return  # it was finished after all, and only then cancelled
        try:
            await clear(self._engine, base_image, limits_for(self._settings), staging)
            await _on_disk(lambda: _remove_unfinished(folder))
        except BinderError as error:
            log.warning("%s stays until the project is started again: %s", staging.path, error)


def choose(rows: Rows, request: PrepareRequest, subdir: str = "") -> ProjectRow | None:
    """The person's project that a request means, or `None` if one is to be made.

    Without an id it is the one at the wanted commit that was used last. Raises `ProjectAtOtherCommit` if
    there are only ones at other commits, `NotFound`, or `ProjectError` if the id is of another repository's
    project.
    """
    if request.project == "new":
        return None
    if request.project:
        found = next((row for row in rows if row.id == request.project), None)
        if found is None:
            raise _no_project(request.project)
        if (found.repository, found.subdir) != (request.repository, subdir):
            raise ProjectError(
                f"The project {found.id} belongs to {found.repository}, not to {request.repository}.",
                "Choose a project of the same repository, or leave the choice out.",
            )
        return found
    same = [row for row in rows if (row.repository, row.subdir) == (request.repository, subdir)]
    if not same:
        return None
    fitting = [row for row in same if row.commit == request.commit]
    last = max(fitting or same, key=lambda row: (row.last_used or row.created, row.created))
    if not fitting:
        raise ProjectAtOtherCommit(
            f"Your project {last.id} of {last.repository} is at commit {last.commit[:12]}, "
            f"and commit {request.commit[:12]} was asked for.",
            f"Continue with your files (`{last.id}`), or begin a second one at that commit (`new`).",
        )
    return last


def _finish(folder: Path, staging: Staging, project: ProjectRow, image_name: str, skipped: list[str]) -> None:
    """From here on it is a project: the marker first, then in one step the name by which it is known."""
    write_marker(folder, project, image_name, skipped)
    home = folder / HOME
    if os.path.lexists(home):
        raise ProjectFailed(f"{home} came into being meanwhile.", "Start again: it is used then.")
    staging.home.rename(home)
    sync_folder(folder)
    with suppress(OSError):
        remove_empty(staging)


async def _on_disk(work: Callable[[], T]) -> T:
    """Run `work` in a thread to its end, also when cancelled; raises `ProjectFailed` for what the disk
    refuses.
    """
    running = asyncio.ensure_future(in_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
    except OSError as error:
        raise ProjectFailed(
            f"The disk refused to work on {error.filename or 'the projects'}: {error.strerror}.",
            "Check the owner of `storage.root` and the free disk, then start again.",
        ) from error


def _remove_unfinished(folder: Path) -> None:
    """Remove a project's folder in which nothing came into being."""
    if not os.path.lexists(folder / HOME):
        (folder / MARKER).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def _make_private(folder: Path) -> None:
    """A folder that only we can look into; what stands there instead is refused."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise ProjectFailed(
            f"{folder} is not a folder of user {os.geteuid()}.", "Move it away, then start again."
        )
    if stat.S_IMODE(facts.st_mode) != 0o700:
        folder.chmod(0o700)


def _is_of_another(folder: Path, owner: str, repository: str, subdir: str) -> bool:
    """Whether a folder of this name holds somebody else's or something else's project: short hashes can
    be ground.
    """
    found = read_project(folder)
    return found is not None and (found.owner, found.repository, found.subdir) != (owner, repository, subdir)


def _no_project(identifier: str) -> NotFound:
    return NotFound(f"You have no project {identifier!r:.90}.", "See your projects on the front page.")


def _view(row: ProjectRow) -> ProjectView:
    return ProjectView(
        id=row.id,
        owner=row.owner,
        repository=row.repository,
        spec=row.spec,
        commit=row.commit,
        created=row.created,
        last_used=row.last_used,
    )
