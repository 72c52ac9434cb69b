"""The `.git` of a checkout: byte for byte the same for the same commit, whoever fetched it and how.

It is made from nothing but the commit, its repository's address and the tags of its history: a pack without
deltas whose objects are given in a fixed order, an index that git writes from the tree, and files of ours. A
small history is there whole; of a large one the commits (the latest ones, if there are very many) and what
the commit itself holds, as a partial clone, so that `git log` and `git describe` work.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckoutFailed
from .git import GitFailed
from .mirror import Mirror
from .providers import shown
from .tasks import together

# Deltas and what a server's pack happens to hold would make the bytes depend on how they were fetched.
_PACK = (
    "pack-objects",
    "--quiet",
    "--threads=1",
    "--window=0",
    "--no-reuse-delta",
    "--no-reuse-object",
    "--compression=1",
)


@dataclass(frozen=True)
class Facts:
    """What a commit says: its tree, and when it was committed (seconds since the epoch, within 0 … 2**32)."""

    tree: str
    time: int


async def facts(mirror: Mirror, commit: str, what: str) -> Facts:
    """Read the commit.

    Raises `GitFailed` if it is missing, which only a damaged mirror does, and `CheckoutFailed` if the object
    is something else.
    """
    output = await mirror.read("cat-file", "--batch", stdin=f"{commit}\n".encode())
    header, _, content = output.partition(b"\n")
    kind = header.split()[1].decode()
    if kind == "missing":
        raise GitFailed("cat-file", 0, f"{commit} is missing")
    if kind != "commit":
        raise CheckoutFailed(
            f"`{shown(what)}`: {commit} is not a commit but a {kind}.",
            "Give a commit, a branch, or a tag of a commit.",
        )
    tree = re.match(rb"tree ([0-9a-f]+)\n", content)
    time = re.search(rb"^committer .*? (-?\d+) [+-]\d+$", content.partition(b"\n\n")[0], re.MULTILINE)
    if tree is None:
        raise CheckoutFailed(f"`{shown(what)}`: the commit {commit} has no tree.", "Repair the repository.")
    seconds = int(time[1]) if time else 0
    return Facts(tree[1].decode(), min(max(seconds, 0), 2**32 - 1))


async def write(mirror: Mirror, commit: str, url: str, submodules: Mapping[str, str], target: Path) -> None:
    """Make the git directory `target` (which does not exist yet) for a work tree of `commit`.

    `url` becomes the address of `origin`, `submodules` (name → address) are known to it.
    """
    whole = mirror.whole(commit)
    boundary: list[str] = []
    if whole:
        objects = set(
            (await mirror.read("rev-list", "--objects", "--no-object-names", commit)).decode().split()
        )
        commits = objects
    else:
        commits, boundary = await _latest_commits(mirror, commit)
        own = await mirror.read("rev-list", "--objects", "--no-object-names", "--no-walk", commit)
        objects = commits | set(own.decode().split())
    tags = {
        name: tag
        for name, tag in mirror.state.tags.items()
        if tag.commit in commits and tag.chain is not None
    }
    for tag in tags.values():
        objects.update(tag.chain or ())
    for part in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
        (target / part).mkdir(parents=True)
    await together(
        _pack(mirror, objects, target / "objects" / "pack", promised=not whole),
        _index(mirror, commit, target / "index"),
    )
    sha256 = len(commit) == 64
    _text(target / "HEAD", f"{commit}\n")
    _text(target / "config", config(url, submodules, partial=not whole, sha256=sha256))
    _text(target / "info" / "exclude", "")
    if boundary:
        _text(target / "shallow", "".join(f"{name}\n" for name in sorted(boundary)))
    if tags:
        lines = ["# pack-refs with: peeled fully-peeled sorted \n"]
        for name in sorted(tags, key=os.fsencode):
            tag = tags[name]
            first = tag.chain[0] if tag.chain else tag.commit
            lines.append(f"{first} refs/tags/{name}\n")
            if tag.chain:
                lines.append(f"^{tag.commit}\n")
        _text(target / "packed-refs", "".join(lines))


def config(url: str, submodules: Mapping[str, str], *, partial: bool, sha256: bool) -> str:
    """The text of `.git/config`."""
    lines = [
        "[core]",
        f"\trepositoryformatversion = {int(partial or sha256)}",
        "\tfilemode = true",
        "\tbare = false",
        "\tlogallrefupdates = true",
    ]
    if partial or sha256:
        lines.append("[extensions]")
    if sha256:
        lines.append("\tobjectFormat = sha256")
    if partial:
        lines.append("\tpartialClone = origin")
    lines += ['[remote "origin"]', f"\turl = {_quoted(url)}", "\tfetch = +refs/heads/*:refs/remotes/origin/*"]
    if partial:
        lines += ["\tpromisor = true", "\tpartialclonefilter = blob:none"]
    for name in sorted(submodules):
        lines += [f"[submodule {_quoted(name)}]", "\tactive = true", f"\turl = {_quoted(submodules[name])}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """By the syntax of git-config(1); a line break cannot be written in a section's name."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\0", " ")
    return f'"{escaped}"'


async def _latest_commits(mirror: Mirror, commit: str) -> tuple[set[str], list[str]]:
    """At most `mirror.most_commits` commits, and those of them whose parents are not among them."""
    lines = await mirror.read(
        "rev-list", "--parents", "--date-order", f"--max-count={mirror.most_commits}", commit
    )
    parents = {words[0]: words[1:] for words in (line.split() for line in lines.decode().splitlines())}
    boundary = [name for name, above in parents.items() if any(one not in parents for one in above)]
    return set(parents), boundary


async def _pack(mirror: Mirror, objects: Iterable[str], target: Path, *, promised: bool) -> None:
    draft = f"out/{secrets.token_hex(8)}"
    listed = "".join(f"{name}\n" for name in sorted(objects)).encode()
    name = (await mirror.read(*_PACK, draft, stdin=listed)).decode().strip()
    if not re.fullmatch(r"[0-9a-f]{40,64}", name):
        raise CheckoutFailed(f"git made more than one pack ({shown(name)}).", "Use a smaller repository.")
    for end in ("pack", "idx"):
        take(mirror.path / f"{draft}-{name}.{end}", target / f"pack-{name}.{end}")
    if promised:
        _text(target / f"pack-{name}.promisor", "")


async def _index(mirror: Mirror, commit: str, target: Path) -> None:
    """git cannot lock a file by its whole path here, but through /proc it can (see `git.py`)."""
    draft = f"out/{secrets.token_hex(8)}"
    await mirror.read("read-tree", commit, GIT_INDEX_FILE=f"/proc/self/cwd/{draft}")
    take(mirror.path / draft, target)


def take(source: Path, target: Path) -> None:
    """Move a file that git wrote to where it is ours."""
    source.replace(target)
    facts = target.lstat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        target.unlink()
        raise CheckoutFailed(f"`{source.name}` is not a file that git wrote.", "Try again.")
    os.chown(target, os.geteuid(), os.getegid())
    target.chmod(0o644)


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
