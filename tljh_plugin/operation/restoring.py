"""A restore, carried out: everything is laid out beside its place first, and then gets its name.

Comes in: a plan. Goes out: a report. Whatever was there is renamed and stays. It can be interrupted at any
point and run again: what has its name stays, and what was half laid out is made anew.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from ruamel.yaml import YAML

from ..engine import Engine, firewall
from ..errors import BadBackup, BinderError, RestoreFailed, RestoreRefused, StillRunning
from ..installation import UNFINISHED, ensure_state
from ..projects.archive import ARCHIVE
from ..projects.marker import change_marker, read_project, sync_folder
from ..projects.names import further_project_id
from ..projects.people import ensure_person_folder, make_private
from ..projects.root import StorageRoot
from ..store import Store
from ..store.lock import StoreLock
from . import databases
from .backup import HUB_DATABASE, STORE, Progress
from .backup_file import HUB, PROJECTS, STATE, Member, members, tree_of
from .installed import Installed, hub_runs, service_runs
from .laying import Laying, as_it_is, write_all
from .restore import RESTORED, FilePlan, Plan, TreePlan

_DRAFT = ".restoring-"


@dataclass(frozen=True)
class Laid:
    """Where a folder of people's files is now, and what was done with it."""

    owner: str
    kind: str
    action: str
    place: Path


@dataclass(frozen=True)
class Report:
    """What a restore did, but for images. `aside` is what was there before."""

    laid: tuple[Laid, ...]
    aside: tuple[Path, ...]
    files: tuple[Path, ...]


def check_nothing_runs(installed: Installed) -> None:
    """Raises `StillRunning`, with how to stop it."""
    if hub_runs(installed):
        how = {
            "desktop": "End `littlest-binder up` with Ctrl-C",
            "tljh": "`sudo systemctl stop jupyterhub` (servers go on)",
        }.get(installed.settings.platform, "Stop the hub")
        raise StillRunning(f"A hub works with {installed.state_dir}.", f"{how}, then run the command again.")
    if service_runs(installed):
        raise StillRunning(
            f"A service works with {installed.state_dir}.",
            "Stop it (`sudo systemctl stop tljh-binder` on a server), then run the command again.",
        )


async def check_no_servers(installed: Installed, engine: Engine) -> None:
    """Raises `StillRunning` naming servers, whose files would be under them while the hub forgets them."""
    running = await running_servers(engine)
    if running:
        raise StillRunning(
            f"Servers of this installation run: {', '.join(running)}.",
            "Let people stop them, or stop them with `docker stop`, then run the command again.",
        )


async def let_go(engine: Engine) -> None:
    """Remove the network and the firewall rules of an installation that has become another one."""
    with suppress(BinderError):
        await engine.remove_network()
        await firewall.remove(engine.instance)


async def running_servers(engine: Engine) -> list[str]:
    """Names of running servers of this installation, as `person/server`. Raises `EngineError`."""
    from ..labels import KIND_LABEL, PERSON_LABEL, SERVER_LABEL

    return sorted(
        f"{row.labels.get(PERSON_LABEL, '')}/{row.labels.get(SERVER_LABEL, '')}"
        for row in await engine.containers()
        if engine.is_ours(row.labels) and row.labels.get(KIND_LABEL) == "server" and row.state == "running"
    )


async def carry_out(plan: Plan, progress: Progress | None = None) -> Report:
    """Lay everything out and give it its name. Raises `BackupError`, `StillRunning`, `StoreError`."""
    told = progress or Progress()
    with _failures(), _alone(plan.into):
        drafts = _Drafts(plan)
        try:
            laid = await _interruptible(told, lambda: _lay_out(plan, drafts, told))
            await _fit_store(plan, drafts)
            aside = await asyncio.to_thread(_give_names, plan, drafts)
        finally:
            await asyncio.to_thread(drafts.clear)
        await asyncio.to_thread(_take_root, plan)
    return Report(laid, tuple(aside), tuple(each.target for each in plan.files))


async def _interruptible(told: Progress, work: Callable[[], tuple[Laid, ...]]) -> tuple[Laid, ...]:
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        told.ended.set()
        await asyncio.wait({running})
        raise


@contextmanager
def _alone(installed: Installed) -> Iterator[None]:
    """No service starts meanwhile; raises `StillRunning` if one runs."""
    ensure_folder(installed.state_dir)
    check_nothing_runs(installed)
    store = installed.settings.store_path
    lock = StoreLock(store.with_name(store.name + ".lock"))
    lock.take()
    try:
        yield
    finally:
        lock.release()


def ensure_folder(state_dir: Path) -> None:
    """The state folder of an installation that was never started."""
    state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = "The disk is full; what was here is as it was."
        else:
            why = f"The restore could not go on: {error.strerror} ({error.filename or 'no file'})."
        raise RestoreFailed(
            why, "Free some disk, check the folder's owner, and run the command again."
        ) from error


# -- laying out ---------------------------------------------------------------------------------------


