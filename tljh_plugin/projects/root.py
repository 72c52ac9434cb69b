"""The root of people's files, and how we know that it is the right one.

The root carries a marker with the id of the installation that made it, and the state folder remembers that
there is one. A root without its marker is a data disk that was not mounted, or a setting that was changed:
nothing is made in it, until an administrator says that it is new (`littlest-binder storage adopt`).
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ProjectFailed, StorageMissing
from ..settings import Settings
from .marker import MARKER, sync_folder

ROOT_MARKER = ".littlest-binder-storage"
RECORD = "storage.json"

_VERSION = 1
_ADOPT = "`littlest-binder storage adopt`"


@dataclass(frozen=True, slots=True)
class Found:
    """What is at the place of the root: whether it is a folder of ours, whose marker it has (empty: none),
    and whether projects are in it.
    """

    folder: bool
    marked_by: str = ""
    projects: bool = False


class StorageRoot:
    """The root of one installation. Everything here looks at the disk: run it in a thread."""

    def __init__(self, settings: Settings, instance: str) -> None:
        self.path = settings.storage_root
        self._is_default = not settings.storage.root
        self._record = settings.state_dir / RECORD
        self._instance = instance

    def ensure(self, has_projects: bool) -> Path:
        """The root, made if there never was one; `has_projects`: the store knows of files that were kept.

        Raises `StorageMissing` if it is not the one that was made, `ProjectFailed` if the disk refuses.
        """
        if self.ready:
            self._remember()
            return self.path
        problem = self.problem(has_projects)
        if problem is not None:
            raise problem
        self.adopt()
        return self.path

    def problem(self, has_projects: bool) -> StorageMissing | None:
        """Why files cannot be reached now, if they cannot; changes nothing."""
        # Before the look, since whoever makes it marks it first: what is remembered has its marker by then.
        remembered = self._remembered()
        found = _look(self.path)
        if found.marked_by == self._instance:
            return None
        return judge(found, self.path, remembered, has_projects, self._is_default)

    @property
    def strange(self) -> bool:
        """Whether it holds another installation's files."""
        return _look(self.path).marked_by not in ("", self._instance)

    @property
    def ready(self) -> bool:
        """Whether it is there, with our marker."""
        return _look(self.path).marked_by == self._instance

    def adopt(self) -> None:
        """Make it, or take the folder that is there, whatever was at other places; nothing in it is changed.

        Raises `StorageMissing` if the folder above it does not exist, `ProjectFailed` if the disk refuses.
        """
        try:
            if not self.path.parent.is_dir() and not self._is_default:
                raise _no_place(self.path)
            self.path.mkdir(mode=0o700, parents=self._is_default, exist_ok=True)
            facts = self.path.stat()
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
                raise ProjectFailed(
                    f"{self.path} is not a folder of user {os.geteuid()}.",
                    "Give it to that user, or let `storage.root` name another folder.",
                )
            if stat.S_IMODE(facts.st_mode) & 0o022:
                raise ProjectFailed(
                    f"{self.path} can be written by others (mode {stat.S_IMODE(facts.st_mode):o}).",
                    f"Take that right away (`chmod go-w {self.path}`), or let `storage.root` name another "
                    "folder.",
                )
            _write(self.path / ROOT_MARKER, {"version": _VERSION, "installation": self._instance})
            self._remember()
        except OSError as error:
            raise ProjectFailed(
                f"The disk refused to make {self.path} the folder of people's files: {error.strerror} "
                f"({error.filename}).",
                "Check the owner of `storage.root` and the free disk.",
            ) from error

    def _remembered(self) -> str:
        """The path of the root that was made or adopted last; empty if there never was one."""
        return str(_read(self._record).get("root", ""))

    def _remember(self) -> None:
        if self._remembered() != str(self.path):
            self._record.parent.mkdir(parents=True, exist_ok=True)
            _write(self._record, {"version": _VERSION, "root": str(self.path)})


def judge(
    found: Found, path: Path, remembered: str, has_projects: bool, is_default: bool
) -> StorageMissing | None:
    """What speaks against making, or going on with, a root that lacks our marker; None if nothing does."""
    if found.marked_by:
        return StorageMissing(
            f"{path} holds the files of another installation ({found.marked_by}).",
            f"Mount the right disk; or, if this installation is to go on with those files, run {_ADOPT}.",
        )
    if remembered and remembered != str(path):
        return StorageMissing(
            f"People's files were kept in {remembered}, and `storage.root` now names {path}, which has none.",
            f"Move the folder there with all that is in it, set `storage.root` back, or, to begin with an "
            f"empty one, run {_ADOPT}.",
        )
    # Files without a marker are from before there were markers, if nothing says otherwise.
    if remembered or (has_projects and not found.projects):
        return StorageMissing(
            f"{path} is not the folder in which people's files were kept: its marker `{ROOT_MARKER}` is "
            "missing.",
            "Its disk is probably not mounted: mount it and start again, nothing is lost. Only if it is "
            f"really a new and empty disk, run {_ADOPT}.",
        )
    if not found.folder and not is_default and not path.parent.is_dir():
        return _no_place(path)
    return None


def _no_place(path: Path) -> StorageMissing:
    return StorageMissing(
        f"`storage.root` names {path}, and {path.parent} does not exist.",
        "Mount its disk, or make that folder.",
    )


def _look(path: Path) -> Found:
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        is_folder = False
    if not is_folder:
        return Found(folder=False)
    marked_by = str(_read(path / ROOT_MARKER).get("installation", ""))
    return Found(True, marked_by, bool(marked_by) or _has_projects(path))


def _has_projects(path: Path) -> bool:
    return any(True for _ in path.glob(f"*/*/{MARKER}"))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, and on the disk."""
    draft = path.with_name(f".{path.name.lstrip('.')}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)
