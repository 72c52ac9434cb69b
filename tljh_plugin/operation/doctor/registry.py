"""The register of checks.

A check is a function in one of the modules of `checks/`, with a line above it:

    @check("docker-storage", "Docker", "Docker's storage driver")
    async def storage(site: Site) -> Verdict:
        \"\"\"What is looked at, as the reference says it.\"\"\"

It returns one verdict or several, raises `CannotCheck` where there is nothing to look at, and may let errors
of ours pass: they become `not-checked`. A plain function runs in a thread. To add one, write it; the
command, the page, the API and the reference find it here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from ...errors import InvalidRequest
from .findings import Verdict
from .site import Site

Answer = Verdict | Sequence[Verdict]
Look = Callable[[Site], Answer | Awaitable[Answer]]

# Seconds that one check has, so that all of them, which run at the same time, end within five.
LIMIT_S = 3.0

GROUPS = ("Installation", "Docker", "Network", "Reach", "Disk", "State", "Left over", "People", "Web")


@dataclass(frozen=True, slots=True)
class Check:
    """A check and what is said of it. `repairs` says what `--fix` does; empty: nothing."""

    id: str
    group: str
    title: str
    look: Look
    repairs: str = ""

    @property
    def about(self) -> str:
        """What it looks at."""
        return " ".join((inspect.getdoc(self.look) or "").split())


_known: dict[str, Check] = {}


def check(identifier: str, group: str, title: str, *, repairs: str = "") -> Callable[[Look], Look]:
    """Register a function as a check."""

    def register(look: Look) -> Look:
        if identifier in _known and _known[identifier].look.__qualname__ != look.__qualname__:
            raise ValueError(f"there are two checks `{identifier}`")
        if group not in GROUPS:
            raise ValueError(f"`{group}` is no group of checks")
        _known[identifier] = Check(identifier, group, title, look, repairs)
        return look

    return register


def all_checks() -> tuple[Check, ...]:
    """All of them, by group."""
    from . import checks

    for module in pkgutil.iter_modules(checks.__path__):
        importlib.import_module(f"{checks.__name__}.{module.name}")
    return tuple(sorted(_known.values(), key=lambda each: (GROUPS.index(each.group), each.id)))


def named(wanted: Iterable[str]) -> tuple[Check, ...]:
    """The checks of these ids or groups; all of them where none is named. Raises `InvalidRequest`."""
    everything, asked = all_checks(), list(wanted)
    if not asked:
        return everything
    ids = {known.id for known in everything}
    for each in asked:
        if not any(_is_meant(known, each, ids) for known in everything):
            raise InvalidRequest(
                f"There is no check `{each:.60}`.",
                f"Checks: {', '.join(known.id for known in everything)}.",
            )
    return tuple(known for known in everything if any(_is_meant(known, each, ids) for each in asked))


def _is_meant(known: Check, word: str, ids: Collection[str]) -> bool:
    """An id goes before a group that is called the same but for its capital."""
    if word in ids:
        return word == known.id
    return word in (known.group, known.group.lower().replace(" ", "-"))
