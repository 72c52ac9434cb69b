"""After a start: what the kernel has mounted in the container, against what Docker was asked for.

Docker's own answer is what it was told. The kernel's list says which folder is really there: if somebody
swapped one for a link between our look and Docker's, the list names another folder, and the caller stops the
server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.threads import in_thread
from ..errors import MountsDiffer, MountUnsafe
from .host_folders import Folder, MountLine

_PROC = Path("/proc")
# Docker makes these in every container; it mounts no folder of the machine there, and neither do we.
_DOCKERS_OWN = ("/proc", "/sys", "/dev")
_FILES = ("hostname", "hosts", "resolv.conf")
_GONE = "//deleted"


@dataclass(frozen=True, slots=True)
class Asked:
    """A mount that Docker was asked for, and where the kernel had its folder when we looked."""

    folder: Folder
    target: str
    read_only: bool


def lines_of(inspect: Mapping[str, Any], proc: Path = _PROC) -> list[MountLine] | None:
    """The mounts of a running container's first process; None if /proc does not show that process.

    The list needs no rights, unlike most of /proc/PID, so that it works on a desktop too. Docker's files with
    the container's id in their path prove that it is the right process.
    """
    place = proc / str((inspect.get("State") or {}).get("Pid") or "none") / "mountinfo"
    try:
        text = place.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    lines = [MountLine.parse(line) for line in text.splitlines()]
    return lines if any(_is_dockers_file(each, str(inspect["Id"])) for each in lines) else None


def differences(lines: Sequence[MountLine], asked: Sequence[Asked], inspect: Mapping[str, Any]) -> list[str]:
    """Where the kernel's list is another than what was asked for; empty if nowhere. Pure."""
    found = []
    for each in asked:
        there = [line for line in lines if line.place == each.target]
        if not there:
            found.append(f"nothing is mounted at {each.target}")
        elif len(there) > 1:
            found.append(f"{len(there)} things are mounted at {each.target}, one over the other")
        else:
            found.extend(_difference(there[0], each))
    targets = {each.target for each in asked}
    for line in lines:
        if line.place not in targets and not _is_dockers(line, inspect):
            found.append(f"{line.root} is mounted at {line.place}, which nobody asked for")
    return found


async def check(inspect: Mapping[str, Any], asked: Sequence[Asked], *, must_see: bool) -> bool:
    """Whether the kernel shows what was asked for; False where it shows nothing and that is no fault.

    Raises `MountsDiffer` with every difference, and `MountUnsafe` if it shows nothing and `must_see`.
    """
    lines = await in_thread(lambda: lines_of(inspect))
    if lines is None:
        if must_see:
            raise MountUnsafe(
                "The kernel's list of the server's mounts cannot be read, so nobody can say which folders it "
                "really has.",
                "Start it without mounts, or let the hub run on this machine itself, with /proc not hidden.",
            )
        return False
    found = differences(lines, asked, inspect)
    if found:
        raise MountsDiffer(
            f"The server got other folders than it was to get: {'; '.join(found)}.",
            "The server was stopped. Somebody may have swapped a folder while it started, or the image has a "
            "link where the mount would be: tell the administrator.",
        )
    return True


def _difference(line: MountLine, asked: Asked) -> list[str]:
    found = []
    if (line.device, line.root) != (asked.folder.device, asked.folder.root):
        where = f"{line.root.removesuffix(_GONE)} of the file system {line.device}"
        found.append(f"at {asked.target} is {where}, not {asked.folder.path}")
    if line.read_only is not asked.read_only:
        is_so, wanted = ("only read", "written") if line.read_only else ("written", "only read")
        found.append(f"{asked.target} can be {is_so}, and was to be {wanted}")
    return found


def _is_dockers(line: MountLine, inspect: Mapping[str, Any]) -> bool:
    """Whether Docker mounts it by itself: the image, the kernel's file systems, its own files and volumes."""
    if line.place == "/" or any(
        line.place == own or line.place.startswith(f"{own}/") for own in _DOCKERS_OWN
    ):
        return True
    if _is_dockers_file(line, str(inspect["Id"])):
        return True
    if line.place.endswith("/docker-init") and line.read_only:
        return True
    # Anonymous volumes come from a VOLUME line of the image; that there are no others is checked elsewhere.
    volumes = [each.get("Name") for each in inspect.get("Mounts") or () if each.get("Type") == "volume"]
    return any(name and line.root.endswith(f"/volumes/{name}/_data") for name in volumes)


def _is_dockers_file(line: MountLine, container: str) -> bool:
    return any(line.root.endswith(f"/containers/{container}/{name}") for name in _FILES)
