"""The pages of the documentation as tests read them: their code, their links, their headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(?P<mark>```+)(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=mark)\s*$", re.M | re.S)
_INDENTED = re.compile(r"(?:^|\n)\n((?:    [^\n]*\n)+)")
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?)\)")
# What may stand before a command: nothing, another command, variables, an interpreter, its folder.
_BEGINS = re.compile(r"(?:^|[|;&()]|\bsudo|\bpython3|=\S*|/bin/)\s*$")
# What ends the command of a shell before the next one begins.
_NEXT = {"|", "||", "&&", ";", "&", ">", ">>", "<", "2>"}


@dataclass(frozen=True)
class Page:
    """One page, by its place in the repository."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def prose(self) -> str:
        """All but fenced code."""
        return _FENCE.sub("", self.text)

    def fences(self) -> Iterator[tuple[str, str]]:
        """Kind and text of each block of fenced code; those that are indented have no kind."""
        for found in _FENCE.finditer(self.text):
            yield found["kind"].strip(), found["text"]
        for found in _INDENTED.finditer(self.prose):
            yield "", found[1]

    def spans(self) -> Iterator[str]:
        """What stands between single backticks."""
        for found in _SPAN.finditer(self.prose):
            yield " ".join(found[1].split())

    def commands(self, program: str) -> Iterator[list[str]]:
        """The arguments with which `program` is called, in code and in spans."""
        lines = [
            line for kind, text in self.fences() if kind not in ("yaml", "json") for line in _joined(text)
        ]
        for line in [*lines, *self.spans()]:
            for found in re.finditer(rf"(?<![\w.-]){re.escape(program)}(?: +(.*))?$", line):
                if _BEGINS.search(line[: found.start()]):
                    yield _arguments(found[1] or "")

    def links(self) -> Iterator[str]:
        """Targets of links and pictures that are no addresses of the web."""
        for found in _LINK.finditer(re.sub(r"`[^`\n]*`", "", self.prose)):
            if not re.match(r"[a-z]+:", found[1]):
                yield found[1]

    def anchors(self) -> set[str]:
        """The anchors that a git host makes of headings."""
        found: set[str] = set()
        for heading in re.findall(r"^#{1,6} +(.+?) *$", self.prose, re.M):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
            slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            number = 0
            while (each := f"{slug}-{number}" if number else slug) in found:
                number += 1
            found.add(each)
        return found


def _joined(text: str) -> list[str]:
    """Lines without prompts, those that end in a backslash with the next one."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [re.sub(r"^\s*[$#] ", "", line).strip() for line in lines]


def _arguments(rest: str) -> list[str]:
    try:
        words = shlex.split(rest, comments=True)
    except ValueError:
        words = rest.split()
    for place, word in enumerate(words):
        if word in _NEXT:
            return words[:place]
    return words


def all_pages() -> list[Page]:
    """README and everything in `docs/`."""
    paths = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [Page(path, path.read_text(encoding="utf-8")) for path in paths]
