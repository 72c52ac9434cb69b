"""Laying out a folder of people's files from a backup, where nobody else is.

Comes in: members of a backup in order. Goes out: a folder beside its place that gets its name when it is
complete. Each is made below an open folder, never through a link, and its content is compared with the
manifest once more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import BadBackup
from .backup_file import Member

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

Owner = Callable[[int, int], tuple[int, int]]


def as_it_is(uid: int, gid: int) -> tuple[int, int]:
    """Where we may not give files to others they are all ours (`chown` takes -1 for that)."""
    return (uid, gid) if os.geteuid() == 0 else (-1, -1)


class Laying:
    """`add` the members of one tree, then `finish`; `place` is their common beginning, `root` still
    missing.
    """

    def __init__(self, root: Path, place: str, digests: Mapping[str, str], owner: Owner = as_it_is) -> None:
        self._place = place
        self._digests = digests
        self._owner = owner
        self._folders: list[tuple[str, Member]] = []
        root.mkdir(mode=0o700)
        self._root = os.open(root, _FOLDER)
        self._last = ("", os.dup(self._root))

    def add(self, member: Member, on_bytes: Callable[[int], None] = lambda count: None) -> None:
        """Raises `BadBackup`, `OSError`."""
        path = member.name.removeprefix(self._place).lstrip("/")
        above, _, name = path.rpartition("/")
        if member.kind == "folder":
            if path:
                os.mkdir(name, 0o700, dir_fd=self._parent(above))
            self._folders.append((path, member))
        elif member.kind == "file":
            self._file(member, name, self._parent(above), on_bytes)
        elif member.kind == "link":
            parent = self._parent(above)
            os.symlink(member.info.linkname, name, dir_fd=parent)
            self._settle(member, name, parent)
        else:
            first, _, earlier = member.info.linkname.removeprefix(self._place).lstrip("/").rpartition("/")
            source = os.dup(self._parent(first))
            try:
                parent = self._parent(above)
                os.link(earlier, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)

    def finish(self) -> None:
        """Rights and times of the folders, the innermost first, since what is laid into one changes it."""
        for path, member in reversed(self._folders):
            descriptor = os.dup(self._parent(path))
            try:
                if path or member.info.mode:
                    os.fchown(descriptor, *self._owner(member.info.uid, member.info.gid))
                    os.fchmod(descriptor, member.info.mode & 0o7777)
                os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))
            finally:
                os.close(descriptor)
        self.close()

    def close(self) -> None:
        """Without rights and times; can be called again."""
        for descriptor in (self._root, self._last[1]):
            if descriptor >= 0:
                os.close(descriptor)
        self._root, self._last = -1, ("", -1)

    def _file(self, member: Member, name: str, parent: int, on_bytes: Callable[[int], None]) -> None:
        descriptor = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            digest = hashlib.sha256()
            order = list(member.segments)
            position = left = 0
            for piece in member.data(digest):
                if not left:
                    position, left = order.pop(0)
                write_all(descriptor, piece, position)
                position += len(piece)
                left -= len(piece)
                on_bytes(len(piece))
            os.ftruncate(descriptor, member.info.size)
            if digest.hexdigest() != self._digests.get(member.name):
                raise BadBackup(
                    f"The backup changed while it was read ({member.name!r:.200}).", "Begin once more."
                )
            os.fchown(descriptor, *self._owner(member.info.uid, member.info.gid))
            os.fchmod(descriptor, member.info.mode & 0o777)
            os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(descriptor)

    def _settle(self, member: Member, name: str, parent: int) -> None:
        times = (member.mtime_ns, member.mtime_ns)
        uid, gid = self._owner(member.info.uid, member.info.gid)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _parent(self, path: str) -> int:
        """The open folder of a path; the last one is kept, since members come folder by folder."""
        if self._last[0] != path or not path:
            descriptor = os.dup(self._root)
            for name in path.split("/") if path else ():
                try:
                    below = os.open(name, _FOLDER, dir_fd=descriptor)
                finally:
                    os.close(descriptor)
                descriptor = below
            os.close(self._last[1])
            self._last = (path, descriptor)
        return self._last[1]


def write_all(descriptor: int, data: bytes, position: int) -> None:
    """`pwrite` until all of it is written."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, position)
        view, position = view[count:], position + count
