"""Pointers of Git LFS: small files that stand for large ones.

See https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

POINTER_BYTES = 1024  # a pointer is smaller, by its specification

_POINTER = re.compile(
    r"version https://git-lfs\.github\.com/spec/v1\n"
    r"oid sha256:(?P<oid>[0-9a-f]{64})\n"
    r"size (?P<size>[0-9]{1,15})\n?"
)


@dataclass(frozen=True)
class Pointer:
    """A file whose content is elsewhere: its path in the checkout, SHA-256 in hex digits, size in bytes."""

    path: str
    oid: str
    size: int


def read_pointer(content: bytes, path: str) -> Pointer | None:
    """The pointer that a file is, or None; one with extensions is none that we can follow."""
    found = _POINTER.fullmatch(content.decode("ascii", errors="replace"))
    return Pointer(path, found["oid"], int(found["size"])) if found else None
