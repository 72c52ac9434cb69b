"""A tar archive taken apart while it passes by, without keeping it.

Strict on purpose: Docker reads the same bytes with another reader, and what two readers could understand
in two ways is refused. Known are POSIX entries (files, folders, links) and pax records of a path or a size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

BLOCK = 512
_MOST_PAX = 64 * 1024
_ZEROS = bytes(BLOCK)
_KINDS: dict[bytes, Literal["file", "folder", "link"]] = {
    b"0": "file",
    b"5": "folder",
    b"1": "link",
    b"2": "link",
}
# No number needs more digits, and `int` takes no more than 4,300.
_DIGITS = re.compile("[0-9]{1,19}")
_RECORD = re.compile(rb"([1-9][0-9]{0,18}) ([^=]+)=")


class TarError(ValueError):
    """The bytes are no tar archive, or not one that is understood; the text says why."""


@dataclass(frozen=True)
class Entry:
    """The beginning of an entry. `size` is of its data, which follow."""

    name: str
    kind: Literal["file", "folder", "link"]
    size: int


class TarParser:
    """`feed` it the bytes in order. `end` is the offset of the end marker once it was seen, else -1."""

    def __init__(self) -> None:
        self.end = -1
        self._offset = 0  # of the next byte to be taken from the buffer
        self._buffer = bytearray()
        self._data = 0  # bytes of data that are still to come
        self._padding = 0
        self._pax: bytearray | None = None  # a pax header that is being read
        self._records: dict[str, str] = {}

    def feed(self, data: bytes) -> Iterator[Entry | bytes]:
        """Entries as they begin, and their data in pieces. Raises `TarError`."""
        self._buffer += data
        while self._buffer:
            if self.end >= 0:
                if self._buffer.count(0) != len(self._buffer):
                    raise TarError("something follows the end of the archive")
                self._take(len(self._buffer))
            elif self._data:
                piece = self._take(min(self._data, len(self._buffer)))
                self._data -= len(piece)
                if self._pax is None:
                    yield piece
                else:
                    self._pax += piece
                    self._read_pax()
            elif self._padding:
                self._padding -= len(self._take(min(self._padding, len(self._buffer))))
            elif len(self._buffer) < BLOCK:
                return
            elif (entry := self._header()) is not None:
                yield entry

    @property
    def whole(self) -> bool:
        """Whether the end marker was seen."""
        return self.end >= 0

    def _take(self, count: int) -> bytes:
        piece = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._offset += count
        return piece

    def _header(self) -> Entry | None:
        at = self._offset
        block = self._take(BLOCK)
        if block == _ZEROS:
            if self._records:
                raise TarError("it ends within an entry")
            self.end = at
            return None
        _check(block)
        kind, size = block[156:157], _number(block[124:136])
        if kind == b"x":
            if self._records or not 0 < size <= _MOST_PAX:
                raise TarError("it has pax headers that are not understood")
            self._pax = bytearray()
            self._begin(size)
            return None
        if kind not in _KINDS:
            raise TarError(f"it has an entry of the unknown type {kind!r}")
        records, self._records = self._records, {}
        name = records.get("path") or _name(block)
        size = int(records.get("size", size)) if _KINDS[kind] == "file" else 0
        self._begin(size)
        return Entry(_plain(name), _KINDS[kind], size)

    def _begin(self, size: int) -> None:
        self._data, self._padding = size, -size % BLOCK

    def _read_pax(self) -> None:
        if self._data or self._pax is None:
            return
        text, self._pax = bytes(self._pax), None
        while text:
            found = _RECORD.match(text)
            length = int(found[1]) if found else 0
            if found is None or not found.end() < length <= len(text) or text[length - 1 : length] != b"\n":
                raise TarError("it has pax headers that are not understood")
            key = found[2].decode("utf-8", "replace")
            if key.startswith("GNU.sparse") or key in self._records:
                raise TarError(f"it has the pax record {key!r:.60}, which is not understood")
            value = text[found.end() : length - 1].decode("utf-8", "replace")
            if key == "size" and not _DIGITS.fullmatch(value):
                raise TarError(f"it has an entry of the size {value!r:.40}")
            self._records[key] = value
            text = text[length:]


def _check(block: bytes) -> None:
    """Raises `TarError` if the header's checksum or magic are wrong."""
    if block[257:263] != b"ustar\0":
        raise TarError("it is no tar archive, or a damaged one")
    if sum(block[:148]) + 8 * ord(" ") + sum(block[156:]) != _number(block[148:156]):
        raise TarError("it is damaged: a checksum is wrong")


def _number(field: bytes) -> int:
    """Octal digits."""
    text = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", text):
        raise TarError("it is damaged: a number is not understood")
    return int(text or b"0", 8)


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0")[0]
    prefix = block[345:500].split(b"\0")[0]
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")


def _plain(name: str) -> str:
    """The name without `./` and a closing `/`. Raises `TarError` for one that leads elsewhere."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise TarError(f"it has an entry with the name {name!r:.100}")
    return "/".join(parts)
