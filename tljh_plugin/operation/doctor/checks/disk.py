"""Room on the disks, and the folder of people's files."""

from __future__ import annotations

import os
from pathlib import Path

from ....amounts import shown_bytes
from ....cache.filesystems import Place, existing, filesystems
from ....engine.threads import in_thread
from ....errors import EngineError
from ....projects.root import StorageRoot
from ....store.examination import has_projects
from ..findings import CannotCheck, Verdict, note, ok, problem, warning
from ..registry import check
from ..site import Site

_LEAST_BYTES = 64 * 1024**2  # for the store, logs and what people save
_FULL_PERCENT = 95.0
_FEW_INODES, _NO_INODES = 0.10, 0.02
_HOLDS: dict[Place, str] = {"docker": "images", "state": "the state folder", "projects": "people's files"}


@check("disk", "Disk", "Room on the disk")
async def disk(site: Site) -> list[Verdict]:
    """The free bytes where Docker's folder, the state folder and people's files are, against
    `build.disk_reserve_bytes` and `disk.warn_percent`.
    """
    places = await _places(site)
    found = await in_thread(lambda: filesystems(places))
    return [_room(site, each.path, each.holds, each.usage.free, each.usage.percent) for each in found]


def _room(site: Site, path: str, holds: tuple[Place, ...], free: int, percent: float) -> Verdict:
    what = " and ".join(_HOLDS[each] for each in holds)
    seen = {"free": shown_bytes(free), "used_percent": f"{percent:.0f}", "holds": what}
    reserve = site.settings.build.disk_reserve_bytes
    if free < _LEAST_BYTES:
        return problem(
            f"The disk {path} is full ({shown_bytes(free)} free), where {what} are: nothing can be saved.",
            "Free some bytes at once: `littlest-binder erase`, or remove what is large and not needed.",
            about=path,
            seen=seen,
        )
    if "docker" in holds and free < reserve:
        return problem(
            f"The disk {path} has {shown_bytes(free)} free, less than `binder.build.disk_reserve_bytes` "
            f"({shown_bytes(reserve)}): nothing is built.",
            "`littlest-binder disk` says who occupies it, `littlest-binder erase` frees it.",
            about=path,
            seen=seen,
        )
    most = min(_FULL_PERCENT, site.settings.disk.warn_percent)
    if percent >= most:
        return warning(
            f"The disk {path} is {percent:.0f} % full, where {what} are.",
            "`littlest-binder disk` says who occupies it; `binder.retention` lets images go by themselves.",
            about=path,
            seen=seen,
        )
    return ok(about=path, seen=seen)


@check("inodes", "Disk", "Files that the disk can hold")
async def inodes(site: Site) -> list[Verdict]:
    """The free inodes of the same disks: images of many small files use them up before the bytes."""
    places = await _places(site)
    return await in_thread(lambda: [_inodes(each.path) for each in filesystems(places)])


def _inodes(path: str) -> Verdict:
    figures = os.statvfs(path)
    if not figures.f_files:  # btrfs and others make them as needed
        return ok("This filesystem has no limit.", about=path)
    part = figures.f_favail / figures.f_files
    seen = {"free": str(figures.f_favail), "of": str(figures.f_files)}
    if part < _FEW_INODES:
        say = problem if part < _NO_INODES else warning
        return say(
            f"The disk {path} can hold only {figures.f_favail} more files, {100 * part:.0f} % of what it is "
            "made "
            "for: it is full before its bytes are used.",
            "Erase images that nobody needs; for good, make the filesystem anew with more inodes "
            "(`mkfs.ext4 -N`), "
            "or as xfs.",
            about=path,
            seen=seen,
        )
    return ok(about=path, seen=seen)


@check("storage-root", "Disk", "The folder of people's files")
def storage_root(site: Site) -> Verdict:
    """Whether the folder of `binder.storage.root` is the one that was made for them, by its marker, and
    ours.
    """
    if not site.made:
        raise CannotCheck("Nothing was started here yet.")
    root = StorageRoot(site.settings, site.instance)
    seen = {"folder": str(root.path), "marker": "there" if root.ready else "missing"}
    wrong = root.problem(has_projects(site.settings.store_path))
    if wrong is not None:
        return problem(f"{wrong.message} No server that keeps files starts.", wrong.next_step, seen=seen)
    if not root.path.exists():
        return note("It is made with the first project.", seen=seen)
    facts = root.path.stat()
    if facts.st_uid not in (os.geteuid(), site.state.stat().st_uid):
        return problem(
            f"{root.path} belongs to user {facts.st_uid}, and the service does not run as that: projects "
            "are not "
            "made.",
            f"Run `chown {site.state.stat().st_uid} {root.path}`.",
            seen=seen,
        )
    return ok(seen=seen)


async def _places(site: Site) -> dict[Place, Path]:
    places: dict[Place, Path] = {}
    try:
        root = Path((await site.docker()).root_dir)
        if await in_thread(root.exists):
            places["docker"] = root
    except EngineError:
        pass  # without Docker its disk cannot be found; the others can
    places["state"] = existing(site.state)
    places["projects"] = existing(site.settings.storage_root)
    return places
