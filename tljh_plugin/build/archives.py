"""How large the archives are that a Dockerfile's `ADD` lets Docker unpack.

Docker unpacks by itself and does not stop when the build is ended, so that nothing keeps a small archive of
zeros from filling the disk. Hence it is measured before.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..amounts import shown_bytes
from ..errors import DockerfileRefused

# By which Docker tells them (moby, pkg/archive: `DetectCompression`).
_OPENED_BY: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b\x08": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_ZSTANDARD = b"\xb5\x2f\xfd"  # from the second byte on: the first varies with the version
_PATTERN = frozenset("*?[\\\0$")
_INSTEAD = "Use `COPY`, and unpack it in a `RUN`, which ends with the build."


def refuse_large(folder: Path, added: Sequence[str], limit: int) -> None:
    """Raises `DockerfileRefused` if archives among the sources of `ADD` unpack to more than `limit` bytes."""
    total, top = 0, folder.resolve()
    for path in sorted(set(_files(top, added))):
        total += unpacked_bytes(path, limit - total)
        if total > limit:
            raise DockerfileRefused(
                f"`ADD` would unpack more than {shown_bytes(limit)}, with {path.relative_to(top)}.", _INSTEAD
            )


def unpacked_bytes(path: Path, limit: int) -> int:
    """The bytes of an archive's files, or more than `limit` as soon as it is that; 0 if it is no archive.

    Raises `DockerfileRefused` for one that cannot be measured.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_ZSTANDARD, 1):
        raise DockerfileRefused(f"How much `ADD` of {path.name} would unpack cannot be told.", _INSTEAD)
    opened = next((known for magic, known in _OPENED_BY.items() if head.startswith(magic)), open)
    with opened(path, "rb") as content:
        return _measured(_Counted(content, limit), limit)


class _Counted:
    """A stream that ends as soon as more than `limit` bytes were read: Docker reads them all, too."""

    def __init__(self, content: IO[bytes], limit: int) -> None:
        self._content = content
        self._limit = limit
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        if self.count > self._limit:
            return b""
        found = self._content.read(size)
        self.count += len(found)
        return found


def _measured(content: _Counted, limit: int) -> int:
    """Files that say that they have holes are written with them filled in."""
    total = 0
    # No archive, or one that is damaged from there on, where Docker ends as well.
    with (
        suppress(tarfile.TarError, OSError, EOFError, lzma.LZMAError, ValueError),
        tarfile.open(fileobj=content, mode="r|") as archive,  # type: ignore[call-overload]
    ):
        for entry in archive:
            total += max(entry.size, 0)
            if max(total, content.count) > limit:
                break
    return max(total, content.count) if total else 0


def _files(folder: Path, added: Sequence[str]) -> Iterator[Path]:
    """The files that these words of `ADD` may mean; with wildcards or variables it may be any."""
    if any(_PATTERN & set(word) for word in added):
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        return
    for word in added:
        path = (folder / word.lstrip("/")).resolve()
        if path.is_relative_to(folder) and path.is_file():
            yield path
