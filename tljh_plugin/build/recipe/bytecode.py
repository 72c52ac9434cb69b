"""Compile the Python files that an installer just brought. Runs in builds, as the image's user.

    python3 -I -S bytecode.py FOLDER SINCE [CACHE]

A container loses the bytecode that it compiles at imports, so images bring it. Tests of packages are left
out: they are half of the files, and hardly anybody imports them. Started with `-I -S`, so nothing that was
installed runs. Kept bytecode is found by the hash of its source; its header is given the time of the source
at hand, which is what an import compares (PEP 552), so imports stay as fast as with bytecode made here.
"""

from __future__ import annotations

import os
import py_compile
import re
import struct
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

_TESTS = re.compile(r"/tests?/")
_FEW = 50


def sources_since(folder: str, since: float) -> list[str]:
    """The largest first. `since`, in seconds of the epoch, is compared with the time of the last change of
    the inode: installers keep times of modification."""
    found = []
    for top, _, names in os.walk(folder):
        for name in names:
            path = f"{top}/{name}"
            if name.endswith(".py") and not _TESTS.search(path[len(folder) :]):
                status = os.lstat(path)
                if status.st_ctime >= since:
                    found.append((status.st_size, path))
    return [path for _, path in sorted(found, reverse=True)]


def compile_all(paths: Sequence[str], cache: str = "") -> None:
    """On all processors. What does not compile is left to the import that wants it."""
    workers = min(os.cpu_count() or 1, 1 + len(paths) // _FEW)
    for worker in range(workers):
        if os.fork() == 0:
            for path in paths[worker::workers]:
                try:
                    compile_one(path, cache)
                except (OSError, ValueError, RecursionError):
                    continue
            os._exit(0)
    for _ in range(workers):
        os.wait()


def compile_one(path: str, cache: str = "") -> None:
    """Bytecode beside its source, from the cache if that has it.

    The key is everything that bytecode depends on: the source itself, the path that tracebacks show, the
    version of Python.
    """
    place = cache_from_source(path)
    kept = ""
    if cache:
        key = sha256(MAGIC_NUMBER + path.encode() + b"\0" + Path(path).read_bytes()).hexdigest()
        kept = f"{cache}/{key[:2]}/{key}"
        try:
            content = Path(kept).read_bytes()
        except FileNotFoundError:
            pass
        else:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            Path(place).write_bytes(content[:8] + struct.pack("<I", _seconds(path)) + content[12:])
            return
    made = py_compile.compile(path, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    if made and kept:
        _keep(Path(made).read_bytes(), kept)


def _seconds(path: str) -> int:
    """The time of the last change as bytecode has it: seconds of the epoch in 32 bits."""
    return int(os.stat(path).st_mtime) & 0xFFFFFFFF


def _keep(content: bytes, kept: str) -> None:
    """Whole or not at all: another build may be looking."""
    folder = os.path.dirname(kept)
    os.makedirs(folder, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as draft:
        draft.write(content)
    os.replace(draft.name, kept)


if __name__ == "__main__":
    compile_all(sources_since(sys.argv[1], float(sys.argv[2])), *sys.argv[3:4])
