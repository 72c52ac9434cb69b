"""Looking through a folder of people's files without leaving it, whoever works in it meanwhile.

Comes in: a folder. Goes out: its entries, and the content of its files. No link is ever followed, each folder
is opened from the one above it, and other filesystems are left out: what a server could do to the folder
while it is read never leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
# A file up to this size is read again if it changed meanwhile.
SMALL = 4 * 1024**2
_TRIES = 3
CHUNK = 1024**2

Kind = Literal["file", "folder", "link", "skipped"]
Segment = tuple[int, int]  # offset and length of data


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a folder: `path` below it (empty: the folder itself), `text` a link's target or why it was
    skipped."""

    path: str
    kind: Kind
    facts: os.stat_result
    text: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """The data of a file of `size` bytes: `segments`, between which are holes. `changed`: it did
    meanwhile."""

    size: int
    segments: tuple[Segment, ...]
    pieces: Iterator[bytes]
    changed: Callable[[], bool]

    @property
    def is_sparse(self) -> bool:
        return is_sparse(self.segments, self.size)


def is_sparse(segments: Sequence[Segment], size: int) -> bool:
    """Whether something of a file is a hole."""
    return size > 0 and list(segments) != [(0, size)]


class Tree:
    """Use as a context manager. Raises `OSError` if the folder cannot be opened, or is a link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = -1

    def __enter__(self) -> Tree:
        self._root = os.open(self.folder, _FOLDER)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def entries(self) -> Iterator[Entry]:
        """All of it, each folder before what is in it; what went meanwhile is not there."""
        root = os.fstat(self._root)
        yield Entry("", "folder", root)
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                found = self._look(folder, root.st_dev)
            except FileNotFoundError:
                continue
            except OSError as error:
                yield Entry(folder, "skipped", root, error.strerror or str(error))
                continue
            for entry in found:
                yield entry
                if entry.kind == "folder":
                    waiting.append(entry.path)

    def _look(self, folder: str, device: int) -> list[Entry]:
        descriptor = self._open(folder)
        try:
            found = []
            for name in sorted(os.listdir(descriptor)):
                path = f"{folder}/{name}" if folder else name
                try:
                    facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if facts.st_dev != device:
                        found.append(Entry(path, "skipped", facts, "another filesystem"))
                    elif stat.S_ISDIR(facts.st_mode):
                        found.append(Entry(path, "folder", facts))
                    elif stat.S_ISLNK(facts.st_mode):
                        found.append(Entry(path, "link", facts, os.readlink(name, dir_fd=descriptor)))
                    elif stat.S_ISREG(facts.st_mode):
                        found.append(Entry(path, "file", facts))
                    else:
                        found.append(Entry(path, "skipped", facts, "neither file, folder nor link"))
                except FileNotFoundError:
                    continue
            return found
        finally:
            os.close(descriptor)

    def _open(self, path: str) -> int:
        """A folder of the tree, step by step from the root, so that no path is ever too long."""
        descriptor = os.dup(self._root)
        for name in path.split("/") if path else ():
            try:
                below = os.open(name, _FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def open_file(self, path: str) -> int:
        """A regular file; the caller closes it. Raises `OSError`."""
        above, _, name = path.rpartition("/")
        folder = self._open(above)
        try:
            descriptor = os.open(name, _FILE, dir_fd=folder)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no file any more", path)
        return descriptor


def read(descriptor: int) -> Content:
    """What an open file holds; exactly as many bytes as it says in the end, also if it shrinks meanwhile.

    Raises `OSError`, also while the pieces are taken.
    """
    before = os.fstat(descriptor)
    if before.st_size <= SMALL and before.st_blocks * 512 >= before.st_size:
        data, changed = _small(descriptor)
        return whole(data, changed)
    segments = tuple(_segments(descriptor, before.st_size))
    pieces = _pieces(descriptor, segments)
    return Content(before.st_size, segments, pieces, lambda: _seen(os.fstat(descriptor)) != _seen(before))


def whole(data: bytes, changed: bool = False) -> Content:
    """What is in memory already."""
    segments = ((0, len(data)),) if data else ()
    return Content(len(data), segments, iter((data,) if data else ()), lambda: changed)


def _small(descriptor: int) -> tuple[bytes, bool]:
    """Until it stays as it is for as long as it is read, or some times."""
    data = b""
    for _ in range(_TRIES):
        before = _seen(os.fstat(descriptor))
        data = _whole(descriptor, before[0])
        if _seen(os.fstat(descriptor)) == before and len(data) == before[0]:
            return data, False
    return data, True


def _whole(descriptor: int, size: int) -> bytes:
    parts, position = [], 0
    while position < size and (part := os.pread(descriptor, size - position, position)):
        parts.append(part)
        position += len(part)
    return b"".join(parts)


def _seen(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_size, facts.st_mtime_ns


def _segments(descriptor: int, size: int) -> Iterator[Segment]:
    """Where data is; one segment on a filesystem that knows no holes."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            start, end = position, size
        if end <= start:
            return
        yield start, end - start
        position = end


def _pieces(descriptor: int, segments: tuple[Segment, ...]) -> Iterator[bytes]:
    for start, length in segments:
        position, end = start, start + length
        while position < end:
            wanted = min(CHUNK, end - position)
            data = os.pread(descriptor, wanted, position)
            # It was shortened: the archive was promised so many bytes.
            yield data if data else bytes(wanted)
            position += len(data) or wanted
