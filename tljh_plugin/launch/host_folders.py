"""Folders of this machine, as the kernel sees them: every step of a path looked at, no link trusted blindly.

Comes in: a path. Goes out: a `Folder`, what it is and where its file system is, or an error that names the
step that is wrong. Nothing is opened for reading; a folder is only held.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from ..errors import MountMissing, MountUnsafe

# A folder's file system and its number in it: the same whatever it is called.
Identity = tuple[int, int]

_MOST_LINKS = 20
_PSEUDO = frozenset(
    ("bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "mqueue", "proc",
     "pstore", "securityfs", "sysfs", "tracefs")
)  # fmt: skip
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is there. `path` has no links in it.

    `chain` are the folders on the way to it, from `/` to itself. `device` (`major:minor`) and `root` are how
    the kernel's lists of mounts name it, `file_system` is its kind.
    """

    path: str
    chain: tuple[Identity, ...]
    device: str
    root: str
    file_system: str = ""
    others_write: bool = False  # whether somebody besides root and us can change what is in it
    owner: int = 0  # the number of the user to whom it belongs

    @property
    def pseudo(self) -> bool:
        """Whether its files are no files but the kernel's own state."""
        return self.file_system in _PSEUDO


def chain_to(path: str) -> tuple[Identity, ...] | None:
    """The folders on the way to what `path` means by whatever links, itself last; None: nothing is there."""
    real = PurePosixPath(os.path.realpath(path))
    try:
        return tuple(_identity(os.stat(each)) for each in (*reversed(real.parents), real))
    except OSError:
        return None


def look(path: str, *, links: bool = True) -> Folder:
    """The folder at an absolute path.

    Links are followed where nobody but root and we could have made them, and not at all without `links`.
    Raises `MountMissing` or `MountUnsafe`.
    """
    with _hold(path, links) as (folder, _):
        return folder


def look_in(path: str, name: str, *, make_for: tuple[int, int] | None = None) -> Folder:
    """The folder `name` in the folder at `path`, which must be no link.

    A missing one is made for the user and group `make_for`, and for them alone. Raises as `look` does.
    """
    with _hold(path, links=True) as (parent, descriptor):
        try:
            return _child(parent, descriptor, name)
        except FileNotFoundError:
            place = os.path.join(parent.path, name)
            if make_for is None:
                raise MountMissing(
                    f"Your folder {place} does not exist.",
                    "Ask the administrator to make it; a mount that is only read makes none.",
                ) from None
            _make(parent, descriptor, name, make_for)
            return _child(parent, descriptor, name)


def _make(parent: Folder, descriptor: int, name: str, owner: tuple[int, int]) -> None:
    """Only where nobody else could put another folder into its place meanwhile."""
    place = os.path.join(parent.path, name)
    may = not parent.others_write and os.geteuid() in (0, owner[0])
    if not may:
        raise MountMissing(
            f"Your folder {place} does not exist, and it is not made where others than root could swap it.",
            f"Ask the administrator to make it (`install -d -o {owner[0]} -g {owner[1]} -m 700 {place}`), "
            f"or to take the right to write in {parent.path} from everybody else.",
        )
    try:
        os.mkdir(name, 0o700, dir_fd=descriptor)
        if os.geteuid() == 0:
            os.chown(name, *owner, dir_fd=descriptor, follow_symlinks=False)
    except FileExistsError:
        return  # another server of the same person was faster
    except OSError as error:
        raise _unreachable(place, error) from None


