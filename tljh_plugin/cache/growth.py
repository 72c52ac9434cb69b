"""How fast a filesystem fills up, and when to say so. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ..amounts import shown_bytes, shown_seconds
from ..errors import DiskLow
from ..settings import DiskSettings
from ..wire import ErrorView, FilesystemView

DAY_S = 86_400.0
_SHORTEST_S = 3600.0  # one build is no trend
_FEWEST = 6


def growth(samples: Sequence[tuple[datetime, int]]) -> float | None:
    """Bytes a day, by least squares over samples of the used bytes; `None` for fewer than 6, or less than an
    hour.
    """
    if len(samples) < _FEWEST:
        return None
    first = samples[0][0]
    times = [(moment - first).total_seconds() for moment, _ in samples]
    if max(times) - min(times) < _SHORTEST_S:
        return None
    mean_time = sum(times) / len(times)
    mean_used = sum(used for _, used in samples) / len(samples)
    spread = sum((time - mean_time) ** 2 for time in times)
    along = sum(
        (time - mean_time) * (used - mean_used) for time, (_, used) in zip(times, samples, strict=True)
    )
    return along / spread * DAY_S


def full_in_s(free: int, rate: float | None) -> float | None:
    """Seconds until nothing is free at that rate; `None` if it does not grow."""
    return free / rate * DAY_S if rate is not None and rate > 0 else None


def warning(filesystems: Sequence[FilesystemView], settings: DiskSettings) -> ErrorView | None:
    """What administrators are to be told before a filesystem is full, if anything: of the fullest one."""
    for each in sorted(filesystems, key=lambda each: -each.percent):
        soon = each.full_in_s is not None and each.full_in_s < settings.warn_days * DAY_S
        if each.percent < settings.warn_percent and not soon:
            continue
        free = shown_bytes(each.free)
        message = f"The disk `{each.path}` is {each.percent:.0f} % full: {free} are free."
        if soon and each.full_in_s is not None and each.growth is not None:
            message = (
                f"{message[:-1]}, and at {shown_bytes(round(each.growth))} more a day it is full in "
                f"{shown_seconds(max(each.full_in_s, 60.0))}."
            )
        return ErrorView(**DiskLow(message, _what_to_do(each)).to_dict())
    return None


def _what_to_do(filesystem: FilesystemView) -> str:
    if "docker" in filesystem.holds:
        return "Erase images that nobody needs, or let retention do it."
    if "projects" in filesystem.holds:
        return "Ask people to delete projects, or make the disk of `storage.root` larger."
    return "Make room on it: the service keeps its state there."
