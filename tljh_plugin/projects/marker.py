"""`project.json`: what a project is, written beside its files, and the truth if the store was lost.

A project is complete if its folder holds both the marker and `home`; the marker is written first, and
`home` gets its name last, in one rename.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..store import ProjectRow

MARKER = "project.json"
HOME = "home"

_VERSION = 1
_TEXTS = ("id", "owner", "repository", "spec", "commit", "subdir", "image_id", "created")
_LONGEST = 64 * 1024  # bytes of a marker


def write_marker(folder: Path, project: ProjectRow, image_name: str, skipped: list[str]) -> None:
    """Write the marker whole or not at all, and have it on the disk."""
    known = asdict(project)
    content = {
        "version": _VERSION,
        **{name: known[name] for name in _TEXTS},
        "image_name": image_name,
        "skipped": skipped,
    }
    _write(folder, content)


def change_marker(folder: Path, **changes: str) -> None:
    """Give a project another `title` or `id`; what else the marker says stays. Raises `OSError`."""
    _write(folder, {**_read(folder), **changes})


def _write(folder: Path, content: dict[str, Any]) -> None:
    draft = folder / f".{MARKER}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / MARKER)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(folder: Path) -> dict[str, Any]:
    with (folder / MARKER).open("rb") as file:
        content = json.loads(file.read(_LONGEST))
    if not isinstance(content, dict):
        raise ValueError("a marker is an object")
    return content


def read_project(folder: Path, *, deleted: bool = False) -> ProjectRow | None:
    """The complete project in a folder, or `None`; `home` must be a folder, not a link to one.

    The folder of a `deleted` one is called otherwise than the project.
    """
    try:
        content = _read(folder)
        is_folder = stat.S_ISDIR((folder / HOME).lstat().st_mode)
        texts = {name: content[name] for name in _TEXTS} | {"title": content.get("title", "")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if (
        not is_folder
        or not all(isinstance(each, str) for each in texts.values())
        or (texts["id"] != folder.name and not deleted)
    ):
        return None
    return ProjectRow(**texts, path=str(folder / HOME))


def read_projects(person_folder: Path, owner: str) -> list[ProjectRow]:
    """All complete projects of one person, by id; those of somebody else in the same folder are not
    theirs.
    """
    try:
        folders = sorted(entry for entry in person_folder.iterdir() if not entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (read_project(folder) for folder in folders)
    return [project for project in found if project is not None and project.owner == owner]
