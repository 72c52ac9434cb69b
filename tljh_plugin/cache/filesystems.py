"""Filesystems: how full they are, and which of our folders lie on which."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Place = Literal["docker", "state", "projects"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of a filesystem. `total` is `used` and `free` together, as `df` reckons its percents: what only
    root may fill is in neither.
    """

    total: int
    used: int
    free: int

    @property
    def percent(self) -> float:
        return 100 * self.used / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A filesystem that holds something of ours."""

    path: str
    holds: tuple[Place, ...]
    usage: Usage


def usage_of(path: str | Path) -> Usage:
    """How full the filesystem of a path is. Raises `OSError`."""
    figures = os.statvfs(path)
    used = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
    free = figures.f_bavail * figures.f_frsize
    return Usage(used + free, used, free)


def filesystems(places: Mapping[Place, Path]) -> tuple[Filesystem, ...]:
    """The filesystems of these folders, in their order, each once; a folder that is still to be made counts
    as lying in the nearest one above it that is there. Raises `OSError`.
    """
    found: dict[int, tuple[Path, list[Place]]] = {}
    for place, folder in places.items():
        there = existing(folder)
        found.setdefault(there.stat().st_dev, (there, []))[1].append(place)
    return tuple(
        Filesystem(str(mount_point(there)), tuple(held), usage_of(there)) for there, held in found.values()
    )


def existing(folder: Path) -> Path:
    """The folder itself or the nearest one above it that is there, without links."""
    there = Path(os.path.realpath(folder))
    while not there.exists():
        there = there.parent
    return there


def mount_point(folder: Path) -> Path:
    """Where the filesystem of a folder is mounted, as far as its device tells: of a folder that is mounted
    within its own filesystem, that of the filesystem.
    """
    device = folder.stat().st_dev
    while folder.parent != folder and folder.parent.stat().st_dev == device:
        folder = folder.parent
    return folder