def _child(parent: Folder, descriptor: int, name: str) -> Folder:
    place = os.path.join(parent.path, name)
    try:
        held = os.open(name, _OPEN, dir_fd=descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreachable(place, error) from None
    try:
        facts = os.fstat(held)
        if stat.S_ISLNK(facts.st_mode):
            raise MountUnsafe(
                f"{place} is a link, and a person's own folder must be a folder.",
                "Ask the administrator to put the folder itself there.",
            )
        return _described(held, place, (*parent.chain, _identity(facts)))
    finally:
        os.close(held)


@contextmanager
def _hold(path: str, links: bool) -> Iterator[tuple[Folder, int]]:
    """Walk to a folder step by step, and hold it while its facts are read."""
    if not path.startswith("/"):
        raise MountMissing(f"{path!r} is not an absolute path.", "Give the whole path, from `/`.")
    held = [os.open("/", os.O_PATH | os.O_CLOEXEC)]
    names: list[str] = []
    try:
        waiting = _parts(path)
        followed = 0
        while waiting:
            name = waiting.pop(0)
            if name == "..":
                if names:
                    names.pop()
                    os.close(held.pop())
                continue
            place = "/" + "/".join([*names, name])
            try:
                found = os.open(name, _OPEN, dir_fd=held[-1])
            except OSError as error:
                raise _unreachable(place, error) from None
            facts = os.fstat(found)
            if not stat.S_ISLNK(facts.st_mode):
                held.append(found)
                names.append(name)
                continue
            os.close(found)
            followed += 1
            target = _target(place, name, held[-1], followed if links else _MOST_LINKS + 1)
            if target.startswith("/"):
                while names:
                    names.pop()
                    os.close(held.pop())
            waiting = [*_parts(target), *waiting]
        chain = tuple(_identity(os.fstat(each)) for each in held)
        yield _described(held[-1], "/" + "/".join(names), chain), held[-1]
    finally:
        for each in held:
            os.close(each)


def _target(place: str, name: str, descriptor: int, followed: int) -> str:
    """Where a link leads, if it may be followed."""
    target = os.readlink(name, dir_fd=descriptor)
    if followed > _MOST_LINKS:
        raise MountUnsafe(
            f"{place} is a link (to {target:.200}).", "Name the folder itself, by a path without links."
        )
    if _others_write(os.fstat(descriptor)):
        raise MountUnsafe(
            f"{place} is a link (to {target:.200}) in a folder in which others than root can write, so that "
            "anybody could have made it.",
            "Name the folder itself, by a path without that link.",
        )
    return target


def _described(descriptor: int, path: str, chain: tuple[Identity, ...]) -> Folder:
    facts = os.fstat(descriptor)
    if not stat.S_ISDIR(facts.st_mode):
        raise MountMissing(f"{path} is not a folder.", "Name the folder that it is in.")
    folder = Folder(path, chain, "", "", others_write=_others_write(facts), owner=facts.st_uid)
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        found = re.search(r"^mnt_id:\s*(\d+)", file.read(), re.MULTILINE)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [MountLine.parse(line) for line in file]
    line = next((each for each in lines if found and each.id == found[1]), None)
    if line is None:
        raise MountUnsafe(
            f"The kernel does not say on which file system {path} is.",
            "Name a folder on a disk of this machine that is mounted.",
        )
    inner = os.path.relpath(path, line.place)
    root = os.path.normpath(os.path.join(line.root, inner))
    return replace(folder, device=line.device, root=root, file_system=line.file_system)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _identity(facts: os.stat_result) -> Identity:
    return facts.st_dev, facts.st_ino


def _others_write(facts: os.stat_result) -> bool:
    return facts.st_uid not in (0, os.geteuid()) or bool(facts.st_mode & 0o022)


def _unreachable(path: str, error: OSError) -> MountMissing:
    return MountMissing(
        f"{path} cannot be used: {error.strerror}.",
        "Check that its disk is mounted, and its name and rights.",
    )


# -- the kernel's list of mounts ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MountLine:
    """One line of `/proc/<pid>/mountinfo`, see proc(5).

    `root` is the folder within the file system `device` that is seen at `place`.
    """

    id: str
    device: str
    root: str
    place: str
    read_only: bool
    file_system: str

    @classmethod
    def parse(cls, line: str) -> MountLine:
        words = line.split()
        options = words[5].split(",")
        return cls(
            id=words[0],
            device=words[2],
            root=_unescaped(words[3]),
            place=_unescaped(words[4]),
            read_only="ro" in options,
            file_system=words[words.index("-", 6) + 1],
        )


def _unescaped(text: str) -> str:
    """The kernel writes spaces, tabs, newlines and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
