"""Makes what an image could write into the pipe, honest or not. Also run inside images that lie, as text."""

from __future__ import annotations

import struct

MAGIC = b"littlest-binder fill 1\n"
END = b"E"


def text(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def folder(path: bytes, mode: int = 0o755) -> bytes:
    return b"D" + text(path) + struct.pack(">Iq", mode, 10**18)


def file(
    path: bytes, *chunks: tuple[int, bytes], mode: int = 0o644, size: int = -1, end: bool = True
) -> bytes:
    if size < 0:
        size = max((offset + len(data) for offset, data in chunks), default=0)
    body = b"".join(struct.pack(">QI", offset, len(data)) + data for offset, data in chunks)
    head = b"F" + text(path) + struct.pack(">IqQ", mode, 10**18, size)
    return head + body + (struct.pack(">QI", 0, 0) if end else b"")


def link(path: bytes, target: bytes) -> bytes:
    return b"L" + text(path) + text(target)


def further_name(path: bytes, earlier: bytes) -> bytes:
    return b"H" + text(path) + text(earlier)


def skipped(path: bytes, reason: bytes) -> bytes:
    return b"S" + text(path) + text(reason)
