"""Deleted projects: moved into `<person>/.deleted/` in one rename, brought back in one, removed later.

The name of such a folder is `<project>.<moment>`, the time of the deletion in UTC, so that the disk alone
says how long it is kept. What is being removed for good is called `.removing-…` first: it cannot be brought
back any more, and whoever finds it goes on removing it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..engine.threads import in_thread
from ..errors import ProjectFailed
from ..store import ProjectRow
from .marker import HOME, change_marker, read_project, sync_folder
from .names import further_project_id
from .people import make_private

ARCHIVE = ".deleted"

_REMOVING = ".removing-"
_STAGING = ".filling-"
_MOMENT = "%Y%m%dt%H%M%S%f"
_NAME = re.compile(r"[a-z0-9-]+\.(\d{8}t\d{12})")


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deleted project: `row.id` is the name of its folder, `project` the id that it had. Times are UTC."""

    row: ProjectRow
    project: str
    deleted: datetime

    @property
    def folder(self) -> Path:
        return Path(self.row.path).parent

    def until(self, days: float) -> datetime:
        """Until when it can be brought back."""
        return self.deleted + timedelta(days=days)


def archive_name(project: str, moment: datetime) -> str:
    """The name of a deleted project's folder."""
    return f"{project}.{moment.astimezone(timezone.utc).strftime(_MOMENT)}"


def deleted_at(name: str) -> datetime | None:
    """When the project of such a folder was deleted; None for another name."""
    found = _NAME.fullmatch(name)
    try:
        return datetime.strptime(found[1], _MOMENT).replace(tzinfo=timezone.utc) if found else None
    except ValueError:
        return None


def read_deleted(person_folder: Path, owner: str) -> list[Deleted]:
    """The person's deleted projects, newest first."""
    found = []
    for folder in _entries(person_folder / ARCHIVE):
        moment = deleted_at(folder.name)
        row = read_project(folder, deleted=True) if moment else None
        if moment is not None and row is not None and row.owner == owner:
            found.append(Deleted(_renamed(row, folder), row.id, moment))
    return sorted(found, key=lambda each: each.deleted, reverse=True)


def put_away(project: ProjectRow, now: datetime) -> ProjectRow:
    """Move a project into the archive; what it is there. Raises `OSError`, `ProjectFailed`."""
    folder = Path(project.path).parent
    archive = folder.parent / ARCHIVE
    make_private(archive)
    while os.path.lexists(target := archive / archive_name(project.id, now)):
        now += timedelta(milliseconds=1)
    folder.rename(target)
    _sync(archive, folder.parent)
    return _renamed(project, target)


def bring_back(deleted: Deleted) -> ProjectRow:
    """Move a deleted project back, under another id if its own is taken by now. Raises `OSError`."""
    person_folder = deleted.folder.parents[1]
    identifier = deleted.project
    while True:
        while os.path.lexists(person_folder / identifier):
            identifier = further_project_id(deleted.row.repository, deleted.row.subdir)
        if identifier != deleted.project:
            # First, since a project whose marker says another id than its folder's name is none.
            change_marker(deleted.folder, id=identifier)
        target = person_folder / identifier
        try:
            deleted.folder.rename(target)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else one was begun there meanwhile
                raise
    _sync(person_folder, deleted.folder.parent)
    row = read_project(target)
    if row is None:
        raise ProjectFailed(
            f"{target} was brought back, but it is no project any more.", f"Look at `{target}` by hand."
        )
    return row


def give_up(deleted: Deleted) -> Path:
    """From here on a deleted project is on its way out; the folder that is to be removed."""
    target = deleted.folder.with_name(f"{_REMOVING}{deleted.folder.name}")
    deleted.folder.rename(target)
    _sync(target.parent)
    return target


def given_up(person_folder: Path) -> list[Path]:
    """What is to be removed, or is half removed."""
    return [each for each in _entries(person_folder / ARCHIVE) if each.name.startswith(_REMOVING)]


async def remove(folder: Path, empty: Callable[[Path], Awaitable[None]]) -> None:
    """Remove a project's folder; `empty` removes what is in a folder of the servers' user, as that user.

    Can be repeated after a crash at any point. Raises `ProjectError`, `OSError`.
    """
    for home in await in_thread(lambda: _homes(folder)):
        await empty(home)
    await in_thread(lambda: _take_down(folder))


def _homes(folder: Path) -> list[Path]:
    """The folders in it that belong to the servers' user: its home, and what broken-off fills have left."""
    places = [folder, *(each for each in _entries(folder) if each.name.startswith(_STAGING))]
    return [each / HOME for each in places if _is_folder(each / HOME)]


def _take_down(folder: Path) -> None:
    """Remove a project's folder whose homes are empty."""
    if not _is_folder(folder):
        return
    for entry in sorted(folder.iterdir()):
        if not _is_folder(entry):
            entry.unlink(missing_ok=True)
            continue
        if entry.name.startswith(_STAGING):
            (entry / "pipe").unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                (entry / HOME).rmdir()
        entry.rmdir()
    folder.rmdir()
    _sync(folder.parent)


def _renamed(row: ProjectRow, folder: Path) -> ProjectRow:
    return replace(row, id=folder.name, path=str(folder / HOME))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if not each.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sync(*folders: Path) -> None:
    for each in folders:
        sync_folder(each)
