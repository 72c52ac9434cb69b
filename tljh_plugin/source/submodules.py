"""The submodules of a commit: which repositories at which commits belong where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import InvalidSpec
from .files import SUBMODULE, Entry
from .git import GitFailed
from .mirror import Mirror
from .providers import shown
from .spec import RepoSpec, parse_typed

_KEY = re.compile(r"submodule\.(?P<name>.+)\.(?P<key>path|url|update)", re.DOTALL)


@dataclass(frozen=True)
class Submodule:
    """A repository at a commit, to be put at `path`; `name` and `address` are as `.gitmodules` says."""

    path: str
    name: str
    address: str
    commit: str
    spec: RepoSpec


async def submodules(
    mirror: Mirror, commit: str, entries: Sequence[Entry], parent: RepoSpec
) -> tuple[list[Submodule], list[str]]:
    """The submodules of the commit, and a warning for each that cannot be filled.

    Raises `InvalidSpec` naming the submodule for an address that is never cloned from.
    """
    links = [entry for entry in entries if entry.mode == SUBMODULE]
    if not links:
        return [], []
    known = await _gitmodules(mirror, commit) if any(e.path == ".gitmodules" for e in entries) else {}
    found: list[Submodule] = []
    warnings: list[str] = []
    for link in links:
        name, section = next(((n, s) for n, s in known.items() if s.get("path") == link.path), ("", {}))
        if section.get("update") == "none":
            continue
        if not section.get("url"):
            warnings.append(f"The submodule `{shown(link.path)}` has no address in .gitmodules: it is empty.")
            continue
        spec = address_of(section["url"], parent, link.path)
        found.append(Submodule(link.path, name, spec.clone_url, link.object, spec))
    return found, warnings


async def _gitmodules(mirror: Mirror, commit: str) -> dict[str, dict[str, str]]:
    try:
        output = await mirror.read("config", "--blob", f"{commit}:.gitmodules", "--list", "--null")
    except GitFailed:
        return {}  # not readable as settings: as git does, nothing is known of the submodules
    known: dict[str, dict[str, str]] = {}
    for item in output.decode("utf-8", errors="surrogateescape").split("\0"):
        key, _, value = item.partition("\n")
        parts = _KEY.fullmatch(key)
        if parts:
            known.setdefault(parts["name"], {})[parts["key"]] = value
    return known


def address_of(address: str, parent: RepoSpec, path: str) -> RepoSpec:
    try:
        if address.startswith(("./", "../")):
            return _beside(parent, address)
        link = parse_typed(address)
        if link.spec.provider == "local" and parent.provider != "local":
            raise InvalidSpec(f"`{shown(address)}` is a folder.", "Give an address that others can reach.")
        return link.spec.with_ref("")
    except InvalidSpec as error:
        raise InvalidSpec(f"The submodule `{shown(path)}`: {error.message}", error.next_step) from None


def _beside(parent: RepoSpec, address: str) -> RepoSpec:
    """By the rule of git-submodule(1): each `../` takes away one part of the parent's address."""
    base = parent.clone_url.rstrip("/")
    rest = address
    while True:
        if rest.startswith("../"):
            rest = rest[3:]
            base = base.rpartition("/")[0]
        elif rest.startswith("./"):
            rest = rest[2:]
        else:
            break
    if parent.provider != "local" and (not urlsplit(base).netloc or base.endswith(("/", ":"))):
        raise InvalidSpec(f"`{shown(address)}` leads above the host.", "Correct .gitmodules.")
    return RepoSpec("local" if parent.provider == "local" else "git", f"{base}/{rest}")
