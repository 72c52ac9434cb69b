"""A backup of an installation in one file, while everything runs.

Comes in: an installation and what is wanted. Goes out: a file that is whole or not there. Databases are
copied by SQLite itself, people's files one after the other as they are at that moment; nothing is stopped or
locked, and nothing is changed.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import secrets
import stat
import tarfile
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from ruamel.yaml import YAML

from .. import __version__
from ..cache import image_file
from ..engine import Engine
from ..errors import BackupFailed, BinderError
from ..installation import LAST_BACKUP
from ..projects.archive import ARCHIVE, deleted_at
from ..projects.marker import HOME, MARKER, read_project
from ..projects.people import MY_FILES, PERSON_MARKER, people
from ..settings import Settings
from . import databases
from .backup_file import (
    FORMAT,
    HUB,
    IMAGES,
    PROJECTS,
    SETTINGS,
    STATE,
    Contents,
    Header,
    ImageView,
    TreeView,
    Writer,
    set_time,
)
from .exporting import image_manifest
from .installed import PASSWORDS, Installed
from .trees import Entry, Tree, read

T = TypeVar("T")

STATE_FILES = ("instance", "secret", "clock.json", "grants.json")
STORE, HUB_DATABASE, COOKIE_SECRET = "store.sqlite", "jupyterhub.sqlite", "cookie_secret"
_PREFIX, _SUFFIX = "littlest-binder-", ".tar.gz"
_SHOWN = 200  # names of files that changed or were skipped, of each folder
_PIECE = 4 * 1024**2


@dataclass(frozen=True)
class Wish:
    """What is wanted of a backup. `keep`: so many of the newest backups stay in its folder; 0: all."""

    file: Path | None = None
    projects: bool = False
    images: bool = False
    keep: int = 0


@dataclass(frozen=True)
class Folder:
    """One folder of people's files that goes into a backup as `place`."""

    path: Path
    place: str
    owner: str
    kind: str
    id: str = ""


@dataclass(frozen=True)
class Plan:
    """What goes in, and where: files by their names in the backup, folders, and what cannot be in."""

    file: Path
    files: tuple[tuple[str, Path], ...]
    hub_database: Path | None
    folders: tuple[Folder, ...]
    not_in: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """A backup that was written. `removed` are older ones that went for `--keep`."""

    file: Path
    bytes: int
    contents: Contents
    removed: tuple[Path, ...] = ()


@dataclass
class Progress:
    """Is told what goes on, and may ask to end."""

    say: Callable[[str], None] = lambda text: None
    advance: Callable[[int], None] = lambda count: None
    ended: threading.Event = field(default_factory=threading.Event)

    def passed(self, count: int) -> None:
        if self.ended.is_set():
            raise InterruptedError(errno.EINTR, "it was interrupted")
        self.advance(count)


# -- deciding -----------------------------------------------------------------------------------------


def plan(installed: Installed, wish: Wish, now: datetime) -> Plan:
    """Looks at the disk, and changes nothing."""
    settings, state = installed.settings, installed.state_dir
    files = [(STATE + name, state / name) for name in STATE_FILES]
    logs = sorted(settings.log_dir.glob("*.jsonl")) if settings.log_dir.is_dir() else []
    files += [(f"{STATE}logs/{path.name}", path) for path in logs]
    not_in = []
    if installed.cookie_secret is not None:
        files.append((HUB + COOKIE_SECRET, installed.cookie_secret))
    if installed.hub_database is not None and settings.platform == "tljh":
        beside = sorted(installed.hub_database.parent.glob(f"{PASSWORDS}*"))
        files += [(HUB + path.name, path) for path in beside]
    if installed.other_database:
        not_in.append(
            f"The hub's database, which is {installed.other_database}: back it up with its own tools."
        )
    elif installed.hub_database is None or not installed.hub_database.exists():
        not_in.append("The hub's database: no hub has said where it is, or none was started yet.")
    if settings.source.credentials_file:
        not_in.append(f"The credentials of git hosts in {settings.source.credentials_file}.")
    if settings.platform == "jupyterhub":
        not_in.append(
            "The hub's own configuration, in which the settings stand: they are in as they were in force."
        )
    if settings.mounts:
        not_in.append(f"The folders that are mounted ({', '.join(each.source for each in settings.mounts)}).")
    folders = tuple(people_folders(settings)) if wish.projects else ()
    if not wish.projects:
        not_in.append(f"People's files in {settings.storage_root} (`--projects` takes them in).")
    name = f"{_PREFIX}{now.astimezone(timezone.utc).strftime('%Y%m%dT%H%M%SZ')}{_SUFFIX}"
    file = (wish.file or installed.backups / name).absolute()
    if file.is_dir():
        file = file / name
    return Plan(file, tuple(files), installed.hub_database, folders, tuple(not_in))


