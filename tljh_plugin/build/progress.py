"""BuildKit's plain progress as a log for people: pure, one line in, at most one line and a percentage out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LINE = re.compile(r"^#(?P<step>\d+) (?P<rest>.*)$")
_STAGE = re.compile(r"^\[(?:(?P<stage>[^\]]*?) +)?(?P<number>\d+)/(?P<of>\d+)\] (?P<what>.*)$")
_TIMED = re.compile(r"^\d+\.\d+ ?(?P<text>.*)$")
_DONE = re.compile(r"^DONE (?P<seconds>\d+\.\d+)s$")
_MOUNTS = re.compile(r"--mount=\S+\s+")
_INSTALL = re.compile(r"^RUN /usr/bin/python3 -I -S \S+/install\.py .*? -- (?:-r )?\"?(?P<what>[^\"]+)\"?$")
# What the log says when one of our own steps begins to install.
INSTALLS = re.compile(r"Step \d+/\d+: install ")
_NOISE = re.compile(
    r"^(\[internal\]|(building with|transferring|resolve|extracting|exporting|naming to|writing) |sha256:)"
)
_SPENT_WORTH_SAYING_S = 0.5
_LONGEST = 400


@dataclass
class Progress:
    """Reads the lines of one build. `percent` never goes backwards and reaches 100 only with the result."""

    percent: int = 0
    _hidden: set[str] = field(default_factory=set)
    _begun: set[str] = field(default_factory=set)
    _summary: bool = False

    def read(self, line: str) -> str | None:
        """What to show for a line of the builder; None for what people need not see."""
        text = _ESCAPES.sub("", line).rstrip()
        if self._summary and text.startswith("#0 "):  # another build begins
            self._summary, self._hidden, self._begun = False, set(), set()
        if self._summary:
            return text[:_LONGEST] if text.startswith("ERROR:") else None
        if text.startswith("------"):
            self._summary = True  # from here on it repeats what was said
            return None
        match = _LINE.match(text)
        if match is None:
            return text or None
        return self._of_step(match["step"], match["rest"])

    def _of_step(self, step: str, rest: str) -> str | None:
        timed = _TIMED.match(rest)
        if timed and step not in self._hidden:
            return timed["text"]
        stage = _STAGE.match(rest)
        if stage or rest == "...":  # it comes back to a step, or leaves it for another one
            return self._begin(step, stage) if stage else None
        if rest.startswith("exporting to image"):
            self._reach(93)
            return "Writing the image"
        if rest == "CACHED":
            return None if step in self._hidden else "unchanged since an earlier build"
        done = _DONE.match(rest)
        if done:
            spent = float(done["seconds"])
            worth = step not in self._hidden and spent >= _SPENT_WORTH_SAYING_S
            return f"done in {spent:.1f} s" if worth else None
        if _NOISE.match(rest):
            self._hidden.add(step)
            return None
        return rest[:_LONGEST] or None

    def _begin(self, step: str, stage: re.Match[str]) -> str | None:
        if step in self._begun:
            return None
        self._begun.add(step)
        number, of = int(stage["number"]), int(stage["of"])
        self._reach(2 + 90 * (number - 1) // of)
        what = _MOUNTS.sub("", stage["what"])
        install = _INSTALL.match(what)
        if install:
            wanted = install["what"].removeprefix("/run/littlest-binder/src/")
            what = "install the repository itself" if wanted == "." else f"install what {wanted} asks for"
        return f"Step {number}/{of}: {what[:_LONGEST]}"

    def _reach(self, percent: int) -> None:
        self.percent = max(self.percent, percent)
