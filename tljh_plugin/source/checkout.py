"""From a commit to a folder with its files, which is removed at the end.

Two checkouts of one commit are byte for byte the same, `.git` included, so that Docker's layer cache holds.
Nothing of a repository is executed: no hooks, no filters, no settings of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..amounts import shown_bytes
from ..errors import CheckoutFailed, SourceError
from ..settings import Settings
from . import files, history, lfs
from .credentials import same_host
from .files import Budget
from .git import Git, GitFailed, cannot_write
from .mirror import Mirror
from .policy import check_spec
from .providers import shown
from .resolve import PinnedRepo
from .submodules import Submodule, submodules
from .tasks import together

_DEPTH = 5  # submodules of submodules …
_MOST_SUBMODULES = 100


@dataclass(frozen=True)
class Checkout:
    """A folder with the files of a commit and its submodules, and a `.git`.

    `files` and `bytes` count what was written without `.git`; `warnings` are sentences for the person.
    """

    path: Path
    files: int
    bytes: int
    warnings: tuple[str, ...] = ()


@dataclass
class _Run:
    """What one checkout gathers, over all its submodules."""

    say: Callable[[str], None]
    budget: Budget
    written: files.Written = field(default_factory=files.Written)
    submodules: int = 0
    warnings: list[str] = field(default_factory=list)


class Checkouts:
    """Makes checkouts below `settings.checkout_dir`. One per process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._git = Git(settings)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="checkout")
        self._swept = False

    @contextlib.asynccontextmanager
    async def checkout(self, pinned: PinnedRepo, say: Callable[[str], None]) -> AsyncIterator[Checkout]:
        """The files of `pinned`, for the time of the `with`; `say` is told what happens, in sentences.

        Raises the errors of `remote.reach`, `RefNotFound`, `RepositoryTooLarge`, `CheckoutFailed`.
        """
        await asyncio.to_thread(check_spec, pinned.spec, self._settings)
        with self._folder() as folder:
            try:
                yield await self._make(pinned, folder / "repository", say)
            finally:
                await _to_the_end(shutil.rmtree, folder, True)

    async def published(self, pinned: PinnedRepo) -> bool:
        """Whether the commit is on a branch or tag of the repository itself; asks the network.

        A git host may serve a commit of anybody's fork under the address of the original. Ask this before
        a commit is trusted because of its repository's address, unless its ref was resolved just now.
        Raises the errors of `remote.reach`.
        """
        await asyncio.to_thread(check_spec, pinned.spec, self._settings)
        mirror = self._mirror(pinned)
        async with mirror.held():
            return await mirror.published(pinned, lambda _: None)

    async def _make(self, pinned: PinnedRepo, target: Path, say: Callable[[str], None]) -> Checkout:
        run = _Run(say, Budget.of(self._settings.source))
        try:
            time = await self._put(pinned, target, run, depth=0)
            await asyncio.to_thread(_finish, target, time, pinned.spec.subdir)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise cannot_write(f"Cannot write the checkout{where}", error) from error
        done = run.written
        if done.pointers and not self._settings.source.lfs:
            count = len(done.pointers)
            run.warnings.append(
                f"{count} file{'s are' if count > 1 else ' is'} in Git LFS, which is switched off here "
                "(`binder.source.lfs`): only the pointers are there, not the contents."
            )
        for warning in run.warnings:
            say(f"Warning: {warning}")
        say(f"Checked out {done.files} files, {shown_bytes(done.bytes)}")
        return Checkout(target, done.files, done.bytes, tuple(run.warnings))

    async def _put(self, pinned: PinnedRepo, target: Path, run: _Run, depth: int) -> int:
        """Write the repository and its submodules to `target`; the time of its commit."""
        mirror = self._mirror(pinned)
        async with mirror.held():
            try:
                found = await self._read(mirror, pinned, target, run)
            except GitFailed:
                run.say("The stored copy of the repository is damaged: fetching it anew")
                await asyncio.to_thread(shutil.rmtree, target, True)
                mirror.renew()
                found = await self._read(mirror, pinned, target, run)
        # The lock is free again: a submodule may be one of those that wait for it.
        time, inner = found
        for submodule in inner:
            await self._put_submodule(submodule, pinned, target, run, depth + 1)
        return time

    async def _read(
        self, mirror: Mirror, pinned: PinnedRepo, target: Path, run: _Run
    ) -> tuple[int, list[Submodule]]:
        commit, what = pinned.commit, pinned.spec.display
        await mirror.obtain(pinned, run.say)
        facts = await history.facts(mirror, commit, what)
        entries = await files.listing(mirror, commit, what, self._settings.source, run.budget)
        inner, warnings = await submodules(mirror, commit, entries, pinned.spec)
        known = {submodule.name: submodule.address for submodule in inner}
        most = self._settings.source.max_checkout_bytes
        written, _ = await together(
            files.write(mirror, commit, entries, target, most - run.written.bytes, self._threads),
            history.write(mirror, commit, _origin(pinned), known, target / ".git"),
        )
        run.budget = run.budget.less(entries)
        run.written += written
        run.warnings += warnings
        if written.pointers and self._settings.source.lfs:
            left = most - run.written.bytes
            got, missing = await lfs.fill(
                mirror, pinned, written.pointers, target, self._settings, left, run.say
            )
            run.written += files.Written(bytes=got)
            run.warnings += missing
        return facts.time, inner

    async def _put_submodule(
        self, submodule: Submodule, parent: PinnedRepo, target: Path, run: _Run, depth: int
    ) -> None:
        run.submodules += 1
        if depth > _DEPTH or run.submodules > _MOST_SUBMODULES:
            raise CheckoutFailed(
                f"`{shown(parent.spec.display)}` has submodules more than {_DEPTH} deep, or more than "
                f"{_MOST_SUBMODULES}.",
                "Use a repository with fewer submodules.",
            )
        spec = submodule.spec
        run.say(f"Submodule {shown(submodule.path)}: {shown(spec.display)} at {submodule.commit[:12]}")
        login = same_host(parent.login, spec.clone_url)
        pinned = PinnedRepo(spec, spec.normal_url, submodule.commit, login=login)
        try:
            await asyncio.to_thread(check_spec, spec, self._settings)
            await self._put(pinned, target / submodule.path, run, depth)
        except SourceError as error:
            error.message = f"Submodule `{shown(submodule.path)}`: {error.message}"
            raise

    def _mirror(self, pinned: PinnedRepo) -> Mirror:
        return Mirror(self._settings, self._git, pinned.url, pinned.commit, pinned.audience)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """A new folder that only we can enter; those of processes that were killed are removed before."""
        root = self._settings.checkout_dir
        try:
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(0o700)
            with _locked(root / ".lock"):
                if not self._swept:
                    sweep(root)
                    self._swept = True
                folder = root / secrets.token_hex(8)
                folder.mkdir(mode=0o700)
                mine = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(mine, fcntl.LOCK_EX)
        except OSError as error:
            raise cannot_write(f"Cannot make a folder in {root}", error) from error
        try:
            yield folder
        finally:
            os.close(mine)