def people_folders(settings: Settings) -> Iterator[Folder]:
    """Everything that people keep, and nothing that is half made or on its way out."""
    for owner, folder in people(settings.storage_root):
        base = f"{PROJECTS}{folder.name}"
        for entry in sorted(folder.iterdir()):
            if entry.is_symlink() or not entry.is_dir():
                continue
            if entry.name == MY_FILES:
                yield Folder(entry, f"{base}/{MY_FILES}", owner, "my-files")
            elif entry.name == ARCHIVE:
                for each in sorted(entry.iterdir()):
                    row = read_project(each, deleted=True) if deleted_at(each.name) else None
                    if row is not None:
                        yield Folder(each, f"{base}/{ARCHIVE}/{each.name}", owner, "deleted", row.id)
            elif (row := read_project(entry)) is not None:
                yield Folder(entry, f"{base}/{entry.name}", owner, "project", row.id)


# -- doing --------------------------------------------------------------------------------------------


async def make(installed: Installed, wish: Wish, progress: Progress | None = None) -> Made:
    """Write a backup. Raises `BackupFailed`, and `EngineError` where images are wanted and Docker is not
    there.

    Whatever happens: what was at its place before is there, or the new one, whole.
    """
    told = progress or Progress()
    planned = await asyncio.to_thread(plan, installed, wish, datetime.now(timezone.utc))
    engine = Engine(installed.instance or "none", timeout_s=installed.settings.docker.timeout_s)
    try:
        if wish.images:
            await engine.info()
        with _failures(planned.file), _draft(planned.file) as draft:
            contents = await _write(installed, planned, wish, draft, engine, told)
            await asyncio.to_thread(_finish, draft, planned.file)
        with suppress(OSError):  # the backup is what counts
            (installed.state_dir / LAST_BACKUP).touch(mode=0o600)
        removed = await asyncio.to_thread(_forget_old, planned.file.parent, installed, wish.keep)
        return Made(planned.file, planned.file.stat().st_size, contents, tuple(removed))
    finally:
        await engine.close()


async def _write(
    installed: Installed, planned: Plan, wish: Wish, draft: Path, engine: Engine, told: Progress
) -> Contents:
    with tempfile.TemporaryDirectory(prefix=".databases-", dir=draft.parent) as folder:
        copies = Path(folder)
        store, hub_database = await _interruptible(
            told, lambda: _copy_databases(installed, planned, copies, told)
        )
        images = _images(installed, store)
        header = _header(installed, store)
        with draft.open("wb") as file:
            writer = Writer(file, header)
            contents = await _interruptible(
                told, lambda: _write_files(installed, planned, writer, store, hub_database, draft, told)
            )
            if wish.images:
                images = [
                    each
                    async for each in _write_images(installed.settings, engine, writer, images, store, told)
                ]
            contents = contents.model_copy(
                update={"images": tuple(images), "with_projects": wish.projects, "not_in": planned.not_in}
            )
            await asyncio.to_thread(writer.finish, contents)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
    return contents


