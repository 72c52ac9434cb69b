"""Write what comes out of a pipe into an empty folder; see the package's docstring.

Arguments: the pipe, the folder, the most bytes, the most entries, the bytes that must stay free on the
disk. Whoever feeds the pipe is not trusted: only regular files, folders and symbolic links are made, no
set-id bits, nothing outside the folder, nothing through a link, nothing twice, holes stay holes, and sizes
are counted as they are written. Prints one line of JSON: `{"ok": true, "entries", "bytes", "skipped",
"skipped_names"}` or `{"ok": false, "error", "detail"}`.
"""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import stat
import struct
import sys

MAGIC = b"littlest-binder fill 1\n"
CHUNK = 1024 * 1024
# Bytes after which the disk is to begin with a file: one flush at the end would keep it busy for all others.
WRITE_BACK = 8 * CHUNK
SYNC_FILE_RANGE_WRITE = 2  # <linux/fs.h>
# Others' pages and servers come first.
NICENESS = 10
LONGEST_PATH = 4000
LARGEST = 2**63 - 1  # bytes of a file; a file system may take less
SHOWN_NAMES = 20
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Refused(Exception):
    """The stream is not accepted: a short code and what was wrong."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Stream:
    """Reads exactly what is asked for, or refuses."""

    def __init__(self, pipe: io.BufferedReader[io.FileIO]) -> None:
        self._pipe = pipe
        self._place = memoryview(bytearray(CHUNK))

    def take(self, count: int) -> bytes:
        data = self._pipe.read(count)
        if len(data) != count:
            raise Refused("broken-off", "the image's side ended early")
        return data

    def chunk(self, count: int) -> memoryview:
        """As `take`, in a place that the next call uses again; `count` is at most `CHUNK`."""
        data = self._place[:count]
        if self._pipe.readinto(data) != count:
            raise Refused("broken-off", "the image's side ended early")
        return data

    def text(self) -> bytes:
        (length,) = struct.unpack(">H", self.take(2))
        return self.take(length)

    def numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))


class Receiver:
    def __init__(self, root: str, max_bytes: int, max_entries: int, reserve: int) -> None:
        self.root = os.open(root, FOLDER)
        self.max_bytes, self.max_entries, self.reserve = max_bytes, max_entries, reserve
        self.entries = self.used = self.written = self.skipped = 0
        self.skipped_names: list[str] = []
        self._library = ctypes.CDLL(None, use_errno=True)
        self._begun = 0
        self.folder_times: list[tuple[bytes, int, int]] = []
        self._parent_path = b""
        self._parent = os.dup(self.root)

    def receive(self, stream: Stream) -> None:
        if stream.take(len(MAGIC)) != MAGIC:
            raise Refused("stream", "it does not begin as it should")
        kinds = {
            b"D": self.folder,
            b"F": self.file,
            b"L": self.link,
            b"H": self.further_name,
            b"S": self.skip,
        }
        while (kind := stream.take(1)) != b"E":
            if kind not in kinds:
                raise Refused("stream", f"unknown record {kind!r}")
            self.entries += 1
            if self.entries > self.max_entries:
                raise Refused("too-many", f"more than {self.max_entries} files")
            kinds[kind](stream)
        # Only now, since what is made inside a folder changes its time.
        for path, mode, time in reversed(self.folder_times):
            parent, name = self.place(path)
            os.chmod(name, mode, dir_fd=parent)
            os.utime(name, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def place(self, path: bytes) -> tuple[int, bytes]:
        """The open folder that is to hold `path`, reached without following a link, and the name in it."""
        parts = path.split(b"/")
        if len(path) > LONGEST_PATH or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
            raise Refused("stream", f"the path {os.fsdecode(path)!r:.200} is not allowed")
        parent_path = b"/".join(parts[:-1])
        if parent_path != self._parent_path:
            folder = os.dup(self.root)
            for part in parts[:-1]:
                try:
                    inner = os.open(part, FOLDER, dir_fd=folder)
                finally:
                    os.close(folder)
                folder = inner
            os.close(self._parent)
            self._parent_path, self._parent = parent_path, folder
        return self._parent, parts[-1]

    def charge(self, facts: os.stat_result) -> None:
        self.used += facts.st_blocks * 512
        self.limit(0)

    def limit(self, more: int) -> None:
        if max(self.used, self.written) + more > self.max_bytes:
            raise Refused("too-large", f"more than {self.max_bytes} bytes")

    def folder(self, stream: Stream) -> None:
        path = stream.text()
        mode, time = stream.numbers(">Iq")
        parent, name = self.place(path)
        os.mkdir(name, 0o700, dir_fd=parent)
        self.charge(os.stat(name, dir_fd=parent, follow_symlinks=False))
        # Whoever owns a folder can always go into it, so that it can be kept, counted and removed.
        self.folder_times.append((path, (mode & 0o777) | 0o700, time))

    def file(self, stream: Stream) -> None:
        path = stream.text()
        mode, time, size = stream.numbers(">IqQ")
        if size > LARGEST:
            raise Refused("stream", f"a file of {size} bytes")
        parent, name = self.place(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            os.ftruncate(descriptor, size)
            self.content(stream, descriptor, size)
            os.fchmod(descriptor, (mode & 0o777) | 0o400)
            os.utime(descriptor, ns=(time, time))
            self.charge(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def content(self, stream: Stream, descriptor: int, size: int) -> None:
        while True:
            offset, length = stream.numbers(">QI")
            if length == 0:
                return
            if length > CHUNK or offset + length > size:
                raise Refused("stream", f"a chunk of {length} bytes at {offset} of {size}")
            self.limit(length)
            self.spare()
            data = stream.chunk(length)
            while data:
                done = os.pwrite(descriptor, data, offset)
                offset, data = offset + done, data[done:]
            self.written += length
            self.write_back(descriptor)

    def write_back(self, descriptor: int) -> None:
        """Have the disk begin with what this file has, if it is time; a refusal only means later."""
        if self.written - self._begun >= WRITE_BACK:
            self._begun = self.written
            offset, to_the_end = ctypes.c_int64(0), ctypes.c_int64(0)
            self._library.sync_file_range(descriptor, offset, to_the_end, SYNC_FILE_RANGE_WRITE)

    def spare(self) -> None:
        """Refuse when the disk is about to run full; asked once a chunk."""
        figures = os.fstatvfs(self.root)
        if figures.f_bavail * figures.f_frsize < self.reserve:
            raise Refused("disk-low", f"less than {self.reserve} bytes are free")

    def link(self, stream: Stream) -> None:
        path, target = stream.text(), stream.text()
        if not target or b"\0" in target:
            raise Refused("stream", f"the link {os.fsdecode(path)!r:.200} has no target")
        parent, name = self.place(path)
        os.symlink(target, name, dir_fd=parent)
        self.charge(os.stat(name, dir_fd=parent, follow_symlinks=False))

    def further_name(self, stream: Stream) -> None:
        path, earlier = stream.text(), stream.text()
        folder, first = self.place(earlier)
        source = os.dup(folder)
        try:
            if not stat.S_ISREG(os.stat(first, dir_fd=source, follow_symlinks=False).st_mode):
                raise Refused("stream", f"{os.fsdecode(earlier)!r:.200} is no file")
            parent, name = self.place(path)
            os.link(first, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def skip(self, stream: Stream) -> None:
        path, reason = stream.text(), stream.text()
        self.skipped += 1
        if len(self.skipped_names) < SHOWN_NAMES:
            name, why = path.decode(errors="backslashreplace"), reason.decode(errors="backslashreplace")
            self.skipped_names.append(f"{name[:200]}: {why[:100]}")

    def flush(self) -> None:
        """Everything is on the disk before the caller gives the folder its name."""
        if self._library.syncfs(self.root) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def receive(pipe_path: str, root: str, max_bytes: int, max_entries: int, reserve: int) -> dict[str, object]:
    try:
        receiver = Receiver(root, max_bytes, max_entries, reserve)
        with io.BufferedReader(io.FileIO(pipe_path), CHUNK) as pipe:
            receiver.receive(Stream(pipe))
        receiver.flush()
    except Refused as refused:
        return {"ok": False, "error": refused.code, "detail": str(refused)}
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return {
            "ok": False,
            "error": "disk-low" if full else "stream",
            "detail": error.strerror or str(error),
        }
    return {
        "ok": True,
        "entries": receiver.entries,
        "bytes": receiver.used,
        "skipped": receiver.skipped,
        "skipped_names": receiver.skipped_names,
    }


if __name__ == "__main__":
    os.nice(NICENESS)
    pipe_name, folder_name, *limits = sys.argv[1:]
    print(json.dumps(receive(pipe_name, folder_name, *map(int, limits))), flush=True)
