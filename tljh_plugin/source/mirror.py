"""One bare git repository per URL, which keeps what was fetched, so that only what is new is fetched.

    <mirror_dir>/<name>-<hash>/   ours
        state.json                what is there: commits, tags
        lock                      held while anything happens in here
        git/                      the bare repository, owned by the account that runs git

A small repository is fetched whole. Of a large one we fetch all commits, and trees and files of the wanted
commit only. git never writes refs here, since for that it would need the whole path (see `git.py`): we do.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..amounts import shown_bytes
from ..errors import BinderError, CheckoutFailed, RefNotFound, RepositoryTooLarge
from ..settings import MIB, Settings
from .git import Git, GitFailed
from .providers import shown
from .remote import Remote, explain, reach
from .resolve import PinnedRepo, Refs, list_refs
from .spec import valid_ref
from .tasks import together

Say = Callable[[str], None]

_STATE_VERSION = 1
_LOCK_POLL_S = 0.05
_PROGRESS_S = 2.0
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--refmap=")
# The server is not told what we have: of a partial clone it would assume more than there is.
_NOOP = ("fetch.negotiationAlgorithm", "noop")
_MANY_PACKS = 60


@dataclass(frozen=True)
class Tag:
    """A tag: the commit that it points to, and the tag objects on the way (None: not fetched)."""

    commit: str
    chain: tuple[str, ...] | None = ()


@dataclass(frozen=True)
class State:
    """What the repository holds.

    `commits` has every commit that was obtained with the size of its whole history in bytes, or None where
    that is more than `over` says. `large` means that not everything of every commit is there.
    """

    commits: Mapping[str, int | None] = field(default_factory=dict)
    over: int = 0
    large: bool = False
    tags: Mapping[str, Tag] = field(default_factory=dict)

    def to_json(self) -> str:
        tags = {name: [tag.commit, tag.chain] for name, tag in self.tags.items()}
        value = {
            "version": _STATE_VERSION,
            "commits": dict(self.commits),
            "over": self.over,
            "large": self.large,
            "tags": tags,
        }
        return json.dumps(value, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> State | None:
        """None for what another version wrote or what was torn."""
        try:
            value: dict[str, Any] = json.loads(text)
            if value["version"] != _STATE_VERSION:
                return None
            tags = {
                name: Tag(commit, None if chain is None else tuple(chain))
                for name, (commit, chain) in value["tags"].items()
            }
            return cls(value["commits"], value["over"], value["large"], tags)
        except (ValueError, KeyError, TypeError):
            return None


class Over(Exception):
    """More bytes arrived than this attempt may have."""


class Mirror:
    """The stored repository of one URL. Use `held()` around everything.

    What was fetched with a login is stored for that person (`audience`) alone: nobody else gets at it by
    naming a commit.
    """

    def __init__(self, settings: Settings, git: Git, url: str, commit: str, audience: str = "") -> None:
        self._settings = settings
        self._git = git
        self._hash = "sha256" if len(commit) == 64 else "sha1"
        self.folder = settings.mirror_dir / folder_name(url, self._hash, audience)
        self.path = self.folder / "git"
        self.state = State()
        self._lock: tuple[int, ...] = ()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Nobody else, in no process, works on this repository meanwhile."""
        self._settings.mirror_dir.mkdir(parents=True, exist_ok=True)
        self._settings.mirror_dir.chmod(0o700)
        descriptor = await self._locked()
        try:
            os.utime(descriptor)  # by this it is known when the mirror was used last
            # git holds the lock too: should we be killed, the next one waits until it has ended as well.
            self._lock = (descriptor,)
            self._open()
            yield
        finally:
            self._lock = ()
            os.close(descriptor)
            old = list(self.folder.glob("old-*"))
            if old:
                await asyncio.to_thread(_remove, old)

    async def _locked(self) -> int:
        """The descriptor of the lock, which is held. One of a folder that was removed meanwhile is none."""
        while True:
            self.folder.mkdir(exist_ok=True)
            try:
                descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue
            try:
                while True:
                    if _free(descriptor):
                        break
                    await asyncio.sleep(_LOCK_POLL_S)
            except BaseException:
                os.close(descriptor)
                raise
            if _is_at(descriptor, self.folder / "lock"):
                return descriptor
            os.close(descriptor)

    def _open(self) -> None:
        text = ""
        with contextlib.suppress(OSError):
            text = (self.folder / "state.json").read_text()
        state = State.from_json(text)
        if state is None or not (self.path / "objects" / "pack").is_dir():
            self.renew()
            state = State()
        self.state = state
        account = self._git.account
        if account and os.lstat(self.path).st_uid != account.uid:
            _give(self.path, account.uid, account.gid)

    def renew(self) -> None:
        """Begin anew, with nothing."""
        self._discard()
        self._create()

    def _discard(self) -> None:
        (self.folder / "state.json").unlink(missing_ok=True)
        if self.path.exists():
            self.path.rename(self.folder / f"old-{secrets.token_hex(4)}")
        self.state = State()

    def _create(self) -> None:
        draft = self.folder / f"new-{secrets.token_hex(4)}"
        for part in ("objects/pack", "objects/info", "refs", "info", "out"):
            (draft / part).mkdir(parents=True)
        (draft / "HEAD").write_text("ref: refs/heads/none\n")
        # Files are written as they are in a work tree, not as in a release archive.
        (draft / "info" / "attributes").write_text("* -export-ignore -export-subst\n")
        (draft / "config").write_text(
            "[core]\n\trepositoryformatversion = 1\n\tbare = true\n"
            f"[extensions]\n\tobjectFormat = {self._hash}\n\tpartialClone = origin\n"
            '[remote "origin"]\n\tpromisor = true\n\tpartialCloneFilter = tree:0\n'
        )
        draft.rename(self.path)
        if self._git.account:
            _give(self.path, self._git.account.uid, self._git.account.gid)

    async def read(
        self, *arguments: str, stdin: bytes = b"", most: int = 256 * MIB, **environment: str
    ) -> bytes:
        """Run a git command here that needs no network and says at most `most` bytes."""
        return await self._git.run(
            *arguments,
            cwd=self.path,
            stdin=stdin,
            max_output=most,
            environment=environment,
            keep_open=self._lock,
        )

    async def stream(self, *arguments: str, stdout: int) -> None:
        """As `read`, writing to a descriptor."""
        await self._git.run(*arguments, cwd=self.path, stdout=stdout, keep_open=self._lock)

    def whole(self, commit: str) -> bool:
        """Whether the commit's history is here and small enough to be put into the image as it is."""
        size = self.state.commits.get(commit)
        return size is not None and size <= self._settings.source.full_history_bytes

    async def obtain(self, pinned: PinnedRepo, say: Say) -> None:
        """See to it that the commit is here with all its files, and its tags; fetches only what is missing.

        Raises what `remote.reach` raises, `RefNotFound`, `RepositoryTooLarge`, `CheckoutFailed`.
        """
        commit = pinned.commit
        bound = self._settings.source.full_history_bytes
        if commit in self.state.commits and (
            self.state.commits[commit] is not None or bound <= self.state.over
        ):
            return
        if not self.state.large and await self._exists(commit):
            size = await self._history_bytes(commit)
            if size is not None:
                self._keep(commit, size)
                return
        if bound > self.state.over:  # the setting was raised: what was too large may not be any more
            sized = {known: size for known, size in self.state.commits.items() if size is not None}
            self.state = replace(self.state, commits=sized)
        started = time.monotonic()
        self._clear_leftovers()
        before = self._bytes()
        fetch = Fetch(self, self._git, self._settings, pinned, await self._reach(pinned), say)
        try:
            size, refs = await together(fetch.commit(), fetch.tags())
        except GitFailed as error:
            raise _explained(error, pinned) from None
        self._keep(commit, size if size is None or size <= bound else None)
        await self._keep_tags(fetch, refs, commit)
        got = max(0, self._bytes() - before)
        say(f"Fetched {shown_bytes(got)} in {time.monotonic() - started:.1f} s")

    async def published(self, pinned: PinnedRepo, say: Say) -> bool:
        """Whether the commit is on a branch or tag of the repository now; asks the network."""
        fetch = Fetch(self, self._git, self._settings, pinned, await self._reach(pinned), say)
        try:
            return await fetch.published()
        except GitFailed as error:
            raise _explained(error, pinned) from None

    async def _reach(self, pinned: PinnedRepo) -> Remote:
        return await reach(pinned.spec, self._settings, pinned.login)

    def _keep(self, commit: str, size: int | None) -> None:
        bound = self._settings.source.full_history_bytes
        over = max(self.state.over, bound) if size is None else self.state.over
        self._save(replace(self.state, commits={**self.state.commits, commit: size}, over=over))

    async def _keep_tags(self, fetch: Fetch, refs: Refs, commit: str) -> None:
        """Remember the repository's tags, with the objects of those that belong to the commit's history."""
        history = set(
            (await self.read("rev-list", f"--max-count={self.most_commits}", commit)).decode().split()
        )
        tags: dict[str, Tag] = {}
        wanted: dict[str, str] = {}
        for full, target in refs.objects.items():
            name = full.removeprefix("refs/tags/")
            if name == full or not valid_ref(name):
                continue
            if full not in refs.peeled:
                tags[name] = Tag(target)
                continue
            known = self.state.tags.get(name)
            if known and known.chain and known.chain[0] == target:
                tags[name] = known
                continue
            tags[name] = Tag(refs.peeled[full], None)
            if refs.peeled[full] in history:
                wanted[name] = target
        if wanted:
            try:
                await fetch.objects(sorted(set(wanted.values())))
            except GitFailed as error:
                raise _explained(error, fetch.pinned) from None
            for name, target in wanted.items():
                tags[name] = Tag(tags[name].commit, await self._chain(target))
        self._save(replace(self.state, tags=tags))

    async def _chain(self, target: str) -> tuple[str, ...]:
        """A tag may point to a tag: the objects from `target` to the last one before the commit."""
        chain = [target]
        while len(chain) < 10:
            content = (await self.read("cat-file", "tag", chain[-1])).decode(errors="replace")
            found = re.match(r"object ([0-9a-f]+)\ntype (\w+)\n", content)
            if found is None or found[2] != "tag":
                break
            chain.append(found[1])
        return tuple(chain)

    @property
    def most_commits(self) -> int:
        """How many commits of a large history are put into an image, taking one for 1 KiB."""
        return max(1, self._settings.source.full_history_bytes // 1024)

    async def _exists(self, commit: str) -> bool:
        try:
            await self.read("cat-file", "-e", f"{commit}^{{commit}}")
        except GitFailed:
            return False
        return True

    async def _history_bytes(self, commit: str) -> int | None:
        """Bytes of all objects of the commit's history, uncompressed; None if some are missing."""
        objects = await self.read("rev-list", "--objects", "--no-object-names", "--missing=print", commit)
        if b"?" in objects:
            return None
        sizes = await self.read("cat-file", "--batch-check=%(objectsize)", stdin=objects)
        return sum(map(int, sizes.split()))

    async def _missing(self, commit: str, *options: str) -> list[str]:
        """Objects of the commit's history (with `--no-walk`: of the commit itself) that are not here."""
        found = await self.read(
            "rev-list", "--objects", "--no-object-names", "--missing=print", *options, commit
        )
        return [line[1:] for line in found.decode().split() if line.startswith("?")]

    def _bytes(self) -> int:
        """Bytes of the packs, those that are being written too."""
        total = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path / "objects" / "pack") as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
        return total

    def _clear_leftovers(self) -> None:
        """What a killed git left; and too many packs, which make everything slow, are fetched anew as one."""
        pack = self.path / "objects" / "pack"
        if len(list(pack.glob("*.idx"))) > _MANY_PACKS:
            self.renew()
            return
        self.remove_drafts()
        for leftover in (self.path / "out").iterdir():
            leftover.unlink(missing_ok=True)

    def remove_drafts(self) -> None:
        """What a git that was ended had not completed."""
        for draft in (self.path / "objects" / "pack").glob("tmp_*"):
            draft.unlink(missing_ok=True)

    def became_large(self) -> None:
        """From now on trees and files are fetched for single commits only."""
        self._save(replace(self.state, large=True))

    def _save(self, state: State) -> None:
        """State and refs: the refs tell the next fetch what is here."""
        self.state = state
        lines = sorted(f"{commit} refs/commits/{commit}\n" for commit in state.commits)
        text = "# pack-refs with: peeled fully-peeled sorted \n" + "".join(lines)
        _replace(self.path / "packed-refs", text, 0o644)
        _replace(self.folder / "state.json", state.to_json(), 0o600)