class _Drafts:
    """What is laid out beside its place, and not there yet."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.files: dict[str, Path] = {
            each.name: each.target.with_name(f"{_DRAFT}{each.target.name}") for each in plan.files
        }
        self.settings = (
            plan.into.settings_file.with_name(f"{_DRAFT}{plan.into.settings_file.name}")
            if plan.settings and plan.into.settings_file
            else None
        )
        self.folders: list[Path] = []  # those of people, in which drafts may lie
        self.clear()

    def clear(self) -> None:
        """Remove what has no name yet, also what an earlier restore has left."""
        for path in (*self.files.values(), *([self.settings] if self.settings else [])):
            _remove(path)
            for suffix in (".lock", "-wal", "-shm", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        for each in self._plan.into.settings.storage_root.glob(f"*/{_DRAFT}*"):
            _remove(each)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for folder, below, _ in os.walk(path):
            for name in below:
                if not os.path.islink(inner := os.path.join(folder, name)):
                    os.chmod(inner, 0o700)  # its owner may have taken every right away
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lay_out(plan: Plan, drafts: _Drafts, told: Progress) -> tuple[Laid, ...]:
    wanted = {each.view.place: each for each in plan.trees}
    laid = [Laid(e.view.owner, e.view.kind, e.action, e.target) for e in plan.trees if e.action in _STAYS]
    making = {place: each for place, each in wanted.items() if each.action not in _STAYS}
    if making:
        _ensure_root(plan)
    _settings(plan, drafts)
    now: _Tree | None = None
    try:
        for member in members(plan.backup.file):
            if now is not None and not now.holds(member):
                laid.append(now.finish())
                now = None
            if member.name.startswith(PROJECTS):
                tree = making.get(tree_of(member.name))
                if tree is None:
                    continue
                if now is None:
                    told.say(f"{tree.view.kind} {tree.view.id} of {tree.view.owner}".replace("  ", " "))
                    now = _Tree(plan, tree)
                now.laying.add(member, told.passed)
            else:
                _own_file(plan, drafts, member, told)
        if now is not None:
            laid.append(now.finish())
            now = None
    finally:
        if now is not None:
            now.laying.close()
    return tuple(laid)


_STAYS = ("same", "there")


class _Tree:
    """One folder of people's files on its way to its place."""

    def __init__(self, plan: Plan, tree: TreePlan) -> None:
        self._plan, self._tree = plan, tree
        root = plan.into.settings.storage_root
        self._person = ensure_person_folder(root, tree.view.owner)
        self._draft = self._person / f"{_DRAFT}{secrets.token_hex(6)}"
        self.laying = Laying(self._draft, tree.view.place, plan.backup.digests, _owner(plan))

    def holds(self, member: Member) -> bool:
        return tree_of(member.name) == self._tree.view.place

    def finish(self) -> Laid:
        """Give it its name, in one step."""
        self.laying.finish()
        os.sync()
        view, target = self._tree.view, self._tree.target
        if self._tree.action == "beside" and view.kind == "my-files":
            self._into_my_files(target)
        elif self._tree.action == "beside":
            target = self._as_further_project()
        else:
            if view.kind == "deleted":
                make_private(self._person / ARCHIVE)
            with suppress(FileNotFoundError):
                target.rmdir()  # an empty one; anything else was seen when it was planned
            self._draft.rename(target)
        sync_folder(target.parent)
        return Laid(view.owner, view.kind, self._tree.action, target)

    def _as_further_project(self) -> Path:
        row = read_project(self._draft, deleted=True)
        if row is None:
            raise RestoreRefused(
                f"{self._tree.view.place} in the backup is no project.", "Take it out with `tar -xf`."
            )
        identifier = further_project_id(row.repository, row.subdir)
        day = self._plan.backup.header.created[:10]
        change_marker(
            self._draft,
            id=identifier,
            title=f"{row.title or row.id} (of the backup of {day})",
            **{RESTORED: f"{self._plan.id}/{self._tree.view.place}"},
        )
        target = self._person / identifier
        self._draft.rename(target)
        return target

    def _into_my_files(self, target: Path) -> None:
        # Its owner can change what is around it, so nothing is looked up by its whole path.
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.rename(self._draft, target.name, dst_dir_fd=folder)
        finally:
            os.close(folder)


def _owner(plan: Plan) -> Callable[[int, int], tuple[int, int]]:
    header, settings = plan.backup.header, plan.into.settings

    def owner(uid: int, gid: int) -> tuple[int, int]:
        return as_it_is(
            settings.server_uid if uid == header.server_uid else uid,
            settings.server_gid if gid == header.server_gid else gid,
        )

    return owner


def _ensure_root(plan: Plan) -> None:
    """The folder of people's files; it gets its marker with the rest."""
    root = plan.into.settings.storage_root
    root.mkdir(mode=0o700, parents=not plan.into.settings.storage.root, exist_ok=True)