async def _interruptible(told: Progress, work: Callable[[], T]) -> T:
    """Work in a thread, which is asked to end when we are cancelled; it has ended when this returns."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        told.ended.set()
        await asyncio.wait({running})
        raise


def _copy_databases(
    installed: Installed, planned: Plan, copies: Path, told: Progress
) -> tuple[Path | None, Path | None]:
    # The hub first: who is in the store is then known to it, or was let go.
    hub_database = store = None
    if planned.hub_database is not None and planned.hub_database.exists():
        told.say("the hub's database")
        hub_database = copies / HUB_DATABASE
        databases.copy(planned.hub_database, hub_database)
    if installed.settings.store_path.exists():
        told.say("the store")
        store = copies / STORE
        databases.copy(installed.settings.store_path, store)
    return store, hub_database


def _header(installed: Installed, store: Path | None) -> Header:
    settings = installed.settings
    from jupyterhub import __version__ as hub_version

    return Header(
        format=FORMAT,
        version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        instance=installed.instance,
        platform=settings.platform,
        owner=settings.owner,
        state_dir=str(settings.state_dir),
        storage_root=str(settings.storage_root),
        server_uid=settings.server_uid,
        server_gid=settings.server_gid,
        jupyterhub=str(hub_version),
        schema_names=databases.schema_names(store) if store else (),
    )


def _images(installed: Installed, store: Path | None) -> list[ImageView]:
    return databases.images(store, installed.settings.examples_dir) if store else []


def _write_files(
    installed: Installed,
    planned: Plan,
    writer: Writer,
    store: Path | None,
    hub_database: Path | None,
    draft: Path,
    told: Progress,
) -> Contents:
    section = settings_text(installed)
    writer.add_bytes(SETTINGS, section)
    for name, database in ((HUB + HUB_DATABASE, hub_database), (STATE + STORE, store)):
        if database is not None:
            _add_file(writer, name, database, told)
    for name, path in planned.files:
        _add_file(writer, name, path, told)
    own = {(facts.st_dev, facts.st_ino) for facts in (draft.stat(),)}
    trees = []
    persons = set[str]()
    for folder in planned.folders:
        told.say(f"{folder.kind} {folder.id} of {folder.owner}".replace("  ", " "))
        _add_person(writer, folder, persons)
        view = _add_folder(writer, folder, own, told)
        if view is not None:
            trees.append(view)
    return Contents(settings=bool(section), hub_database=hub_database is not None, projects=tuple(trees))


def settings_text(installed: Installed) -> bytes:
    """The section `binder` with its comments, as its file says it; of TLJH's file that section alone."""
    if installed.settings.platform == "desktop" and installed.settings_file is not None:
        with suppress(FileNotFoundError):
            return installed.settings_file.read_bytes()
    yaml = YAML()
    section = None
    if installed.settings_file is not None and installed.settings_file.exists():
        section = (yaml.load(installed.settings_file.read_text(encoding="utf-8")) or {}).get("binder")
    elif installed.settings_file is None:
        section = installed.settings.model_dump(mode="json", exclude_defaults=True)
    out = io.BytesIO()
    yaml.dump({"binder": section or {}}, out)
    return out.getvalue()


