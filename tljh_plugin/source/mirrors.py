"""The stored copies of repositories as a whole: which there are, when each was used last, and their removal.

A copy is only taken away while nobody works on it; the next fetch of its repository makes it anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

_GONE = "gone-"


@dataclass(frozen=True)
class StoredMirror:
    """A stored copy of a repository; `used` is when it was fetched from or into last, in UTC."""

    folder: Path
    used: datetime


def stored(root: Path) -> list[StoredMirror]:
    """All below the folder of mirrors, the one that is unused for longest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for folder in root.iterdir():
            if folder.name.startswith(_GONE) or folder.is_symlink() or not folder.is_dir():
                continue
            used = _used(folder)
            if used is not None:
                found.append(StoredMirror(folder, used))
    return sorted(found, key=lambda each: (each.used, each.folder))


def unneeded(
    mirrors: Iterable[StoredMirror], needed: Collection[str], unused_days: float, now: datetime
) -> list[StoredMirror]:
    """Those that no image needs (`needed` are names of folders) and that were not used for so many days."""
    before = now - timedelta(days=unused_days)
    return [each for each in mirrors if each.folder.name not in needed and each.used <= before]


def remove(mirror: StoredMirror) -> int | None:
    """Take one away, and return the bytes that it occupied; None if somebody uses it, or did meanwhile.

    Raises `OSError`.
    """
    gone = mirror.folder.with_name(_GONE + secrets.token_hex(8))
    try:
        descriptor = os.open(mirror.folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _used(mirror.folder) != mirror.used:
            return None
        # Who waits for the lock finds another one under its name afterwards, see `Mirror.held`.
        mirror.folder.rename(gone)
    except BlockingIOError:
        return None
    finally:
        os.close(descriptor)
    occupied = occupied_bytes(gone)
    shutil.rmtree(gone)
    return occupied


def sweep(root: Path) -> None:
    """Take away what a removal that was cut off has left."""
    for folder in root.glob(f"{_GONE}*"):
        shutil.rmtree(folder, ignore_errors=True)


def occupied_bytes(folder: Path) -> int:
    """Allocated bytes of everything below."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


def _used(folder: Path) -> datetime | None:
    """None for what is no mirror, or is just being made."""
    try:
        moments = [(folder / "lock").lstat().st_mtime]
    except FileNotFoundError:
        return None
    with contextlib.suppress(FileNotFoundError):
        moments.append((folder / "state.json").lstat().st_mtime)
    return datetime.fromtimestamp(max(moments), timezone.utc)
