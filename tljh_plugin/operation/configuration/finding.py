"""What the check says: one sentence about one key, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["mistake", "warning", "note"]
LEVELS: tuple[Level, ...] = ("mistake", "warning", "note")


@dataclass(frozen=True)
class Remark:
    """What a rule says of a key (`servers.idle_s`; with a `:` before it, of a key outside of `binder`).

    A `mistake` is refused or cannot work, a `warning` does not do what it looks like, a `note` is worth
    knowing.
    """

    level: Level
    key: str
    message: str
    next: str = ""


@dataclass(frozen=True)
class Finding:
    """A remark, and where what it speaks of stands. `line` is None for what the file does not say."""

    level: Level
    key: str
    file: str
    line: int | None
    message: str
    next: str = ""

    @property
    def where(self) -> str:
        """`FILE:LINE`."""
        return self.file if self.line is None else f"{self.file}:{self.line}"
