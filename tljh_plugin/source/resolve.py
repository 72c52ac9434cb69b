"""From a ref to a commit, by `git ls-remote`: no host's API, no tokens, no rate limits.

Only exact matches count: a branch `feature/main` is not `main`. Equal look-ups at the same time share one
request, and its answer is kept for some seconds.
"""

from __future__ import annotations

import asyncio
import difflib
import io
import itertools
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import AmbiguousRef, InvalidSpec, RefNotFound, RepositoryUnreachable
from ..settings import Settings
from . import policy
from .credentials import Login
from .git import Git, GitFailed, GitTimedOut
from .providers import shown
from .remote import Remote, explain, reach
from .spec import RepoSpec

_FULL_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PARTIAL_COMMIT = re.compile(r"[0-9a-f]{4,63}")
# A repository with 300,000 pull requests lists about 20 MiB; in memory it is five times as much.
_MOST_BYTES = 32 * 1024**2
_KEPT, _KEPT_BYTES = 256, 8 * 1024**2  # answers
# Names for suggestions: difflib takes 10 ms for two names of 100 letters that are made for that.
_MOST_NAMES = 20_000
_MOST_COMPARED, _LONGEST_COMPARED = 1000, 40

# Address, whether all refs are wanted, and the mark of the login: what one may read is not told to others.
_Asked = tuple[str, bool, str]


@dataclass(frozen=True)
class PinnedRepo:
    """A repository at exactly one commit.

    `url` is `spec.normal_url`, the URL of the image's identity; `commit` has 40 or 64 hexadecimal digits;
    `ref_found` is the full ref that led there (`refs/heads/main`, `HEAD`), empty where a commit was given.
    `login` is what the repository is read with: needed where `proven`, else only there in case it is.
    """

    spec: RepoSpec
    url: str
    commit: str
    ref_found: str = ""
    login: Login | None = field(default=None, repr=False, compare=False)
    proven: bool = field(default=False, compare=False)

    @property
    def audience(self) -> str:
        """The person whom everything that is made of it belongs to; empty: everyone."""
        return self.login.person if self.login else ""


@dataclass(frozen=True)
class Refs:
    """What a repository offers: full name → object; `peeled` has the commits of annotated tags."""

    objects: Mapping[str, str]
    peeled: Mapping[str, str]
    default: str = ""  # the full name of the default branch, where it is known
    size: int = 0  # bytes of git's list

    def commit(self, name: str) -> str:
        return self.peeled.get(name) or self.objects.get(name, "")


