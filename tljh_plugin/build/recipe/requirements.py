"""What a requirements file asks for, as far as it decides how to install it.

Comes in: a file of a checkout. Goes out: `Requirements`, which says what must be there to install it and
which installer honours it exactly. The format is pip's (its reference, "Requirements File Format"); nothing
is resolved here.
"""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_SCHEME = re.compile(r"^(?:(git|hg|svn|bzr)\+)?([a-z][a-z0-9+.-]*):", re.IGNORECASE)

_ARCHIVE = re.compile(r"\.(whl|zip|tgz|tbz|txz|tar(\.\w+)?)$", re.IGNORECASE)

_TAKES_FILE = {"-r": "r", "--requirement": "r", "-c": "c", "--constraint": "c"}
_INDEX = {"-i", "--index-url", "--pypi-url", "--extra-index-url", "--no-index", "--trusted-host"}
_FIND = {"-f", "--find-links"}
_EDITABLE = {"-e", "--editable"}
# Understood by uv as by pip.
_SAME = {"--pre", "--no-binary", "--only-binary", "--require-hashes"}
_VALUED = {*_TAKES_FILE, *_INDEX, *_FIND, *_EDITABLE, "--no-binary", "--only-binary"} - {"--no-index"}


@dataclass(frozen=True)
class Requirements:
    """`files` are the file itself and what it includes, relative to the checkout.

    `plain`: names and versions only, so no code of the repository or of an unknown place runs. `local`: it
    needs other files of the repository. `only_pip`: why uv would not do, empty if it does. `beyond_base`: why
    the base image would not do either. `hashes`: pip would insist on a hash for everything.
    """

    files: tuple[str, ...]
    plain: bool = True
    local: bool = False
    only_pip: str = ""
    beyond_base: str = ""
    hashes: bool = False


@dataclass
class _Findings:
    read: Callable[[str], bytes | None]
    files: list[str] = field(default_factory=list)
    plain: bool = True
    local: bool = False
    only_pip: str = ""
    beyond_base: str = ""
    hashes: bool = False


def read_requirements(path: str, read: Callable[[str], bytes | None]) -> Requirements:
    """Look at `path` and what it includes; `read` gives a file of the checkout, None if it is not there."""
    found = _Findings(read)
    _look_at(path, found)
    return Requirements(
        files=tuple(found.files),
        plain=found.plain and not found.local,
        local=found.local,
        only_pip=found.only_pip,
        beyond_base=found.beyond_base,
        hashes=found.hashes,
    )


def decode(content: bytes) -> tuple[str, str]:
    """The text and its encoding, found as pip finds it: a byte order mark, a coding comment, UTF-8."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(_exact(encoding, mark)), encoding
    for line in content.split(b"\n")[:2]:
        match = _CODING.match(line)
        if match:
            encoding = match.group(1).decode("ascii")
            return content.decode(encoding), encoding.lower()
    return content.decode("utf-8"), "utf-8"


def _exact(encoding: str, mark: bytes) -> str:
    """The name of the encoding that does not want the mark again."""
    if encoding == "utf-8":
        return encoding
    return f"{encoding}-{'le' if mark[0] == 0xFF else 'be'}"


def _look_at(path: str, found: _Findings) -> None:
    if path in found.files:
        return
    content = found.read(path)
    if content is None:
        found.local = True  # the installer says what is missing, in its own words
        return
    found.files.append(path)
    try:
        text, encoding = decode(content)
    except (UnicodeDecodeError, LookupError):
        found.only_pip = f"{path} is not UTF-8"
        found.plain = False
        return
    if encoding not in ("utf-8", "utf8", "ascii", "utf-16"):
        found.only_pip = f"{path} is written in {encoding}"
    for line in _logical_lines(text):
        _look_at_line(line, path, found)


def _logical_lines(text: str) -> Iterator[str]:
    """Lines joined at `\\`, without comments, as pip does it."""
    joined = ""
    for line in text.splitlines():
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            joined += line.rstrip("\\")
            continue
        bare = _COMMENT.sub("", f"{joined} {line}" if comment and joined else joined + line).strip()
        joined = ""
        if bare:
            yield bare
    bare = _COMMENT.sub("", joined).strip()
    if bare:
        yield bare


def _look_at_line(line: str, path: str, found: _Findings) -> None:
    line, variables = _VARIABLE.subn("0", line)  # their values are known where it is installed
    if variables:
        found.plain = False
    if line.startswith("-"):
        _look_at_options(line, path, found)
        return
    requirement, *options = re.split(r"\s(?=--?[a-z])", line)
    for option in options:
        if option.startswith("--hash"):
            found.hashes = True
        else:
            found.only_pip = f"{path} uses `{option.split('=')[0].split()[0]}`"
    _look_at_requirement(requirement.strip(), found)


def _look_at_options(line: str, path: str, found: _Findings) -> None:
    try:
        words = shlex.split(line)
    except ValueError:
        found.only_pip = f"{path} has a line that only pip may understand: `{line:.60}`"
        return
    while words:
        name, attached = _option(words.pop(0))
        value = attached
        if name in _VALUED and not attached and words:
            value = words.pop(0)
        if name in _TAKES_FILE:
            _include(value, path, found)
        elif name in _EDITABLE:
            _look_at_requirement(value, found, editable=True)
        elif name in _FIND:
            found.plain = False
            if not _SCHEME.match(value):
                found.local = True
                found.only_pip = f"{path} looks for packages in the folder `{value}`"
        elif name in _INDEX:
            found.plain = False
        elif name in _SAME:
            found.hashes = found.hashes or name == "--require-hashes"
        else:
            found.plain = False
            found.only_pip = f"{path} uses `{name}`"


def _option(word: str) -> tuple[str, str]:
    """`-rfile`, `-r=file`, `--requirement=file` and `-r` as name and value."""
    if word.startswith("--"):
        name, _, value = word.partition("=")
        return name, value
    return word[:2], word[2:].removeprefix("=")


def _include(value: str, path: str, found: _Findings) -> None:
    if _SCHEME.match(value):
        found.plain = False
        if value.lower().startswith("file:"):
            found.local = True
        return
    target = _inside(PurePosixPath(path).parent / value)
    if target is None:
        found.local = True
    else:
        _look_at(target, found)


def _inside(path: PurePosixPath) -> str | None:
    """The path with `..` taken out, None if it leaves the checkout."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part == "/":
            return None
        elif part != ".":
            parts.append(part)
    return "/".join(parts) or None


def _look_at_requirement(text: str, found: _Findings, *, editable: bool = False) -> None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        _look_at_place(text, found, certain=editable)
        return
    if requirement.url:
        _look_at_place(requirement.url, found, certain=True)
    elif _ARCHIVE.search(text):
        _look_at_place(text, found, certain=True)  # pip looks for such a file first
    elif editable:
        found.local = True  # `-e name` is the folder `name`


def _look_at_place(place: str, found: _Findings, *, certain: bool) -> None:
    """A path or an address; `certain` if it can be nothing else."""
    found.plain = False
    match = _SCHEME.match(place)
    if match is None:
        found.local = True
        if not certain and not re.match(r"^[./~]|.*/", place) and not _ARCHIVE.search(place):
            found.only_pip = f"only pip may understand `{place:.60}`"
        return
    system, scheme = (match.group(1) or "").lower(), match.group(2).lower()
    if scheme == "file":
        found.local = True
    if system in ("hg", "svn", "bzr"):
        found.beyond_base = f"`{place:.60}` needs {system}, which the base image does not have"
