"""What a container that is not started yet is given, so that a user whom its image does not know can use it.

Docker takes and gives archives of a container's files, so nobody has to be root in it, and nothing of the
image is opened on this machine.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from ..amounts import shown_bytes
from ..errors import ContainerNotStarted
from .values import ContainerSpec

_PASSWD = "/etc/passwd"  # noqa: S105  # no password is in it
_LONGEST = 1024**2  # bytes of that file
_IN_MEMORY = 32 * 1024**2
_CHUNK = 1024**2
_RECORDS = ("uid", "gid", "uname", "gname")  # of an archive's extended headers, which go before the others


def own(client: Any, container: str, spec: ContainerSpec) -> None:
    """Let `spec.owned`, and all that is in it, belong to the container's user.

    Raises `ContainerNotStarted` if it is more than `spec.owned_bytes`, or Docker's own errors.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        # Not piped: Docker keeps the container to itself until the first archive is read.
        chunks, _ = client.get_archive(container, spec.owned)
        written = 0
        for piece in given(chunks, spec.limits.uid, spec.limits.gid):
            written += len(piece)
            if written > spec.owned_bytes:
                raise ContainerNotStarted(
                    f"The files in {spec.owned} of the image {spec.image} are more than "
                    f"{shown_bytes(spec.owned_bytes)}: too much to be made the person's own at each start.",
                    "Start it with kept files (storage `project`), or keep large data out of the home.",
                )
            spool.write(piece)
        spool.seek(0)
        client.put_archive(container, posixpath.dirname(spec.owned) or "/", spool)


def given(chunks: Iterable[bytes], uid: int, gid: int) -> Iterator[bytes]:
    """An archive in which everything belongs to somebody else; in pieces, however large it is."""
    with tarfile.open(fileobj=_Stream(chunks), mode="r|") as archive:
        for entry in archive:
            entry.uid, entry.gid, entry.uname, entry.gname = uid, gid, "", ""
            entry.pax_headers = {k: v for k, v in entry.pax_headers.items() if k not in _RECORDS}
            yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            content = archive.extractfile(entry) if entry.isreg() else None
            while content is not None and (piece := content.read(_CHUNK)):
                yield piece
            yield bytes(-entry.size % tarfile.BLOCKSIZE if content is not None else 0)
    yield bytes(2 * tarfile.BLOCKSIZE)


def name_user(client: Any, container: str, spec: ContainerSpec) -> None:
    """Have the image call the container's user `spec.account`, unless it knows that number or name already.

    Programs such as ssh end at once for a user without a name. Raises Docker's own errors.
    """
    known = _read(client, container, _PASSWD)
    if known is None:
        return
    rows = [line.split(":") for line in known.decode(errors="replace").splitlines()]
    if any(row[0] == spec.account or row[2:3] == [str(spec.limits.uid)] for row in rows):
        return
    home = spec.environment.get("HOME", "/")
    row = f"{spec.account}:x:{spec.limits.uid}:{spec.limits.gid}::{home}:/bin/bash\n"
    if any(letter in row[:-1] for letter in "\n\0") or row.count(":") != 6:
        return
    content = known + (b"" if known.endswith(b"\n") or not known else b"\n") + row.encode()
    entry = tarfile.TarInfo(posixpath.basename(_PASSWD))
    entry.size, entry.mode = len(content), 0o644
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    client.put_archive(container, posixpath.dirname(_PASSWD), packed.getvalue())


def _read(client: Any, container: str, path: str) -> bytes | None:
    """A file of the image; None if it is no file or too long."""
    chunks, _ = client.get_archive(container, path)
    with tarfile.open(fileobj=_Stream(chunks), mode="r|") as archive:
        entry = archive.next()
        content = archive.extractfile(entry) if entry and entry.isreg() and entry.size <= _LONGEST else None
        return content.read() if content is not None else None


class _Stream(io.RawIOBase):
    """What Docker sends in pieces, read as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._left) < size:
            piece = next(self._chunks, b"")
            if not piece:
                break
            self._left += piece
        end = len(self._left) if size < 0 else size
        found, self._left = self._left[:end], self._left[end:]
        return found
