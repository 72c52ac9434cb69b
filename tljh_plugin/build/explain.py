"""Why a build failed, from the last lines of its log: a code, one sentence, and what to change.

Pure: lines go in, an error comes out. A cause is a pattern over one line, tried in the order of `CAUSES`; of
the lines that match, the first is taken, since what follows is mostly its consequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import BuildFailed

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_STEP = re.compile(r"^#\d+ (?:\d+\.\d+ )?")
_SHOWN = 200


@dataclass(frozen=True)
class Cause:
    """`message` and `next_step` are filled with the pattern's named groups."""

    code: str
    pattern: re.Pattern[str]
    message: str
    next_step: str


def _cause(code: str, pattern: str, message: str, next_step: str) -> Cause:
    return Cause(f"build-{code}", re.compile(pattern), message, next_step)


CAUSES: tuple[Cause, ...] = (
    _cause(
        "disk-full",
        r"(?i)no space left on device|disk quota exceeded",
        "The disk is full.",
        "Delete images that nobody needs, or ask an administrator; then build again.",
    ),
    _cause(
        "package-not-found",
        r"Because (?P<name>\S+) was not found in the package registry",
        "There is no Python package called `{name}`.",
        "Correct the name in requirements.txt (a module and its package may have different names).",
    ),
    _cause(
        "version-not-found",
        r"[Bb]ecause there is no version of (?P<name>\S+)",
        "There is no version `{name}` for this Python.",
        "Ask for another version in requirements.txt, or set one of Python's in runtime.txt.",
    ),
    _cause(
        "package-not-found",
        r"No matching distribution found for (?P<name>.+?)\s*$",
        "There is no Python package `{name}` for this Python.",
        "Correct its name or its version in requirements.txt.",
    ),
)


def clean(line: str) -> str:
    """A line of the builder's output without colours and without BuildKit's step number and time."""
    return _STEP.sub("", _ESCAPES.sub("", line)).rstrip()


def explain(lines: Iterable[str]) -> BuildFailed:
    """The error of a failed build; with an unknown cause the last line that speaks of an error is shown."""
    cleaned = [text for text in map(clean, lines) if text]
    for cause in CAUSES:
        for line in cleaned:
            match = cause.pattern.search(line)
            if match:
                found = {name: (value or "").strip("`'\", ") for name, value in match.groupdict().items()}
                return BuildFailed(
                    cause.message.format(**found), cause.next_step.format(**found), code=cause.code
                )
    return BuildFailed(
        f"The build failed: {_last_error(cleaned)}",
        "Read the last lines of the log, correct the repository, and build again.",
    )


def _last_error(lines: Sequence[str]) -> str:
    told = [line for line in lines if re.search(r"(?i)\b(error|fatal|failed|cannot)\b", line)]
    return (told or list(lines) or ["it said nothing"])[-1].strip()[:_SHOWN]
