"""Send the regular files, folders and symbolic links of a home into a pipe; see the package's docstring.

Arguments: the home, the pipe. Follows no link, skips what it cannot read, and sends holes as holes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
from typing import BinaryIO

MAGIC = b"littlest-binder fill 1\n"
CHUNK = 1024 * 1024
ZEROS = bytes(CHUNK)
NICENESS = 10  # others' pages and servers come first
F_SETPIPE_SZ = 1031  # <linux/fcntl.h>; Python knows it from 3.10 on


def text(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def send_home(home: bytes, pipe: BinaryIO) -> None:
    pipe.write(MAGIC)
    first_names: dict[tuple[int, int], bytes] = {}
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(home, folder) if folder else home) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            if not folder:
                break
            raise
        except OSError as error:
            skip(pipe, folder, error)
            continue
        for entry in entries:
            path = os.path.join(folder, entry.name) if folder else entry.name
            try:
                if send_entry(home, path, entry.stat(follow_symlinks=False), first_names, pipe):
                    waiting.append(path)
            except BrokenPipeError:
                raise
            except OSError as error:
                skip(pipe, path, error)
    pipe.write(b"E")
    pipe.flush()


def send_entry(
    home: bytes, path: bytes, facts: os.stat_result, first_names: dict[tuple[int, int], bytes], pipe: BinaryIO
) -> bool:
    """Send one entry; whether it is a folder to go into."""
    full = os.path.join(home, path)
    mode, identity = stat.S_IMODE(facts.st_mode), (facts.st_dev, facts.st_ino)
    if stat.S_ISDIR(facts.st_mode):
        pipe.write(b"D" + text(path) + struct.pack(">Iq", mode, facts.st_mtime_ns))
        return True
    if stat.S_ISLNK(facts.st_mode):
        pipe.write(b"L" + text(path) + text(os.readlink(full)))
    elif not stat.S_ISREG(facts.st_mode):
        pipe.write(b"S" + text(path) + text(b"neither file, folder nor link"))
    elif identity in first_names:
        pipe.write(b"H" + text(path) + text(first_names[identity]))
    else:
        descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            pipe.write(b"F" + text(path) + struct.pack(">IqQ", mode, facts.st_mtime_ns, facts.st_size))
            try:
                send_content(descriptor, facts.st_size, pipe)
            except BrokenPipeError:
                raise
            except OSError as error:  # half a file must not pass for a file
                raise SystemExit(f"cannot read {full!r}: {error.strerror}") from None
            pipe.write(struct.pack(">QI", 0, 0))
        finally:
            os.close(descriptor)
        if facts.st_nlink > 1:
            first_names[identity] = path
    return False


def send_content(descriptor: int, size: int, pipe: BinaryIO) -> None:
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            start, end = position, size  # a file system that knows no holes
        if end <= start:
            end = size
        position = start
        while position < end:
            data = os.pread(descriptor, min(CHUNK, end - position), position)
            if not data:
                return
            if data != (ZEROS if len(data) == CHUNK else ZEROS[: len(data)]):
                pipe.write(struct.pack(">QI", position, len(data)))
                pipe.write(data)
            position += len(data)


def skip(pipe: BinaryIO, path: bytes, error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise error
    pipe.write(b"S" + text(path[:4000]) + text((error.strerror or str(error)).encode()[:200]))


def widen(pipe: BinaryIO) -> None:
    """Let more lie in the pipe, so that the two sides wait for each other less often."""
    try:
        fcntl.fcntl(pipe.fileno(), F_SETPIPE_SZ, CHUNK)
    except OSError:  # its user has many pipes already
        return


def main() -> int:
    os.nice(NICENESS)
    home, pipe_path = os.fsencode(sys.argv[1]), sys.argv[2]
    try:
        with open(pipe_path, "wb", buffering=CHUNK) as pipe:
            widen(pipe)
            send_home(home, pipe)
    except BrokenPipeError:
        return 1  # the receiver ended first and has said why
    return 0


if __name__ == "__main__":
    sys.exit(main())
