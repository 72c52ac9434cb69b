"""The files of a commit: listed and judged first, then written.

git itself never writes a work tree here: it streams the files (converted as `.gitattributes` says), and we
write exactly those that were listed, into a new folder, through no link.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..amounts import shown_bytes
from ..errors import CheckoutFailed, RepositoryTooLarge
from ..settings import MIB, SourceSettings
from .git import cannot_write
from .mirror import Mirror
from .pointers import POINTER_BYTES, Pointer, read_pointer
from .providers import shown

LINK = "120000"
SUBMODULE = "160000"

_LISTING_BYTES = 64 * MIB  # a few trees can unfold into any number of files
_DEEPEST = 100  # folders; Python's own ways to walk and remove trees end at its limit of recursion

# Read on the host by repo2docker, at the root of what is built and in `binder` and `.binder`.
_CONFIGURATION = (
    "Dockerfile",
    "apt.txt",
    "requirements.txt",
    "requirements3.txt",
    "environment.yml",
    "environment.yaml",
    "postBuild",
    "start",
    "runtime.txt",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "uv.lock",
    "pylock.toml",
    "poetry.lock",
    ".python-version",
    "Pipfile",
    "Pipfile.lock",
    "install.R",
    "DESCRIPTION",
    "Project.toml",
    "JuliaProject.toml",
    "Manifest.toml",
    "REQUIRE",
    "default.nix",
    ".dockerignore",
    ".containerignore",
)


@dataclass(frozen=True)
class Entry:
    """A file, link or submodule of a commit; `size` in bytes, 0 for a submodule."""

    path: str
    mode: str
    object: str
    size: int


@dataclass(frozen=True)
class Budget:
    """How much the commits of a checkout may still have, submodules included."""

    files: int
    bytes: int

    @classmethod
    def of(cls, settings: SourceSettings) -> Budget:
        return cls(settings.max_files, settings.max_checkout_bytes)

    def less(self, entries: Sequence[Entry]) -> Budget:
        return Budget(self.files - len(entries), self.bytes - sum(entry.size for entry in entries))


async def listing(
    mirror: Mirror, commit: str, what: str, settings: SourceSettings, budget: Budget
) -> list[Entry]:
    """What the commit has, if that may be written; `what` names the repository in errors.

    Raises `RepositoryTooLarge`, and `CheckoutFailed` for paths that a work tree cannot have.
    """
    listed = await mirror.read("ls-tree", "-r", "-l", "-z", "--full-tree", commit, most=_LISTING_BYTES)
    entries = parse_listing(listed)
    check_paths(entries, what)
    check_sizes(entries, what, settings, budget)
    return entries


def parse_listing(output: bytes) -> list[Entry]:
    """The output of `git ls-tree -r -l -z`."""
    entries: list[Entry] = []
    for line in output.decode("utf-8", errors="surrogateescape").split("\0"):
        if line:
            facts, _, path = line.partition("\t")
            mode, _, name, size = facts.split()
            entries.append(Entry(path, mode, name, 0 if size == "-" else int(size)))
    return entries


def check_paths(entries: Sequence[Entry], what: str) -> None:
    """Refuse what a hand-made tree can hold: `..`, `.git`, one path twice, a file where a folder is."""
    leaves: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        parts = entry.path.split("/")
        if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
            raise CheckoutFailed(
                f"`{shown(what)}` has a file `{shown(entry.path)}`, which a work tree cannot have.",
                "Remove it from the repository.",
            )
        if len(parts) > _DEEPEST:
            raise CheckoutFailed(
                f"`{shown(what)}` has the file `{shown(entry.path)}`, {len(parts) - 1} folders deep.",
                f"At most {_DEEPEST - 1} are read: put it higher up.",
            )
        if entry.path in leaves:
            raise CheckoutFailed(
                f"`{shown(what)}` has the path `{shown(entry.path)}` twice.", "Repair the repository."
            )
        leaves.add(entry.path)
        for length in range(len(parts) - 1, 0, -1):
            folder = "/".join(parts[:length])
            if folder in folders:
                break
            folders.add(folder)
    both = leaves & folders
    if both:
        raise CheckoutFailed(
            f"In `{shown(what)}` `{shown(min(both))}` is a file and a folder at once.",
            "Repair the repository.",
        )


def check_sizes(entries: Sequence[Entry], what: str, settings: SourceSettings, budget: Budget) -> None:
    """Raises `RepositoryTooLarge` naming the largest file and the setting."""
    largest = max(entries, key=lambda entry: entry.size, default=None)
    total = sum(entry.size for entry in entries)
    if len(entries) > budget.files:
        raise RepositoryTooLarge(
            f"`{shown(what)}` has {len(entries)} files.",
            f"At most {settings.max_files} are allowed, submodules included (`binder.source.max_files`).",
        )
    if largest and largest.size > settings.max_file_bytes:
        raise RepositoryTooLarge(
            f"`{shown(what)}` has the file `{shown(largest.path)}` of {shown_bytes(largest.size)}.",
            f"At most {shown_bytes(settings.max_file_bytes)} are allowed (`binder.source.max_file_bytes`).",
        )
    if largest and total > budget.bytes:
        raise RepositoryTooLarge(
            f"The files of `{shown(what)}` have {shown_bytes(total)}; the largest, `{shown(largest.path)}`, "
            f"has {shown_bytes(largest.size)}.",
            f"At most {shown_bytes(settings.max_checkout_bytes)} are allowed, submodules included "
            "(`binder.source.max_checkout_bytes`).",
        )


@dataclass(frozen=True)
class Written:
    """What was written: files and links, their bytes, and those that are pointers of Git LFS."""

    files: int = 0
    bytes: int = 0
    pointers: tuple[Pointer, ...] = ()

    def __add__(self, other: Written) -> Written:
        return Written(self.files + other.files, self.bytes + other.bytes, self.pointers + other.pointers)


async def write(
    mirror: Mirror, commit: str, entries: Sequence[Entry], target: Path, most: int, executor: Executor
) -> Written:
    """Write the commit's files into the folder `target`, at most `most` bytes; raises `CheckoutFailed`."""
    await asyncio.to_thread(os.makedirs, target, 0o755, True)
    reading, writing = os.pipe()
    sender = asyncio.ensure_future(mirror.stream("archive", "--format=tar", commit, stdout=writing))
    by_path = {entry.path: entry for entry in entries}
    receiver = asyncio.get_running_loop().run_in_executor(executor, _receive, reading, by_path, target, most)
    try:
        await asyncio.gather(sender, asyncio.shield(receiver))
    except BaseException:
        # With git gone the pipe ends, and the thread with it; only then may the folder be removed.
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
        with contextlib.suppress(Exception):
            await asyncio.shield(receiver)
        _prefer_gits_word(sender)
        raise
    return receiver.result()


