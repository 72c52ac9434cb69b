"""The values of an examination: what a check found, and all that was found; all frozen.

A check returns `Verdict`s. With the check's own id, title and group they become `Finding`s, and these a
`Report`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ...wire import DoctorView, FindingStatus, FindingView, RepairView

# The worst first, as they are shown.
ORDER: tuple[FindingStatus, ...] = ("problem", "warning", "not-checked", "note", "ok")


Seen = Mapping[str, object]
NOTHING: Seen = {}


class CannotCheck(Exception):
    """The check has nothing to look at here; the text says why, as a sentence."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A safe way to put it right: it can be done again and taken back, and loses nothing.

    `what` says what is done, in the infinitive. `do` does it and returns what was done; what it raises is
    reported.
    """

    what: str
    do: Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found about one thing.

    `meaning` says what it means for people, `fix` is a command or a sentence; both are empty where all is
    well. `seen` are the values that were read. `about` names the thing where a check looks at several.
    """

    status: FindingStatus
    meaning: str = ""
    fix: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    repair: Repair | None = None


def ok(meaning: str = "", *, about: str = "", seen: Seen = NOTHING) -> Verdict:
    """All is well."""
    return Verdict("ok", meaning, "", _texts(seen), about)


def note(
    meaning: str, fix: str = "", *, about: str = "", repair: Repair | None = None, seen: Seen = NOTHING
) -> Verdict:
    """Something that one should know and that is not wrong."""
    return Verdict("note", meaning, fix, _texts(seen), about, repair)


def warning(
    meaning: str, fix: str, *, about: str = "", repair: Repair | None = None, seen: Seen = NOTHING
) -> Verdict:
    """It works, and will not always, or not for everybody."""
    return Verdict("warning", meaning, fix, _texts(seen), about, repair)


def problem(
    meaning: str, fix: str, *, about: str = "", repair: Repair | None = None, seen: Seen = NOTHING
) -> Verdict:
    """Something that people need does not work, or is open to those who must not have it."""
    return Verdict("problem", meaning, fix, _texts(seen), about, repair)


def _texts(seen: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in seen.items()}


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict of a check. `id` is the check's, stable, in kebab-case."""

    id: str
    group: str
    title: str
    verdict: Verdict

    def view(self) -> FindingView:
        """As it is sent and printed."""
        verdict = self.verdict
        return FindingView(
            id=self.id,
            group=self.group,
            title=self.title,
            about=verdict.about,
            status=verdict.status,
            seen=dict(verdict.seen),
            meaning=verdict.meaning,
            fix=verdict.fix,
            repair=verdict.repair.what if verdict.repair else "",
        )


@dataclass(frozen=True, slots=True)
class Report:
    """An examination. `repairs` is what `--fix` did, in its order."""

    checked: str
    seconds: float
    findings: tuple[Finding, ...]
    repairs: tuple[RepairView, ...] = ()

    def view(self, **about: str) -> DoctorView:
        """As it is sent and printed, the worst first; `about` are fields that say of what it tells."""
        rows = sorted(self.findings, key=lambda each: ORDER.index(each.verdict.status))
        return DoctorView(
            checked=self.checked,
            seconds=round(self.seconds, 3),
            counts=counts(each.verdict.status for each in rows),
            findings=tuple(each.view() for each in rows),
            repairs=self.repairs,
            **about,
        )


def counts(statuses: Iterable[FindingStatus]) -> dict[FindingStatus, int]:
    """How many there are of each, the worst first."""
    known = list(statuses)
    return {status: known.count(status) for status in ORDER}
