"""Looking for a folder on a desktop: step by step from the allowed roots, nothing else is ever listed."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import MountError, MountMissing, MountUnsafe
from ..settings import Settings
from . import grants
from .host_folders import Folder, look
from .mounts import hidden_part
from .resolving import Surroundings, check_picked, surroundings

_MOST = 1000


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder, the folders in it, and the way back to a root. `problem` says why it cannot be picked itself.

    `trail` are the folders from a root to this one; `more` tells that not all are listed.
    """

    path: str
    trail: tuple[str, ...]
    names: tuple[str, ...]
    problem: str
    more: bool = False


@dataclass(frozen=True, slots=True)
class Root:
    """A folder at which looking may begin; `problem` says why nothing in it can be picked."""

    path: str
    problem: str = ""


def beginnings(settings: Settings, docker_root: str) -> list[Root]:
    """The roots that are there. One that is a place of the system, such as root's home, tells so at once."""
    around = surroundings(settings, docker_root)
    found = []
    for path in roots(settings):
        problem = ""
        try:
            folder = look(path, links=False)
            check_picked(folder, around)
        except MountMissing as error:
            problem = str(error)
        except MountError as error:
            problem = "" if _contains(folder, around) else str(error)
        found.append(Root(path, problem))
    return found


def roots(settings: Settings) -> list[str]:
    """The roots that are there, by their real paths."""
    found = []
    for root in settings.mount_roots:
        path = os.path.realpath(root)
        if os.path.isdir(path) and path not in found:
            found.append(path)
    return found


def browse(settings: Settings, path: str, docker_root: str) -> Listing:
    """What is in a folder at or below a root; links and hidden folders are left out. Raises `MountError`."""
    folder = look(path, links=False)
    around = surroundings(settings, docker_root)
    trail = _trail(settings, folder)
    problem = ""
    try:
        check_picked(folder, around)
    except MountError as error:
        if not _contains(folder, around):
            raise
        problem = str(error)
    try:
        with os.scandir(folder.path) as entries:
            names = sorted(
                each.name
                for each in entries
                if not each.name.startswith(".") and each.is_dir(follow_symlinks=False)
            )
    except OSError as error:
        raise MountMissing(f"{path} cannot be listed: {error.strerror}.", "Pick another folder.") from None
    shown = tuple(name for name in names if _is_text(name))
    return Listing(folder.path, trail, shown[:_MOST], problem, more=len(shown) > _MOST)


def pick(settings: Settings, path: str, access: grants.Access, docker_root: str) -> grants.Grant:
    """Let the person of a desktop have a folder below a root. Raises `MountError`, `SettingsError`."""
    folder = look(path, links=False)
    check_picked(folder, surroundings(settings, docker_root))
    return grants.add(settings.grants_path, folder.path, access)


def _trail(settings: Settings, folder: Folder) -> tuple[str, ...]:
    for root in roots(settings):
        inside = os.path.relpath(folder.path, root)
        if inside != ".." and not inside.startswith("../") and not hidden_part(inside):
            steps = [] if inside == "." else inside.split("/")
            return tuple(os.path.join(root, *steps[:count]) for count in range(len(steps) + 1))
    shown = ", ".join(roots(settings)) or "none"
    raise MountUnsafe(
        f"{folder.path} is not below the folders from which you may pick (`binder.desktop.mount_roots`: "
        f"{shown}).",
        "Begin at one of them.",
    )


def _contains(folder: Folder, around: Surroundings) -> bool:
    """Whether it is only not to be picked since something of ours is further down."""
    return not any(place.chain[-1] in folder.chain for place in around.protected)


def _is_text(name: str) -> bool:
    """Names that are no text, or with braces, could not be asked for."""
    return name.isprintable() and not {"{", "}"} & set(name)