def _prefer_gits_word(sender: asyncio.Future[None]) -> None:
    """Where git failed, the torn stream is only the consequence."""
    if sender.done() and not sender.cancelled() and (error := sender.exception()):
        raise error


def _receive(reading: int, by_path: Mapping[str, Entry], target: Path, most: int) -> Written:
    folders = {"/".join(path.split("/")[:n]) for path in by_path for n in range(1, path.count("/") + 1)}
    folders |= {entry.path for entry in by_path.values() if entry.mode == SUBMODULE}
    written = Written()
    with open(reading, "rb", buffering=256 * 1024) as pipe:
        try:
            with tarfile.open(fileobj=pipe, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
                for member in archive:
                    path = member.name.rstrip("/")
                    if member.isdir():
                        if path in folders:  # an empty folder can only be made by hand; git writes none
                            (target / path).mkdir()
                        continue
                    written += _receive_one(archive, member, by_path.get(path), target)
                    if written.bytes > most:
                        raise RepositoryTooLarge(
                            f"The files, converted as .gitattributes says, exceed {shown_bytes(most)}.",
                            "Use a smaller repository, or raise `binder.source.max_checkout_bytes`.",
                        )
        except OSError as error:
            raise cannot_write("Cannot write the files", error) from None
        except tarfile.TarError as error:
            raise CheckoutFailed(f"git sent the files incompletely ({error}).", "Try again.") from None
    listed = sum(entry.mode != SUBMODULE for entry in by_path.values())
    if written.files != listed:
        raise CheckoutFailed(f"git sent {written.files} of {listed} files.", "Try again.")
    return written


def _receive_one(
    archive: tarfile.TarFile, member: tarfile.TarInfo, entry: Entry | None, target: Path
) -> Written:
    if entry is None:
        raise CheckoutFailed(f"git sent `{shown(member.name)}`, which is not listed.", "Try again.")
    if member.issym() and entry.mode == LINK:
        os.symlink(member.linkname, target / entry.path)
        return Written(1, 0)
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise CheckoutFailed(f"git sent `{shown(member.name)}` as a special file.", "Try again.")
    first = _write_file(content, target / entry.path, entry.mode)
    pointer = read_pointer(first, entry.path) if member.size <= POINTER_BYTES else None
    return Written(1, member.size, (pointer,) if pointer else ())


def _write_file(content: IO[bytes], path: Path, mode: str) -> bytes:
    """The beginning of what was written."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        first = content.read(POINTER_BYTES)
        file.write(first)
        while chunk := content.read(1024 * 1024):
            file.write(chunk)
        os.fchmod(file.fileno(), 0o755 if mode == "100755" else 0o644)
    return first


def settle(root: Path, seconds: int) -> None:
    """Give everything below one time, in seconds since the epoch, and folders the mode 0755."""
    when = (seconds, seconds)
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            os.utime(os.path.join(folder, name), when, follow_symlinks=False)
        for name in folders:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                os.utime(path, when, follow_symlinks=False)
        os.chmod(folder, 0o755)  # noqa: S103 - in a folder that only we can enter
        os.utime(folder, when)


def check_links(root: Path, subdir: str) -> None:
    """No file that is read on the host may lead out of the checkout; raises `CheckoutFailed`."""
    top = Path(os.path.realpath(root))
    build = top / subdir
    if not Path(os.path.realpath(build)).is_relative_to(top):
        raise _leads_out(top, build)
    if not build.is_dir():
        raise CheckoutFailed(
            f"The repository has no folder `{shown(subdir)}` at this commit.", "Correct the subfolder."
        )
    for folder in (build, build / "binder", build / ".binder"):
        for path in (folder, *(folder / name for name in _CONFIGURATION)):
            if not Path(os.path.realpath(path)).is_relative_to(top):
                raise _leads_out(top, path)


def _leads_out(top: Path, path: Path) -> CheckoutFailed:
    """The first link on the way is the one to change."""
    here = top
    for part in path.relative_to(top).parts:
        here = here / part
        if here.is_symlink():
            break
    target = os.readlink(here) if here.is_symlink() else os.path.realpath(here)
    return CheckoutFailed(
        f"`{shown(str(here.relative_to(top)))}` is a link to `{shown(target)}`, outside of the repository.",
        "Put the file itself into the repository.",
    )