def _own_file(plan: Plan, drafts: _Drafts, member: Member, told: Progress) -> None:
    draft = drafts.files.get(member.name)
    if draft is None and member.name.startswith(f"{STATE}logs/") and f"{STATE}logs" in drafts.files:
        folder = drafts.files[f"{STATE}logs"]
        folder.mkdir(mode=0o700, exist_ok=True)
        draft = folder / member.name.rpartition("/")[2]
    if draft is None:
        return
    draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = 0o644 if member.name == f"{STATE}instance" else 0o600
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        digest = hashlib.sha256()
        position = 0
        for piece in member.data(digest):
            write_all(descriptor, piece, position)
            position += len(piece)
            told.passed(len(piece))
        if digest.hexdigest() != plan.backup.digests[member.name]:
            raise BadBackup("The backup changed while it was read.", "Begin once more.")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settings(plan: Plan, drafts: _Drafts) -> None:
    """On a desktop the file; on TLJH the section `binder` in its file, whose other sections stay."""
    file, draft = plan.into.settings_file, drafts.settings
    if file is None or draft is None:
        return
    if plan.into.settings.platform == "desktop":
        _write_settings(draft, plan.backup.settings, 0o644)
        return
    yaml = YAML()
    section = (yaml.load(plan.backup.settings.decode("utf-8")) or {}).get("binder")
    document = yaml.load(file.read_text(encoding="utf-8")) if file.exists() else None
    document = {} if document is None else document
    if section:
        document["binder"] = section
    else:
        document.pop("binder", None)
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
    text = io.BytesIO()
    yaml.dump(document, text)
    _write_settings(draft, text.getvalue(), mode)


def _write_settings(draft: Path, text: bytes, mode: int) -> None:
    draft.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


async def _fit_store(plan: Plan, drafts: _Drafts) -> None:
    """Migrate the store's copy and make it this machine's, before it is the store."""
    draft = drafts.files.get(STATE + STORE)
    if draft is None or not draft.exists():
        return
    store = await Store.open(draft)
    await store.audit("system", "settings.restore", str(plan.backup.file), f"of {plan.backup.header.created}")
    await store.close()
    draft.with_name(draft.name + ".lock").unlink(missing_ok=True)
    roots = plan.backup.header.storage_root, str(plan.into.settings.storage_root)

    def fit() -> None:
        databases.settle(draft)
        databases.fit_store(draft, roots)

    await asyncio.to_thread(fit)


# -- giving names -------------------------------------------------------------------------------------


def _give_names(plan: Plan, drafts: _Drafts) -> list[Path]:
    """From here on it is the other installation. A hub or service that is started in the middle refuses."""
    mark = plan.into.state_dir / UNFINISHED
    mark.write_text(f"{plan.backup.file}\n")
    aside: list[Path] = []
    if drafts.settings is not None and drafts.settings.exists() and plan.into.settings_file is not None:
        _swap(plan, drafts.settings, plan.into.settings_file, aside)
    for each in plan.files:
        draft = drafts.files[each.name]
        if not draft.exists():
            continue
        if each.name in (STATE + STORE, HUB + HUB_DATABASE):
            _settle(each, plan, aside)
        _swap(plan, draft, each.target, aside)
    mark.unlink()
    sync_folder(plan.into.state_dir)
    return aside


def _settle(file: FilePlan, plan: Plan, aside: list[Path]) -> None:
    """A log beside the old database must never be taken for one of the new."""
    databases.settle(file.target)
    for suffix in ("-wal", "-shm", "-journal"):
        beside = file.target.with_name(file.target.name + suffix)
        if beside.exists():
            put = _free(beside.with_name(f"{file.target.name}{plan.aside}{suffix}"))
            beside.rename(put)
            aside.append(put)


def _swap(plan: Plan, draft: Path, target: Path, aside: list[Path]) -> None:
    if (known := _bytes(target)) is not None and known == draft.read_bytes():
        draft.unlink()
        return
    if os.path.lexists(target):
        put = _free(target.with_name(f"{target.name}{plan.aside}"))
        target.rename(put)
        aside.append(put)
    draft.rename(target)
    sync_folder(target.parent)


def _free(path: Path) -> Path:
    """The path, or one with a number if that is taken."""
    for number in count(2):
        if not os.path.lexists(path):
            return path
        path = path.with_name(f"{path.name.partition('~')[0]}~{number}")
    raise AssertionError("unreachable")


def _bytes(path: Path) -> bytes | None:
    """Of a small file, which need not go aside if it is the same; databases always do."""
    small = path.is_file() and path.suffix != ".sqlite" and path.stat().st_size <= 1024**2
    return path.read_bytes() if small else None


def _take_root(plan: Plan) -> None:
    """The root of people's files is the restored installation's now."""
    settings = plan.into.settings
    ensure_state(settings)
    root = StorageRoot(settings, plan.backup.header.instance)
    restored = any(each.action not in _STAYS for each in plan.trees)
    if not root.ready and (restored or (plan.into.instance and root.strange)):
        root.adopt()
