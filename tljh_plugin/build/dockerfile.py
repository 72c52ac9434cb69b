"""Reading a repository's Dockerfile before BuildKit does, to refuse what reaches beyond the repository.

A Dockerfile can run any BuildKit front end (`# syntax`), make Docker fetch addresses from this machine's own
network (`ADD`), and read other people's images (`FROM`, `COPY --from`, `--mount=from`). Comes in: the text,
the build arguments, the names of the images on this machine. Goes out: a `Plan`, or `DockerfileRefused` with
the line. What cannot be evaluated is refused. The rules are those of BuildKit's parser and its shell lexer.

Two readings are checked, since engines differ: with here-documents (Docker 23 and later) and without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DockerfileRefused, ReservedLabel
from ..labels import LABEL_PREFIX

_OURS = re.compile(r"docker\.io/littlest-binder/(base:(latest|[0-9a-f]{12}(-python-3\.\d+)?)|debian:[a-z]+)")
# By Go's `\s`, which is ASCII's alone.
_DIRECTIVE = re.compile(r"#[\t\n\f\r ]*([A-Za-z][A-Za-z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*")
_SYNTAX = re.compile(r"^\s*(#|//)\s*syntax\s*=", re.IGNORECASE)
_INSTRUCTION = re.compile(r"^([A-Za-z]+)(?:[ \t\v\f\r]+(.*))?$", re.DOTALL)
_HEREDOC = re.compile(r"^\d*<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\2$")
_HEREDOC_LIKE = re.compile(r"^\d*<<-?[^<]+$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(
    r"[a-z0-9][a-z0-9._/-]*(:\d+/[a-z0-9._/-]+)?(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?"
)
_REMOTE = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://|[\w.-]+@[\w.-]+:)")
_UNKNOWN = "\0"
_BLANK = " \t\v\f\r\n"
# What Go's `unicode.IsSpace` says: builders take it away from the ends of lines, and part assignments at it.
_SPACE = (
    _BLANK + "\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
_FROM_FLAG, _MOUNT_FLAG = "--from=", "--mount="
# Set by BuildKit itself, whatever the file says.
_PLATFORM = tuple(
    f"{side}{part}" for side in ("BUILD", "TARGET") for part in ("PLATFORM", "OS", "ARCH", "VARIANT")
)
_MOST_BYTES = 1024**2


@dataclass(frozen=True)
class Plan:
    """`pull`: BuildKit must fetch every base image anew, so that it uses none of this machine's.

    `added` are the words of all `ADD` instructions, which unpack archives; a NUL stands for what is unknown.
    """

    pull: bool
    added: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalImages:
    """The names of the images on this machine; `only_here` those of images that no registry gave."""

    names: frozenset[str] = frozenset()
    only_here: frozenset[str] = frozenset()

    def all_but(self, name: str) -> LocalImages:
        """As if every image of this machine but one were only here."""
        others = frozenset(each for each in self.names if _normalised(each) != _normalised(name))
        return LocalImages(others, others)


@dataclass(frozen=True)
class _Line:
    """One instruction, its lines joined; `number` is that of its first line."""

    number: int
    text: str


@dataclass
class _Reading:
    """What is known while reading from the top."""

    arguments: Mapping[str, str]
    escape: str
    globals: dict[str, str] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)  # names in order, empty where there is none
    stage_env: dict[str, dict[str, str]] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    images: list[tuple[int, str]] = field(default_factory=list)
    added: list[str] = field(default_factory=list)


def read_dockerfile(path: Path) -> str:
    """The text, letter for letter: also its line ends, which are no ends where BuildKit sees none.

    Raises `DockerfileRefused` for what is not UTF-8, since BuildKit takes some bytes for blanks.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise DockerfileRefused(f"The Dockerfile has more than {_MOST_BYTES} bytes.", "Is it the right file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise _refused(number, "it is not written in UTF-8", "Save the file as UTF-8.") from None


def check_dockerfile(text: str, arguments: Mapping[str, str], local: LocalImages) -> Plan:
    """Raises `DockerfileRefused` (for labels of ours `ReservedLabel`) naming the line, what is wrong with it
    and what to write instead.

    Allowed are our own base images and Debian's, stages of the same file, `scratch`, and images that a
    registry gives. If none is ours, BuildKit is told to ask the registry for all of them, so that what is
    here under the same name is not used. If some are, it prefers what is here: then a name that is here is
    refused.
    """
    text = text.removeprefix("\ufeff")
    escape = _directives(text)
    images: list[tuple[int, str]] = []
    added: list[str] = []
    for lines in (_plain_lines(text, escape), _heredoc_lines(text, escape)):
        reading = _Reading(arguments, escape, globals=dict.fromkeys(_PLATFORM, _UNKNOWN))
        for line in lines:
            _check(line, reading)
        images += reading.images
        added += reading.added
    ours = [name for _, name in images if _OURS.fullmatch(name)]
    refused = {_normalised(name) for name in (local.names if ours else local.only_here)}
    for number, name in images:
        if name in refused and not _OURS.fullmatch(name):
            raise _refused(
                number,
                f"`{_familiar(name)}` is an image of this machine, perhaps somebody else's",
                "Build on `littlest-binder/base`, or on an image that comes from a registry.",
            )
    return Plan(pull=bool(images) and not ours, added=tuple(dict.fromkeys(added)))


def _refused(number: int, what: str, instead: str) -> DockerfileRefused:
    return DockerfileRefused(f"Line {number} of the Dockerfile: {what}.", instead)


# -- from text to instructions ------------------------------------------------------------------------


def _directives(text: str) -> str:
    """The escape character. Raises for `# syntax`, wherever some version of BuildKit would look for it."""
    escape, directives, unknown = "\\", True, False
    if text.lstrip().startswith("{"):
        raise _refused(1, "it is not a Dockerfile", "Begin with `FROM`.")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith(("#", "//")):
            break
        if _SYNTAX.match(line):
            what = f"`{line.strip():.80}` would run another builder"
            raise _refused(number, what, "Remove the line; it is not needed.")
        match = _DIRECTIVE.fullmatch(line.removesuffix("\r").lstrip(_SPACE)) if directives else None
        directives = match is not None  # they end at the first line that is none
        if match and match.group(1).lower() == "escape":
            escape = match.group(2)
            if escape not in ("\\", "`"):
                raise _refused(number, f"the escape character {escape!r:.20} is unknown", "Remove the line.")
            if unknown:
                what = "builders disagree about a directive after one that they do not know"
                raise _refused(number, what, "Make it the first line.")
        unknown = unknown or match is not None
    return escape


def _plain_lines(text: str, escape: str) -> Iterator[_Line]:
    """Instructions, as builders without here-documents read them."""
    for line, _ in _joined_with_rest(list(enumerate(text.split("\n"), 1)), escape):
        yield line


def _heredoc_lines(text: str, escape: str) -> Iterator[_Line]:
    """Instructions without the here-documents that belong to them."""
    left = list(enumerate(text.split("\n"), 1))
    while left:
        found = next(_joined_with_rest(left, escape), None)
        if found is None:
            return
        line, left = found
        yield line
        for strip, name in _heredocs(line):
            while left:
                _, body = left.pop(0)
                if (body.lstrip("\t") if strip else body).rstrip("\r") == name:
                    break


def _joined_with_rest(
    lines: list[tuple[int, str]], escape: str
) -> Iterator[tuple[_Line, list[tuple[int, str]]]]:
    """Physical lines joined at the escape character, each with what follows it.

    Comments and empty lines are skipped, also between joined ones.
    """
    begun, joined = 0, ""
    for place, (number, raw) in enumerate(lines):
        line = raw.rstrip("\r")
        bare = line.lstrip(_SPACE)
        if not bare or bare.startswith("#"):
            continue
        begun = begun or number
        line = line if joined else bare
        ending = line.rstrip(" \t")
        if ending.endswith(escape * 2):
            what = f"builders disagree about `{escape * 2}` at the end of a line"
            raise _refused(number, what, "Write it otherwise.")
        if ending.endswith(escape):
            joined += ending[:-1]
            continue
        yield _Line(begun, (joined + line).strip(_SPACE)), lines[place + 1 :]
        begun, joined = 0, ""
    if joined:
        yield _Line(begun, joined.strip(_SPACE)), []


def _heredocs(line: _Line) -> list[tuple[bool, str]]:
    match = _INSTRUCTION.match(line.text)
    while match and match.group(1).upper() == "ONBUILD":
        match = _INSTRUCTION.match((match.group(2) or "").strip(_SPACE))
    if not match or match.group(1).upper() not in ("RUN", "COPY", "ADD"):
        return []
    found = []
    for word in (match.group(2) or "").split():
        heredoc = _HEREDOC.match(word)
        if heredoc:
            found.append((bool(heredoc.group(1)), heredoc.group(3)))
        elif _HEREDOC_LIKE.match(word):
            what = f"the here-document `{word:.40}` cannot be read"
            raise _refused(line.number, what, "Use a plain name, as in `<<EOF`.")
    return found


# -- words --------------------------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    """At blanks as builders see them: not at every blank of Unicode."""
    return [word for word in re.split(f"[{_BLANK}]+", text) if word]


def _assignments(text: str, escape: str) -> list[str]:
    """The words of an `ENV` or `ARG`: blanks in quotes, or after the escape character, part nothing."""
    words, word, quote, position = [], "", "", 0
    while position < len(text):
        char = text[position]
        if char == escape and quote != "'":
            word += text[position : position + 2]
            position += 2
            continue
        if not quote and char in _SPACE:
            words.append(word)
            word = ""
        else:
            word += char
            quote = ("" if char == quote else quote) if quote else (char if char in "\"'" else "")
        position += 1
    return [each for each in [*words, word] if each]


def expand(word: str, known: Mapping[str, str], escape: str = "\\", *, sure: bool = True) -> str:
    """A word as BuildKit's shell lexer reads it; a variable that is not known becomes a NUL.

    With `sure` what is not known is not set, so that its default counts.
    """
    result, position, quote = "", 0, ""
    while position < len(word):
        char = word[position]
        if quote == "'":
            if char == "'":
                quote = ""
            else:
                result += char
        elif char == escape:
            position += 1
            following = word[position : position + 1]
            if quote and following not in ('"', "$", escape):
                result += char
            result += following
        elif char == '"' or (char == "'" and not quote):
            quote = "" if quote else char
        elif char == "$":
            value, position = _variable(word, position + 1, known, escape, sure)
            result += value
            continue
        else:
            result += char
        position += 1
    return result + (_UNKNOWN if quote else "")


def _variable(word: str, position: int, known: Mapping[str, str], escape: str, sure: bool) -> tuple[str, int]:
    """The value of the variable at `position` (after the `$`), and where the word goes on."""
    if word[position : position + 1] != "{":
        match = _NAME.match(word, position)
        if match is None:
            return _UNKNOWN, position + 1
        return known.get(match.group(), _UNKNOWN), match.end()
    end = _closing(word, position)
    inside = word[position + 1 : end]
    match = _NAME.match(inside)
    if match is None:
        return _UNKNOWN, end + 1
    value, modifier = known.get(match.group()), inside[match.end() :]
    if not modifier:
        return (_UNKNOWN if value is None else value), end + 1
    if (value is None and not sure) or _UNKNOWN in (value or ""):
        return _UNKNOWN, end + 1
    if modifier.startswith(":-"):
        return (value or expand(modifier[2:], known, escape, sure=sure)), end + 1
    if modifier.startswith(":+") and value is not None:
        return (expand(modifier[2:], known, escape, sure=sure) if value else ""), end + 1
    return _UNKNOWN, end + 1


def _closing(word: str, position: int) -> int:
    depth = 0
    for place in range(position, len(word)):
        depth += {"{": 1, "}": -1}.get(word[place], 0)
        if depth == 0:
            return place
    return len(word)


# -- instructions -------------------------------------------------------------------------------------


def _check(line: _Line, reading: _Reading) -> None:
    match = _INSTRUCTION.match(line.text)
    if match is None:
        return  # no builder takes it for an instruction either
    name, rest = match.group(1).upper(), (match.group(2) or "").strip()
    if name == "FROM":
        _check_from(line, rest, reading)
    elif name == "ARG":
        _take_arguments(rest, reading)
    elif name == "ENV":
        _take_env(rest, reading)
    elif name in ("COPY", "ADD", "RUN"):
        _check_files(line, name, rest, reading)
    elif name == "LABEL":
        _check_label(line, rest, reading)
    elif name == "ONBUILD":
        inner = _Reading(reading.arguments, reading.escape, stages=reading.stages)
        _check(_Line(line.number, rest), inner)
        reading.images += inner.images
        reading.added += inner.added


def _check_label(line: _Line, rest: str, reading: _Reading) -> None:
    """Ours are set after the repository's and win, so that a lie would not be seen in the image any more."""
    known = {**reading.arguments, **reading.globals, **reading.env}
    if LABEL_PREFIX in expand(rest, known, reading.escape):
        raise ReservedLabel(
            f"Line {line.number} of the Dockerfile writes a label that only The Littlest Binder may write: "
            f"`{rest:.80}`.",
            f"Remove the labels that begin with `{LABEL_PREFIX}`.",
        )


def _check_from(line: _Line, rest: str, reading: _Reading) -> None:
    _, rest = _flags(line, rest, reading.escape)
    words = _words(rest)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        return  # not a `FROM` for any builder; a line of a here-document may look like this
    reference = expand(words[0], reading.globals, reading.escape)
    stage = words[2].lower() if len(words) == 3 else ""
    reading.env = {}
    if reference and reference.lower() in reading.stages:
        reading.env = dict(reading.stage_env.get(reference.lower(), {}))
    else:
        _take_image(line, words[0], reference, reading)
    reading.stages.append(stage)
    reading.stage_env[stage] = reading.env


def _take_image(line: _Line, written: str, reference: str, reading: _Reading) -> None:
    if reference == "scratch":
        return
    if _UNKNOWN in reference or not reference:
        raise _refused(
            line.number,
            f"`{written:.80}` cannot be evaluated",
            "Write the name out, or give its `ARG` a default before the first `FROM`.",
        )
    name = _normalised(reference)
    if not name or re.fullmatch(r"(sha256:)?[0-9a-f]{12,64}", reference):
        raise _refused(line.number, f"`{reference:.80}` is not the name of an image", "Use a name and a tag.")
    reading.images.append((line.number, name))


def _take_arguments(rest: str, reading: _Reading) -> None:
    """Only those before the first `FROM` matter: later ones lose to the environment of an unknown image."""
    if reading.stages:
        return
    for word in _assignments(rest, reading.escape):
        name, equals, default = word.partition("=")
        if name in _PLATFORM:
            continue
        value = expand(default, reading.globals, reading.escape) if equals else _UNKNOWN
        reading.globals[name] = reading.arguments.get(name, value)


def _take_env(rest: str, reading: _Reading) -> None:
    words = _assignments(rest, reading.escape)
    if words and "=" not in words[0]:
        name, _, value = re.sub(f"[{_BLANK}]+", " ", rest, count=1).partition(" ")
        words = [f"{name}={value}"]
    before = dict(reading.env)
    for word in words:
        name, _, value = word.partition("=")
        name = expand(name, before, reading.escape, sure=False)
        if _UNKNOWN in name:
            reading.env = {}  # it may be any of them
            return
        value = expand(value, before, reading.escape, sure=False)
        reading.env[name] = _UNKNOWN if "$" in value else value


def _check_files(line: _Line, name: str, rest: str, reading: _Reading) -> None:
    flags, rest = _flags(line, rest, reading.escape)
    for flag in flags:
        if name == "RUN" and re.match(r"--security=(?!sandbox$)|--network=(?!none$|default$)", flag):
            raise _refused(line.number, f"`{flag:.80}` would leave the build's isolation", "Remove it.")
        if name == "RUN" and flag.startswith(_MOUNT_FLAG):
            for part in flag.removeprefix(_MOUNT_FLAG).split(","):
                key, _, value = part.partition("=")
                if key.strip().lower() == "from":
                    _check_source(line, value.strip(), reading)
        elif name != "RUN" and flag.lower().startswith(_FROM_FLAG):
            _check_source(line, flag[len(_FROM_FLAG) :], reading)
    if name == "ADD":
        for source in _sources(rest):
            _check_added(line, source, reading)


def _flags(line: _Line, rest: str, escape: str) -> tuple[list[str], str]:
    """The flags of an instruction and what follows them."""
    flags = []
    while rest.startswith("--"):
        flag, _, rest = re.sub(r"[\t\v\f\r\n]", " ", rest).partition(" ")
        rest = rest.lstrip()
        # Here a backslash escapes whatever the file says, and single bytes of other letters count as blanks.
        if re.search(r"[\"'\\]", flag) or escape in flag or not flag.isascii():
            raise _refused(line.number, f"`{flag:.80}` cannot be evaluated", "Write it without quotes.")
        if flag.lower() + "=" in (_FROM_FLAG, _MOUNT_FLAG, "--platform="):
            raise _refused(line.number, f"`{flag}` has no value", f"Write `{flag}=…`.")
        flags.append(flag)
    return flags, rest


def _check_source(line: _Line, source: str, reading: _Reading) -> None:
    """What `--from` names: a stage by name or number, or an image."""
    if "$" in source:
        raise _refused(line.number, f"`from={source:.80}` cannot be evaluated", "Write the name out.")
    earlier = {*reading.stages, *map(str, range(len(reading.stages)))}
    if not source or source.lower() not in earlier:
        _take_image(line, source, source, reading)


def _sources(rest: str) -> list[str]:
    """All words of an `ADD`, in both of its forms; the last one is the target, which does no harm here."""
    words = _words(rest)
    if rest.lstrip().startswith("["):
        try:
            listed = json.loads(rest)
        except ValueError:
            return words
        words += [str(each) for each in listed]
    return words


def _check_added(line: _Line, source: str, reading: _Reading) -> None:
    value = expand(source, reading.env, reading.escape, sure=False)
    reading.added.append(value)
    if _REMOTE.match(value):
        what = f"`ADD {source:.80}` would let Docker itself fetch an address"
        instead = "Use `RUN curl` or `RUN git clone`, which run in the build's own network."
        raise _refused(line.number, what, instead)
    if _UNKNOWN in value and not re.match(r"^[^:@\0]*/", value):
        what = f"`ADD {source:.80}` cannot be evaluated"
        raise _refused(line.number, what, "Write the path out, or use `COPY`.")


# -- names of images ----------------------------------------------------------------------------------


def _normalised(reference: str) -> str:
    """`host/path:tag` or `host/path@digest`, as Docker completes it; empty if it is not a name."""
    if not _IMAGE.fullmatch(reference):
        return ""
    name, _, digest = reference.partition("@")
    first, slash, _ = name.partition("/")
    if not slash or not (re.search(r"[.:]", first) or first == "localhost"):
        name = f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    name = re.sub(r"^index\.docker\.io/", "docker.io/", name)
    name = re.sub(r"^docker\.io/(?=[^/]+$)", "docker.io/library/", name)
    if digest:
        return f"{name.rpartition(':')[0] if ':' in name.rpartition('/')[2] else name}@{digest}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _familiar(name: str) -> str:
    return name.removeprefix("docker.io/").removeprefix("library/")