class Fetch:
    """One transfer into a mirror, in as many steps as it needs."""

    def __init__(
        self, mirror: Mirror, git: Git, settings: Settings, pinned: PinnedRepo, remote: Remote, say: Say
    ) -> None:
        self.pinned = pinned
        self._mirror = mirror
        self._git = git
        self._settings = settings
        self._remote = remote
        self._say = say
        # A pack is never much larger than its objects: where more than this arrives the history is too large.
        self._cap = 2 * settings.source.full_history_bytes + MIB

    async def tags(self) -> Refs:
        return await list_refs(self._git, self._settings, self._remote, "--tags")

    async def commit(self) -> int | None:
        """Fetch the commit; the size of its history in bytes, None if it is too large for an image."""
        mirror, commit = self._mirror, self.pinned.commit
        if not mirror.state.large:
            try:
                await self._run("--no-filter", wants=[commit], cap=self._cap)
            except Over:
                mirror.became_large()
            else:
                return await mirror._history_bytes(commit)
            over = True
        else:
            over = False
        self._say("The history is large: fetching the files of this commit only")
        await self._run("--filter=tree:0", wants=[commit])
        if not over and not await self._has_large_ancestor(commit):
            with contextlib.suppress(Over):
                missing = await mirror._missing(commit)
                if missing:
                    await self._run("--no-filter", wants=missing, options=(_NOOP,), cap=self._cap)
                return await mirror._history_bytes(commit)
        await self._files_of(commit)
        return None

    async def published(self) -> bool:
        """Whether a branch or tag leads to the commit; fetches the commits of all of them where needed."""
        refs = await list_refs(self._git, self._settings, self._remote, "--heads", "--tags")
        tips = sorted({refs.commit(name) for name in refs.objects})
        if self.pinned.commit in tips:
            return True
        if not tips:
            return False
        if not self._mirror.state.large:
            try:
                await self._run("--no-filter", wants=tips, cap=self._cap)
            except Over:
                self._mirror.became_large()
        if self._mirror.state.large:
            await self._run("--filter=tree:0", wants=tips)
        history = await self._mirror.read("rev-list", "--stdin", stdin="\n".join(tips).encode())
        return self.pinned.commit in history.decode().split()

    async def objects(self, wanted: list[str]) -> None:
        """Fetch objects that point to what is here."""
        await self._run("--filter=tree:0" if self._mirror.state.large else "--no-filter", wants=wanted)

    async def _files_of(self, commit: str) -> None:
        for step in range(4):
            missing = await self._mirror._missing(commit, "--no-walk")
            if not missing:
                return
            if step and len(missing) > self._settings.source.max_files:
                raise RepositoryTooLarge(
                    f"`{shown(self.pinned.spec.display)}` has more than {len(missing)} files.",
                    f"At most {self._settings.source.max_files} are allowed (`binder.source.max_files`).",
                )
            await self._run("--filter=blob:none", wants=missing, options=(_NOOP,))
        raise CheckoutFailed(
            f"The server did not send all files of {commit}.", "Try again; if it stays, tell its operator."
        )

    async def _has_large_ancestor(self, commit: str) -> bool:
        large = {known for known, size in self._mirror.state.commits.items() if size is None}
        return bool(large) and not large.isdisjoint(
            (await self._mirror.read("rev-list", commit)).decode().split()
        )

    async def _run(
        self,
        *filters: str,
        wants: list[str],
        options: tuple[tuple[str, str], ...] = (),
        cap: int | None = None,
    ) -> None:
        try:
            await self._transfer(filters, wants, options, cap)
        except GitFailed as error:
            if "unadvertised object" not in error.stderr:
                raise
            # An old server gives branches and tags only: the commit comes with one of them, if it is on one.
            refs = await list_refs(self._git, self._settings, self._remote, "--heads", "--tags")
            await self._transfer(filters, list(refs.objects), options, cap)
            if not await self._mirror._exists(self.pinned.commit):
                raise not_there(self.pinned) from None

    async def _transfer(
        self,
        filters: tuple[str, ...],
        wants: Iterable[str],
        options: tuple[tuple[str, str], ...],
        cap: int | None,
    ) -> None:
        before = self._mirror._bytes()
        most = self._settings.source.max_fetch_bytes
        told = time.monotonic()

        def watch() -> None:
            nonlocal told
            got = self._mirror._bytes() - before
            if cap is not None and got > cap:
                raise Over
            if got > most:
                raise RepositoryTooLarge(
                    f"`{shown(self.pinned.spec.display)}` sent more than {most} bytes.",
                    "Use a smaller repository, or raise `binder.source.max_fetch_bytes`.",
                )
            if time.monotonic() - told > _PROGRESS_S:
                told = time.monotonic()
                self._say(f"Received {shown_bytes(got)}")

        try:
            with self._remote.opened(self._settings) as access:
                await self._git.run(
                    *_FETCH,
                    *filters,
                    "--stdin",
                    "origin",
                    cwd=self._mirror.path,
                    stdin="".join(f"{want}\n" for want in wants).encode(),
                    access=replace(access, options=(*access.options, *options)),
                    # The kernel ends it at the byte; a watcher comes too late for what is sent quickly.
                    file_bytes=min(most, most if cap is None else cap) + 1,
                    keep_open=self._mirror._lock,
                    watch=watch,
                )
            watch()
        except GitFailed:
            watch()
            raise
        finally:
            self._mirror.remove_drafts()


def folder_name(url: str, hash_name: str = "sha1", audience: str = "") -> str:
    """A readable name and a hash, since two URLs may read the same."""
    whose = json.dumps([hash_name, url, audience]) if audience else f"{hash_name} {url}"
    readable = re.sub(r"[^a-z0-9]+", "-", url.lower().partition("://")[2]).strip("-")[:60]
    return f"{readable}-{hashlib.sha256(whose.encode()).hexdigest()[:16]}"


def not_there(pinned: PinnedRepo) -> RefNotFound:
    return RefNotFound(
        f"The repository `{shown(pinned.spec.display)}` has no commit {pinned.commit}.",
        "Check the commit; it may have been removed by a forced push.",
    )


def _explained(error: GitFailed, pinned: PinnedRepo) -> BinderError:
    found = explain(error, pinned.spec)
    return not_there(pinned) if isinstance(found, RefNotFound) else found


def _free(descriptor: int) -> bool:
    """Whether the lock was free; then it is ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _give(path: Path, uid: int, gid: int) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)


def _replace(path: Path, text: str, mode: int) -> None:
    """Write a file anew, never through a link that somebody left there."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