class Resolver:
    """Looks refs up. One per process, so that equal look-ups meet."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._git = Git(settings)
        self._running: dict[_Asked, asyncio.Task[tuple[Refs, bool]]] = {}
        self._kept: dict[_Asked, tuple[float, tuple[Refs, bool]]] = {}
        self.waiting = 0  # how many wait for an answer now

    async def resolve(self, spec: RepoSpec, commit: str = "", login: Login | None = None) -> PinnedRepo:
        """The commit that `spec` means now; a full `commit`, or a ref that is one, needs no network.

        Raises `PolicyRefused`, `RepositoryUnreachable`, `RepositoryNotFound`, `CredentialNeeded`,
        `RepositoryTooLarge`, `RefNotFound`, `AmbiguousRef`, and `InvalidSpec` for an image.
        """
        if spec.provider == "image":
            raise InvalidSpec(f"`{shown(spec.path)}` is an image, not a repository.", "It has no commit.")
        if commit and not _FULL_COMMIT.fullmatch(commit):
            raise RefNotFound(
                f"`{shown(commit)}` is not a full commit.", "Give all 40 (or 64) hexadecimal digits."
            )
        given = commit or spec.ref.lower()
        if _FULL_COMMIT.fullmatch(given):
            await asyncio.to_thread(policy.check_spec, spec, self._settings)
            return PinnedRepo(spec, spec.normal_url, given, login=login)
        # Pull requests outnumber everything else in large repositories: they are left out where they can be.
        everything = not spec.ref or spec.ref.startswith(("refs/", "pull/", "merge-requests/"))
        refs, needed = await self._refs(spec, everything, login)
        name = await asyncio.to_thread(find, refs, spec)
        return PinnedRepo(
            spec, spec.normal_url, refs.commit(name), name, login=login if needed else None, proven=True
        )

    async def prove(self, pinned: PinnedRepo) -> PinnedRepo:
        """The same with its login only where it is needed; asks the host. Raises what `reach` raises."""
        remote = await reach(pinned.spec, self._settings, pinned.login)
        return replace(pinned, login=remote.access.login, proven=True)

    async def _refs(self, spec: RepoSpec, everything: bool, login: Login | None) -> tuple[Refs, bool]:
        key = (spec.clone_url, everything, login.mark if login else "")
        kept = self._kept.get(key)
        if kept and time.monotonic() - kept[0] < self._settings.source.resolve_cache_s:
            return kept[1]
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._look_up(spec, everything, login))
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        self.waiting += 1
        try:
            # One who leaves does not end the look-up of the others.
            return await asyncio.shield(task)
        finally:
            self.waiting -= 1

    def _finished(self, key: _Asked, task: asyncio.Task[tuple[Refs, bool]]) -> None:
        self._running.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            return
        answer = task.result()
        self._kept.pop(key, None)
        if answer[0].size <= _KEPT_BYTES:
            self._kept[key] = (time.monotonic(), answer)
        self._forget()

    def _forget(self) -> None:
        """Let go of answers that are too old, and of the oldest where there are too many."""
        now, seconds = time.monotonic(), self._settings.source.resolve_cache_s
        size = sum(refs.size for _, (refs, _needed) in self._kept.values())
        for key, (moment, (refs, _needed)) in list(self._kept.items()):  # the oldest come first
            if now - moment < seconds and size <= _KEPT_BYTES and len(self._kept) <= _KEPT:
                break
            del self._kept[key]
            size -= refs.size

    async def _look_up(self, spec: RepoSpec, everything: bool, login: Login | None) -> tuple[Refs, bool]:
        """The refs, and whether the login was needed."""
        remote = await reach(spec, self._settings, login)
        options = ("--symref",) if everything else ("--heads", "--tags")
        refs = await list_refs(self._git, self._settings, remote, *options)
        return refs, remote.access.login is not None


async def list_refs(git: Git, settings: Settings, remote: Remote, *options: str) -> Refs:
    """Ask the repository for its refs, with these options of `git ls-remote`.

    Raises `RepositoryTooLarge` where its list has more than 32 MiB, and what `explain` makes of git's errors.
    """
    seconds = settings.source.resolve_timeout_s
    try:
        with remote.opened(settings) as access:
            output = await git.run(
                "ls-remote",
                *options,
                "origin",
                cwd=Path("/"),
                access=access,
                timeout_s=seconds,
                max_output=_MOST_BYTES,
            )
    except GitTimedOut:
        raise RepositoryUnreachable(
            f"`{shown(remote.spec.clone_url)}` did not list its branches within {seconds:g} seconds.",
            "Try again.",
        ) from None
    except GitFailed as error:
        raise explain(error, remote.spec) from None
    return await asyncio.to_thread(parse_refs, output)


def parse_refs(output: bytes) -> Refs:
    """The output of `git ls-remote`."""
    objects: dict[str, str] = {}
    peeled: dict[str, str] = {}
    default = ""
    for line in io.BytesIO(output):
        left, _, name = line.rstrip(b"\n").decode("utf-8", errors="surrogateescape").partition("\t")
        if left.startswith("ref: "):
            default = left.removeprefix("ref: ") if name == "HEAD" else default
        elif not _FULL_COMMIT.fullmatch(left):
            continue
        elif name.endswith("^{}"):
            peeled[name.removesuffix("^{}")] = left
        else:
            objects[name] = left
    return Refs(objects, peeled, default, len(output))


def find(refs: Refs, spec: RepoSpec) -> str:
    """The full name of the ref that `spec` means; raises `RefNotFound` or `AmbiguousRef`."""
    ref = spec.ref
    if not refs.objects:
        raise RefNotFound(
            f"The repository `{shown(spec.display)}` has no commits yet.", "Commit and push first."
        )
    if not ref:
        if "HEAD" in refs.objects:
            return "HEAD"
        raise RefNotFound(
            f"The repository `{shown(spec.display)}` has no default branch.", _near(refs, "main")
        )
    if ref.startswith("refs/") and ref in refs.objects:
        return ref
    branch, tag = f"refs/heads/{ref}", f"refs/tags/{ref}"
    there = [name for name in (branch, tag) if name in refs.objects]
    if len(there) == 2 and refs.commit(branch) != refs.commit(tag):
        raise AmbiguousRef(
            f"In `{shown(spec.display)}` both a branch and a tag are called `{shown(ref)}`: the branch is at "
            f"{refs.commit(branch)[:12]}, the tag at {refs.commit(tag)[:12]}.",
            f"Say which: `{shown(branch)}` or `{shown(tag)}`.",
        )
    if there:
        return there[0]
    if f"refs/{ref}" in refs.objects:
        return f"refs/{ref}"
    raise RefNotFound(f"`{shown(spec.display)}` has no branch or tag `{shown(ref)}`.", _next_step(refs, ref))


def _next_step(refs: Refs, ref: str) -> str:
    near = _near(refs, ref)
    if _PARTIAL_COMMIT.fullmatch(ref.lower()):
        return f"If it is the beginning of a commit, give all 40 digits. {near}"
    parts = ref.split("/")
    for length in range(len(parts) - 1, 0, -1):
        start = "/".join(parts[:length])
        if f"refs/heads/{start}" in refs.objects or f"refs/tags/{start}" in refs.objects:
            rest = shown("/".join(parts[length:]))
            return f"There is `{shown(start)}`; if `{rest}` is a file or folder in it, give that as the path."
    return near


def _near(refs: Refs, ref: str) -> str:
    full = (name for name in refs.objects if name.startswith(("refs/heads/", "refs/tags/")))
    names = sorted(
        {
            name.removeprefix("refs/heads/").removeprefix("refs/tags/")
            for name in itertools.islice(full, _MOST_NAMES)
        }
    )
    default = refs.default.removeprefix("refs/heads/")
    ends = [name for name in names if name.endswith(f"/{ref}") or name.lower() == ref.lower()]
    close: list[str] = []
    if len(names) <= _MOST_COMPARED and len(ref) <= _LONGEST_COMPARED:
        short = [name for name in names if len(name) <= _LONGEST_COMPARED]
        close = difflib.get_close_matches(ref, short, n=5, cutoff=0.6)
    near = list(dict.fromkeys([*ends, *close, *([default] if default else [])]))[:5]
    if near:
        return f"Near it: {', '.join(f'`{shown(name)}`' for name in near)}."
    some = [f"`{shown(name)}`" for name in names[:5]]
    return f"There are: {', '.join(some)}." if some else "It has no branches and no tags."