def _add_file(writer: Writer, name: str, path: Path, told: Progress) -> None:
    """A file of ours; one that is not there is left out."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as file:
        info = tarfile.TarInfo(name)
        info.mode = 0o600
        content = read(file.fileno())
        writer.add_file(info, replace(content, pieces=_counted(content.pieces, told)))


def _counted(pieces: Iterator[bytes], told: Progress) -> Iterator[bytes]:
    for piece in pieces:
        told.passed(len(piece))
        yield piece


# -- people's files -----------------------------------------------------------------------------------


def _add_person(writer: Writer, folder: Folder, known: set[str]) -> None:
    """Once for each: whose folder it is, and the one of deleted projects."""
    base = "/".join(folder.place.split("/")[:2])
    person_folder = folder.path.parents[1] if folder.kind == "deleted" else folder.path.parent
    if base not in known:
        known.add(base)
        with suppress(FileNotFoundError):
            writer.add_bytes(f"{base}/{PERSON_MARKER}", (person_folder / PERSON_MARKER).read_bytes())
    if folder.kind == "deleted" and f"{base}/{ARCHIVE}" not in known:
        known.add(f"{base}/{ARCHIVE}")
        info = tarfile.TarInfo(f"{base}/{ARCHIVE}")
        info.type, info.mode = tarfile.DIRTYPE, 0o700
        writer.add(info)


def _add_folder(writer: Writer, folder: Folder, own: set[tuple[int, int]], told: Progress) -> TreeView | None:
    """None if it went meanwhile."""
    first_names: dict[tuple[int, int], str] = {}
    entries = total = 0
    changed, skipped = list[str](), list[str]()
    try:
        tree = Tree(folder.path).__enter__()
    except FileNotFoundError:
        return None
    try:
        for entry in tree.entries():
            if _is_not_ours_to_keep(folder, entry) or (entry.facts.st_dev, entry.facts.st_ino) in own:
                continue
            if entry.kind == "skipped":
                skipped.append(f"{_shown(entry.path)}: {entry.text}")
                continue
            try:
                size, differed = _add_entry(writer, tree, folder, entry, first_names, told)
            except FileNotFoundError:
                continue
            except PermissionError as error:
                skipped.append(f"{_shown(entry.path)}: {error.strerror}")
                continue
            entries += 1
            total += size
            if differed:
                changed.append(_shown(entry.path))
    finally:
        tree.__exit__()
    return TreeView(
        place=folder.place,
        owner=folder.owner,
        id=folder.id,
        kind=folder.kind,
        entries=entries,
        bytes=total,
        changed=tuple(changed[:_SHOWN]),
        skipped=tuple(skipped[:_SHOWN]),
    )


def _is_not_ours_to_keep(folder: Folder, entry: Entry) -> bool:
    """Beside the marker and the home lies only what is half made."""
    first = entry.path.partition("/")[0]
    return folder.kind != "my-files" and first not in ("", MARKER, HOME)


def _add_entry(
    writer: Writer,
    tree: Tree,
    folder: Folder,
    entry: Entry,
    first_names: dict[tuple[int, int], str],
    told: Progress,
) -> tuple[int, bool]:
    """How many bytes it has, and whether it changed meanwhile."""
    name = f"{folder.place}/{entry.path}" if entry.path else folder.place
    if entry.kind != "file":
        info = _info(name, entry.facts)
        info.type = tarfile.DIRTYPE if entry.kind == "folder" else tarfile.SYMTYPE
        info.linkname = entry.text
        writer.add(info)
        told.passed(0)
        return 0, False
    descriptor = tree.open_file(entry.path)
    try:
        facts = os.fstat(descriptor)
        identity = (facts.st_dev, facts.st_ino)
        info = _info(name, facts)
        if identity in first_names:
            info.type, info.linkname = tarfile.LNKTYPE, first_names[identity]
            writer.add(info)
            return 0, False
        content = read(descriptor)
        writer.add_file(info, replace(content, pieces=_counted(content.pieces, told)))
        if facts.st_nlink > 1:
            first_names[identity] = name
        return content.size, content.changed()
    finally:
        os.close(descriptor)


def _info(name: str, facts: os.stat_result) -> tarfile.TarInfo:
    """Numbers for owners, since names are another machine's; nothing gives its owner's rights away."""
    info = tarfile.TarInfo(name)
    # On a folder the group's bit only says whose new files in it are.
    info.mode = facts.st_mode & 0o7777 & ~(0o4000 if stat.S_ISDIR(facts.st_mode) else 0o6000)
    info.uid, info.gid = facts.st_uid, facts.st_gid
    set_time(info, facts.st_mtime_ns)
    return info


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")[:_SHOWN]


# -- images -------------------------------------------------------------------------------------------


async def _write_images(
    settings: Settings,
    engine: Engine,
    writer: Writer,
    images: list[ImageView],
    store: Path | None,
    told: Progress,
) -> AsyncIterator[ImageView]:
    for image in images:
        manifest = await image_manifest(settings, engine, store, image.image_id) if store else None
        if manifest is None:
            yield image
            continue
        told.say(f"the image {image.title}")
        try:
            async with (
                aclosing(engine.save(image.image_id)) as saved,
                aclosing(image_file.write(manifest, saved)) as pieces,
            ):
                await _write_image(writer, image, pieces, told)
        except BinderError as error:
            # Half of it may be in the file; only what the list says is there is ever read.
            yield image.model_copy(update={"reason": f"it could not be saved: {error.message}"})
            continue
        yield image.model_copy(update={"again": "file", "reason": ""})


async def _write_image(
    writer: Writer, image: ImageView, pieces: AsyncIterator[bytes], told: Progress
) -> None:
    waiting, number = bytearray(), 0
    base = f"{IMAGES}{image.image_id.removeprefix('sha256:')}"
    async for piece in pieces:
        waiting += piece
        told.passed(len(piece))
        while len(waiting) >= _PIECE:
            await asyncio.to_thread(writer.add_bytes, f"{base}/{number:08d}", bytes(waiting[:_PIECE]))
            del waiting[:_PIECE]
            number += 1
    if waiting:
        await asyncio.to_thread(writer.add_bytes, f"{base}/{number:08d}", bytes(waiting))


# -- the file -----------------------------------------------------------------------------------------


@contextmanager
def _draft(file: Path) -> Iterator[Path]:
    """A name beside the file, for root (on a desktop: the person) alone; gone at the end in any case."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _finish(draft: Path, file: Path) -> None:
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _failures(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BackupFailed(
                f"The disk of {file.parent} is full; nothing was left of the backup.",
                "Free some disk, or name a file on another one: `littlest-binder backup FILE`.",
            ) from error
        raise BackupFailed(
            f"The backup could not be written: {error.strerror} ({error.filename or file}).",
            "Check the folder's owner and the free disk.",
        ) from error


def _forget_old(folder: Path, installed: Installed, keep: int) -> list[Path]:
    """Backups of this installation beyond the newest `keep` in a folder, by our names alone."""
    from .backup_file import read_header

    if not keep:
        return []
    found = []
    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"), reverse=True):
        with suppress(BinderError, OSError):
            if read_header(path).instance == installed.instance:
                found.append(path)
    for path in found[keep:]:
        path.unlink(missing_ok=True)
    return found[keep:]
