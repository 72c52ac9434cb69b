"""The boxes of mounts on a form, whichever form it is. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..wire import MountView


@dataclass(frozen=True, slots=True)
class Tick:
    """A box: what the person reads, whether it is ticked, and why it cannot be, if it cannot."""

    id: str
    title: str
    description: str
    access: str
    place: str
    ticked: bool
    problem: str

    @property
    def possible(self) -> bool:
        """Whether it can be ticked."""
        return not self.problem


def ticks(mounts: Sequence[MountView], ticked: Collection[str] | None) -> list[Tick]:
    """The boxes of what a person may have. `ticked` None: those that are ticked by default."""
    return [
        Tick(
            id=each.id,
            title=each.title,
            description=each.description,
            access="read and write" if each.access == "read-write" else "read only",
            place=f"~/{each.link}, {each.target}",
            ticked=each.error is None and (each.default if ticked is None else each.id in ticked),
            problem=f"{each.error.message} {each.error.next}".strip() if each.error else "",
        )
        for each in mounts
    ]