def _origin(pinned: PinnedRepo) -> str:
    return pinned.spec.normal_url if pinned.spec.provider == "local" else pinned.spec.clone_url


def _finish(target: Path, time: int, subdir: str) -> None:
    files.check_links(target, subdir)
    files.settle(target, time)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def abandoned(root: Path) -> list[Path]:
    """The folders of checkouts whose process was killed. Raises `OSError`."""
    found = []
    for folder in sorted(root.iterdir()):
        with contextlib.suppress(OSError), _unused(folder):
            found.append(folder)
    return found


def sweep(root: Path) -> list[Path]:
    """Remove them; what went. Raises `OSError`."""
    gone = []
    for folder in abandoned(root):
        with contextlib.suppress(OSError), _unused(folder):
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder)
    return gone


@contextlib.contextmanager
def _unused(folder: Path) -> Iterator[None]:
    """Hold the lock of a checkout's folder. Raises `OSError` if somebody else does, or if it is none."""
    if not folder.is_dir():
        raise NotADirectoryError(folder)
    with open(folder / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


async def _to_the_end(work: Callable[[Path, bool], object], folder: Path, ignore_errors: bool) -> None:
    """Do it in a thread, and wait for it even when we are cancelled meanwhile."""
    task = asyncio.ensure_future(asyncio.to_thread(work, folder, ignore_errors))
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
