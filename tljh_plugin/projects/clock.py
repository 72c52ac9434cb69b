"""What time it is, for what cannot be undone: the wall clock can be wrong, the time since the boot cannot.

A clock that jumps forward (an empty battery, a mistyped date, a virtual machine that was resumed) would end
at once what is kept for some days. So a time of our own follows it: as fast as time has passed for certain,
and towards a wall clock that is ahead at most `_CATCHING_UP` times as fast. Whatever the clock does, what is
kept for 14 days is kept for a fifth of that while the machine runs. `Clock` notes that time.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

# A machine that runs in office hours alone, 40 of a week's 168, is never behind for longer than a week.
_CATCHING_UP = 4
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks say: the wall clock, and the seconds since the boot `boot`, which nobody sets."""

    wall: datetime
    boot: str
    uptime_s: float


@dataclass(frozen=True, slots=True)
class Note:
    """The time that we trusted, and when that was since the boot `boot`."""

    trusted: datetime
    boot: str
    uptime_s: float


def follow(note: Note | None, reading: Reading, newest: datetime | None = None) -> Note:
    """The note after this reading; without one before it begins with the `newest` time that is known."""
    if note is None:
        trusted = newest or reading.wall
    else:
        since = note.uptime_s if note.boot == reading.boot else 0.0
        passed = timedelta(seconds=max(0.0, reading.uptime_s - since))
        sure = note.trusted + passed
        trusted = max(sure, min(reading.wall, sure + _CATCHING_UP * passed))
    return Note(trusted, reading.boot, reading.uptime_s)


def read_clocks() -> Reading:
    """What they say now."""
    boot = _BOOT_ID.read_text().strip()
    return Reading(datetime.now(timezone.utc), boot, time.clock_gettime(time.CLOCK_BOOTTIME))


class Clock:
    """The time that is noted in `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def for_removal(self, newest: datetime | None = None) -> datetime:
        """Now, for what ends something: the earlier of both times. It is noted; raises `OSError`."""
        reading = read_clocks()
        note = follow(self._read(), reading, newest)
        self._write(note)
        return min(note.trusted, reading.wall)

    def for_keeping(self) -> datetime:
        """Now, for what is kept from now on: the later of both times."""
        reading = read_clocks()
        return max(follow(self._read(), reading).trusted, reading.wall)

    def _read(self) -> Note | None:
        try:
            known = json.loads(self._path.read_bytes())
            trusted = datetime.fromisoformat(known["trusted"])
            return Note(trusted.astimezone(timezone.utc), str(known["boot"]), float(known["uptime_s"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    def _write(self, note: Note) -> None:
        draft = self._path.with_name(f".{self._path.name}")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({**asdict(note), "trusted": note.trusted.isoformat()}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
