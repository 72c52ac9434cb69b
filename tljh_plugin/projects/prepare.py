"""`Projects`: look up or fill the folder that a server keeps its files in."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ..accounts import Identity, identity_of
from ..engine import ContainerRow, Engine, ImageFacts, Limits, limits_for
from ..engine.threads import in_thread
from ..errors import (
    BinderError,
    NotFound,
    ProjectAtOtherCommit,
    ProjectError,
    ProjectFailed,
    ProjectInUse,
    StorageMissing,
    StoreError,
)
from ..settings import Settings, fresh
from ..store import LeaseRow, ProjectRow, SizeRow, utc_now
from ..wire import Person, PrepareRequest, ProjectView
from .disk import on_disk
from .fill import Filled, fill
from .locks import Locks
from .marker import HOME, read_project, read_projects, sync_folder, write_marker
from .my_files import ensure_my_files
from .names import further_project_id, project_id
from .owning import choose_former, hand_over, refuse_if_open
from .people import MY_FILES, ensure_person_folder, make_private, person_folder
from .root import StorageRoot
from .sizes import Sizes
from .staging import Staging, clear, make_staging, new_staging, remove_empty, stagings
from .unfinished import remove_unfinished, unfinished
from .usage import of_other_images, uses

log = logging.getLogger("littlest_binder.projects")

Rows = list[ProjectRow]


class ProjectStore(Protocol):
    """What is asked of the store. It speeds things up and knows when a project was used; the disk is the
    truth.
    """

    async def add_project(self, project: ProjectRow) -> None: ...
    async def projects(self, owner: str, repository: str = "") -> Rows: ...
    async def use_project(self, owner: str, project_id: str, image_id: str) -> bool: ...
    async def has_projects(self) -> bool: ...
    async def leases(self) -> list[LeaseRow]: ...
    async def lease_project(self, lease_id: str, path: str) -> bool: ...
    async def set_size(self, size: SizeRow) -> None: ...
    async def sizes(self, owner: str = "") -> dict[str, SizeRow]: ...
    async def forget_size(self, path: str) -> None: ...
    async def audit(self, who: str, what: str, thing: str, result: str) -> None: ...


class Projects:
    """People's kept files, below `settings.storage_root`: `<person>/<project>/home`, all above `home`
    ours alone.
    """

    def __init__(self, settings: Settings, store: ProjectStore, engine: Engine) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self.root = StorageRoot(settings, engine.instance)
        self.locks = Locks()
        self.sizes = Sizes(settings, store)
        self._filling: set[Path] = set()

    async def ensure_root(self) -> Path:
        """The folder of people's files, known to be the right one. Raises `StorageMissing`, `ProjectFailed`.

        To be asked before anything is made in it.
        """
        kept_before = await self._store.has_projects()
        return await on_disk(lambda: self.root.ensure(kept_before))

    async def adopt_root(self) -> None:
        """Say that the folder which `storage.root` names is new. Raises `StorageMissing`, `ProjectFailed`."""
        await on_disk(self.root.adopt)

    async def containers(self) -> list[ContainerRow]:
        """All containers, with what they see of the host. Raises an `EngineError`."""
        return await self._engine.containers()

    async def problem(self) -> StorageMissing | None:
        """Why people's files cannot be reached now, if they cannot."""
        kept_before = await self._store.has_projects()
        return await in_thread(lambda: self.root.problem(kept_before))

    async def prepare(
        self,
        person: Person,
        request: PrepareRequest,
        image: ImageFacts,
        base_image: str,
        *,
        subdir: str = "",
        lease: str = "",
    ) -> tuple[ProjectView, Path]:
        """The project that the request means, filled from `image` if it is not there yet, and its folder to
        be mounted.

        `base_image` is the id or name of our base image; `lease` keeps the project until the server runs.
        Equal requests at the same time wait for one fill. Nothing that exists is ever overwritten. Raises
        `StorageMissing`, `StorageFull`, `ProjectAtOtherCommit`, `ProjectInUse` (by a server with another
        image), `NotFound` (no project of that id), `ProjectTooLarge`, `ProjectFailed`, an `AccountError`, or
        an `EngineError`.
        """
        await self.ensure_root()
        who = await self._who(person.name)
        await self.sizes.check_room(person.name)
        if request.project == "new":
            identifier = further_project_id(request.repository, subdir)
        else:
            identifier = project_id(request.repository, subdir)
        async with self.locks.of_project(person.name, identifier):
            project = await self._take(person, who, request, image, subdir, lease)
            if project is None:
                made = await self._fill(person.name, who, identifier, request, image, base_image, subdir)
                fixed = request.model_copy(update={"project": made.id})
                project = await self._take(person, who, fixed, image, subdir, lease)
        if project is None:
            raise _no_project(identifier)
        return project_view(replace(project, last_used=utc_now())), Path(project.path)

    async def my_files(self, person: Person) -> Path:
        """The person's own folder, made if it is not there.

        Raises `StorageMissing`, `ProjectFailed`, `ProjectInUse`, an `AccountError`, or an `EngineError`.
        """
        root = await self.ensure_root()
        who = await self._who(person.name)
        async with self.locks.of_person(person.name):
            mine = await in_thread(lambda: person_folder(root, person.name) / MY_FILES)
            await self._own(person.name, who, mine)
            return await on_disk(lambda: ensure_my_files(root, person.name, self._limits(who)))

    async def _who(self, person: str) -> Identity:
        """As whom the person's servers run. Raises an `AccountError`."""
        return await in_thread(lambda: identity_of(fresh(self._settings), person))

    def _limits(self, who: Identity | None = None) -> Limits:
        return limits_for(fresh(self._settings), who)

    async def _own(self, person: str, who: Identity, folder: Path) -> None:
        """Let a folder be of as whom the person's servers run, if it was of as whom they ran before.

        Raises `ProjectFailed` if it is a stranger's, `ProjectInUse`, or an `EngineError`.
        """
        old = await choose_former(fresh(self._settings), person, folder, who)
        if old is None:
            return
        refuse_if_open(folder, await self._engine.containers())
        done = await hand_over(folder, old, who)
        said = f"{old.uid} to {who.uid}: {done.changed} files, {done.left + done.linked} left"
        await self._store.audit("service", "project.owner", str(folder), said)

    async def list(self, person: Person) -> list[ProjectView]:
        """The person's own projects, by id, with their sizes as they were measured last."""
        sizes = await self._store.sizes(person.name)
        return [project_view(row, sizes.get(row.path)) for row in await self._rows(person.name)]

    async def find(self, person: Person, identifier: str) -> ProjectRow:
        """One of the person's own projects: the commit and image that it belongs to. Raises `NotFound`."""
        for row in await self._rows(person.name):
            if row.id == identifier:
                return row
        raise _no_project(identifier)

    async def _take(
        self,
        person: Person,
        who: Identity,
        request: PrepareRequest,
        image: ImageFacts,
        subdir: str,
        lease: str,
    ) -> ProjectRow | None:
        """The project that is meant, from now on kept for this start; None if it is to be made."""
        async with self.locks.of_person(person.name):
            project = choose(await self._rows(person.name), request, subdir)
            if project is None:
                return None
            await self._own(person.name, who, Path(project.path))
            # First the leases: one is given back when its server's container is there, which is seen then.
            leases = await self._store.leases()
            found = uses(project.path, await self._engine.containers(), leases)
            others = of_other_images(found, image.id, f"{person.name}/{request.server}")
            if others:
                raise ProjectInUse(
                    f"The project {project.id} is open in {others[0].shown} with another image of its "
                    "repository, and the files of one environment do not fit two.",
                    f"Stop {others[0].shown} first, or start a second project (`new`).",
                )
            if lease:
                await self._store.lease_project(lease, project.path)
            await self._store.use_project(person.name, project.id, image.id)
        return project

    # -- what is there --------------------------------------------------------------------------------

    async def _rows(self, owner: str) -> Rows:
        """What is on the disk, with what the store knows of it; what the store lost is put back."""
        known = {row.id: row for row in await self._store.projects(owner)}
        found = []
        for row in await in_thread(lambda: self._read(owner)):
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

    def _read(self, owner: str) -> Rows:
        if self.root.strange:
            return []
        return read_projects(person_folder(self.root.path, owner), owner)

    async def tidy(self, base_image: Callable[[], Awaitable[str]]) -> None:
        """Remove what fills have left that were killed, or could not clean up without Docker.

        `base_image` is asked for only if there is something. Raises `EngineError`.
        """
        if await in_thread(lambda: self.root.ready):
            for owner, staging in await in_thread(lambda: list(unfinished(self.root.path))):
                async with self.locks.of_project(owner, staging.path.parent.name):
                    if staging.path not in self._filling:
                        await self._give_up(await base_image(), staging.path.parent, staging)
            await self._engine.remove_strays("fill")

    # -- making one -----------------------------------------------------------------------------------

    async def _fill(
        self,
        owner: str,
        who: Identity,
        identifier: str,
        request: PrepareRequest,
        image: ImageFacts,
        base_image: str,
        subdir: str,
    ) -> ProjectRow:
        limits = self._limits(who)
        if os.geteuid() not in (0, limits.uid):
            raise ProjectFailed(
                f"Servers run as user {limits.uid}, and user {os.geteuid()} cannot make folders for them.",
                "Leave `servers.uid` out of the settings, or run as root.",
            )
        made: list[Path] = []
        try:
            await on_disk(lambda: made.append(self._make_folder(owner, identifier, request, subdir)))
            for left in await on_disk(lambda: stagings(made[0])):
                await clear(self._engine, base_image, self._limits(), left)
        except BaseException:
            for each in made:
                await on_disk(lambda: remove_unfinished(each))  # noqa: B023  # awaited within its turn
            raise
        folder = made[0]
        staging = new_staging(folder)
        self._filling.add(staging.path)
        try:
            sender = self._limits()
            await on_disk(lambda: make_staging(staging, limits, sender))
            filled = await fill(
                self._engine,
                image,
                base_image,
                limits,
                staging,
                sender=sender,
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
            await on_disk(lambda: _finish(folder, staging, project, name, filled.skipped_names))
        except BaseException:
            await self._give_up(base_image, folder, staging)
            raise
        finally:
            self._filling.discard(staging.path)
        log.info("filled %s: %d entries, %d bytes", project.path, filled.entries, filled.bytes)
        if filled.skipped:
            log.warning(
                "%s: %d not copied: %s", project.path, filled.skipped, "; ".join(filled.skipped_names)
            )
        await self._record(project)
        await self._store.audit(owner, "project.create", f"{owner}/{project.id}", project.spec)
        await self._store.set_size(_size_of(project, filled))
        return project

    def _make_folder(self, owner: str, identifier: str, request: PrepareRequest, subdir: str) -> Path:
        """The project's folder, ours alone and with nothing finished in it."""
        theirs = ensure_person_folder(self._settings.storage_root, owner)
        folder = theirs / identifier
        while os.path.lexists(folder / HOME) or _is_of_another(folder, owner, request.repository, subdir):
            folder = theirs / further_project_id(request.repository, subdir)
        make_private(folder)
        return folder

    async def _give_up(self, base_image: str, folder: Path, staging: Staging) -> None:
        """Remove what a failed fill has left; where that fails as well, `tidy` does it later."""
        if not await in_thread(lambda: os.path.lexists(staging.path)):
            return  # it was finished after all, and only then cancelled
        try:
            await clear(self._engine, base_image, self._limits(), staging)
            await on_disk(lambda: remove_unfinished(folder))
        except BinderError as error:
            log.warning("%s is not removed yet: %s", staging.path, error)


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
    home = folder / HOME
    # A deleted project that was brought back into this folder while it was still empty has its own marker.
    if os.path.lexists(home):
        raise ProjectFailed(f"{home} came into being meanwhile.", "Start again: it is used then.")
    write_marker(folder, project, image_name, skipped)
    staging.home.rename(home)
    sync_folder(folder)
    with suppress(OSError):
        remove_empty(staging)


def _is_of_another(folder: Path, owner: str, repository: str, subdir: str) -> bool:
    """Whether a folder of this name holds somebody else's or something else's project: short hashes can
    be ground.
    """
    found = read_project(folder)
    return found is not None and (found.owner, found.repository, found.subdir) != (owner, repository, subdir)


def _no_project(identifier: str) -> NotFound:
    return NotFound(f"You have no project {identifier!r:.90}.", "See your projects on the front page.")


def _size_of(project: ProjectRow, filled: Filled) -> SizeRow:
    """What was copied is what it occupies, until it is measured."""
    return SizeRow(project.path, project.owner, filled.bytes, filled.entries, True, 0.0, utc_now())


def project_view(row: ProjectRow, size: SizeRow | None = None) -> ProjectView:
    """A project as it is told to its person; its size as far as it was measured."""
    return ProjectView(
        id=row.id,
        owner=row.owner,
        repository=row.repository,
        spec=row.spec,
        commit=row.commit,
        created=row.created,
        last_used=row.last_used,
        title=row.title,
        size_bytes=size.bytes if size else None,
        size_whole=size.whole if size else True,
        measured=size.measured if size else "",
    )
