"""The folder of one person below the root: `<root>/<person>/`, ours alone.

It holds their projects, the deleted ones, and `my-files`. Its name is readable and ends with a short hash,
which can be ground; so a marker in it carries the whole name, and a person whose folder's name is taken gets
the next one.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import ProjectFailed
from .marker import read_project, sync_folder
from .names import person_slug

PERSON_MARKER = "person.json"
MY_FILES = "my-files"

_VERSION = 1


def person_folder(root: Path, name: str) -> Path:
    """The folder of a person, whether it is there or not; never that of somebody else."""
    slug = person_slug(name)
    for number in count(1):
        folder = root / (slug if number == 1 else f"{slug}-{number}")
        if owner_of(folder) in ("", name):
            return folder
    raise AssertionError("unreachable")


def ensure_person_folder(root: Path, name: str) -> Path:
    """The folder of a person, made if it is not there; the root must exist. Raises `ProjectFailed`,
    `OSError`.
    """
    folder = person_folder(root, name)
    make_private(folder)
    if not (folder / PERSON_MARKER).exists():
        _write(folder, {"version": _VERSION, "name": name})
        if owner_of(folder) != name:  # somebody of a name that is alike was faster
            return ensure_person_folder(root, name)
    return folder


def people(root: Path) -> Iterator[tuple[str, Path]]:
    """Everybody who has a folder, and the folder."""
    try:
        entries = sorted(root.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for folder in entries:
        if folder.is_dir() and not folder.is_symlink() and (name := owner_of(folder)):
            yield name, folder


def owner_of(folder: Path) -> str:
    """Whose folder it is; empty if nobody's yet.

    One without a marker is from before there were any: its projects tell.
    """
    try:
        content = json.loads((folder / PERSON_MARKER).read_text(encoding="utf-8"))
        return str(content["name"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return next((found.owner for found in map(read_project, entries) if found is not None), "")


def make_private(folder: Path) -> None:
    """A folder that only we can look into; what stands there instead is refused with `ProjectFailed`."""
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


def _write(folder: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, and never over one that is there."""
    draft = folder / f".{PERSON_MARKER}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=True)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, folder / PERSON_MARKER)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    sync_folder(folder)
