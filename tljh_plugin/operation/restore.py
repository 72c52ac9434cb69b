"""What a restore would do: decided before anything is changed, and shown.

Comes in: a backup that was found whole, and the installation that it goes into. Goes out: a plan, or a
refusal. Nothing that a person made is ever replaced: where their files differ, those of the backup are laid
beside them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jupyterhub import __version__ as hub_version
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from .. import __version__
from ..errors import BackupTooNew, RestoreRefused
from ..projects.archive import ARCHIVE
from ..projects.marker import MARKER
from ..projects.people import person_folder
from ..projects.root import ROOT_MARKER
from ..settings import Settings, from_mapping
from . import databases
from .backup import COOKIE_SECRET, HUB_DATABASE, STATE_FILES, STORE
from .backup_file import HUB, STATE, Backup, Header, ImageView, TreeView, digested
from .installed import PASSWORDS, Installed
from .trees import Tree, read

RESTORED = "restored"  # in a project's marker: of which backup it is


@dataclass(frozen=True)
class TreePlan:
    """One folder of people's files: `new` (nothing is there), `same` (it is as in the backup), `beside`
    (other files are there and stay), `there` (this backup put it there before)."""

    view: TreeView
    action: Literal["new", "same", "beside", "there"]
    target: Path


@dataclass(frozen=True)
class ImagePlan:
    """One image: `there`, `load` (from the backup), `build` (anew, when it is needed) or `nowhere`."""

    view: ImageView
    action: Literal["there", "load", "build", "nowhere"]


@dataclass(frozen=True)
class FilePlan:
    """One file or folder of ours; what is at `target` goes aside."""

    name: str  # in the backup
    target: Path
    replaces: bool


@dataclass(frozen=True)
class Plan:
    """`into` has the settings as they will be. `aside` is what names of things put aside end with."""

    backup: Backup
    into: Installed
    aside: str
    files: tuple[FilePlan, ...]
    settings: bool
    trees: tuple[TreePlan, ...]
    images: tuple[ImagePlan, ...]
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Of the backup, in what it leaves on the disk."""
        return backup_id(self.backup.header)


def replace_into(plan: Plan, into: Installed) -> Plan:
    """The same plan with other settings."""
    return replace(plan, into=into)


def backup_id(header: Header) -> str:
    """12 hexadecimal digits."""
    return hashlib.sha256(f"{header.instance}\n{header.created}".encode()).hexdigest()[:12]


def decide(backup: Backup, here: Installed, present: frozenset[str] | None, now: str) -> Plan:
    """Looks at the disk, changes nothing. `present` are ids of Docker's images, None if it is not there;
    `now` a time in UTC such as `20261122T101500Z`.

    Raises `RestoreRefused`, `BackupTooNew`, and `SettingsError` if the settings in it are not valid here.
    """
    header = backup.header
    check_versions(header, databases.known_names(), __version__, str(hub_version))
    _check_kind(header, here)
    settings = settings_of(backup, here)
    into = here.with_settings(settings)
    _check_root(header, into, backup.contents.with_projects)
    trees = tuple(_tree(backup, view, settings) for view in backup.contents.projects)
    _check_room(backup, trees, settings)
    files = _files(backup, into)
    notes = list(backup.contents.not_in)
    if here.instance and here.instance != header.instance:
        notes.append(
            f"This installation ({here.instance}) becomes the one of the backup ({header.instance}): images "
            "are known by its secret."
        )
    if header.server_uid != settings.server_uid:
        notes.append(
            f"Files of user {header.server_uid}, as whom servers ran there, become those of user "
            f"{settings.server_uid}."
        )
    if settings.platform == "jupyterhub":
        notes.append("The settings stand in the hub's own configuration: put them there by hand.")
    return Plan(
        backup=backup,
        into=into,
        aside=f".before-restore-{now}",
        files=files,
        settings=settings.platform != "jupyterhub",
        trees=trees,
        images=tuple(_image(view, present) for view in backup.contents.images),
        notes=tuple(notes),
    )


def check_versions(header: Header, known: frozenset[str], version: str, hub: str) -> None:
    """Raises `BackupTooNew` if this version could not read what a newer one has written."""
    newer = [name for name in header.schema_names if name not in known]
    if newer or _numbers(header.version)[:3] > _numbers(version)[:3]:
        raise BackupTooNew(
            f"The backup was made by version {header.version}, and this is {version}"
            + (f" (its store has the migration {newer[0]})." if newer else "."),
            f"Install version {header.version} or later here first, then restore.",
        )
    if header.jupyterhub and _numbers(header.jupyterhub)[:2] > _numbers(hub)[:2]:
        raise BackupTooNew(
            f"The hub's database is of JupyterHub {header.jupyterhub}, and this is {hub}.",
            "Install that JupyterHub or a later one here first, then restore.",
        )


def _numbers(version: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", version)]


def _check_kind(header: Header, here: Installed) -> None:
    if header.platform != here.settings.platform:
        raise RestoreRefused(
            f"The backup is of a {header.platform} installation, and {here.state_dir} is a "
            f"{here.settings.platform} one.",
            "Restore it into an installation of the same kind.",
        )
    if header.platform == "desktop" and header.owner != here.settings.owner:
        raise RestoreRefused(
            f"The backup is of {header.owner}'s desktop, and you are {here.settings.owner}: projects "
            "belong to people by their names.",
            f"Restore it as {header.owner}, or take the files out with `tar -xf`.",
        )


def settings_of(backup: Backup, here: Installed) -> Settings:
    """The settings of a backup as they hold here. Raises `SettingsError`, `RestoreRefused`."""
    before = here.settings
    if before.platform == "jupyterhub":
        return before
    try:
        document = YAML(typ="safe").load(io.BytesIO(backup.settings)) or {}
        section = document.get("binder") or {}
    except (YAMLError, AttributeError):
        raise RestoreRefused(
            f"The settings in {backup.file} are not understood.", "Take another backup."
        ) from None
    return from_mapping(
        section,
        platform=before.platform,
        state_dir=before.state_dir,
        owner=before.owner,
        source=f"the settings in {backup.file}",
        origin=before.origin,
    )


def _check_root(header: Header, into: Installed, with_projects: bool) -> None:
    root = into.settings.storage_root
    try:
        marked_by = str(json.loads((root / ROOT_MARKER).read_text())["installation"])
    except (OSError, ValueError, KeyError, TypeError):
        marked_by = ""
    if marked_by not in ("", header.instance, into.instance):
        raise RestoreRefused(
            f"{root} holds the files of another installation ({marked_by}).",
            "Mount the right disk there, or let `storage.root` of the backup's machine name another folder.",
        )
    if with_projects and into.settings.storage.root and not root.parent.is_dir():
        raise RestoreRefused(
            f"People's files belong into {root} (`storage.root`), and {root.parent} does not exist.",
            "Mount its disk, or make that folder.",
        )


def _check_room(backup: Backup, trees: tuple[TreePlan, ...], settings: Settings) -> None:
    needed = sum(each.view.bytes for each in trees if each.action in ("new", "beside"))
    place = settings.storage_root
    while not place.exists():
        place = place.parent
    figures = os.statvfs(place)
    # Holes count in what is said of a tree, and never in what the whole backup stores.
    needed = min(needed, backup.stored)
    free = figures.f_bavail * figures.f_frsize
    if needed > free:
        raise RestoreRefused(
            f"People's files take {needed // 1024**2} MiB, and the disk of {place} has {free // 1024**2} "
            "MiB free.",
            "Free some disk, or let `storage.root` name a larger one.",
        )


def _files(backup: Backup, into: Installed) -> tuple[FilePlan, ...]:
    """Marks and secrets last: with them the installation is the other one."""
    state = into.state_dir
    found: list[tuple[str, Path]] = []
    if any(name.startswith(f"{STATE}logs/") for name in backup.digests):
        found.append((f"{STATE}logs", into.settings.log_dir))
    if into.hub_database is not None:
        found.append((HUB + HUB_DATABASE, into.hub_database))
        folder = into.hub_database.parent
        names = sorted(name for name in backup.digests if name.startswith(HUB + PASSWORDS))
        found += [(name, folder / name.removeprefix(HUB)) for name in names]
    if into.cookie_secret is not None:
        found.append((HUB + COOKIE_SECRET, into.cookie_secret))
    found.append((STATE + STORE, into.settings.store_path))
    found += [(STATE + name, state / name) for name in reversed(STATE_FILES)]
    return tuple(
        FilePlan(name, target, os.path.lexists(target))
        for name, target in found
        if name in backup.digests or name == f"{STATE}logs"
    )


# -- people's files -----------------------------------------------------------------------------------


def _tree(backup: Backup, view: TreeView, settings: Settings) -> TreePlan:
    folder = person_folder(settings.storage_root, view.owner)
    name = view.place.rpartition("/")[2]
    target = folder / (f"{ARCHIVE}/{name}" if view.kind == "deleted" else name)
    if not os.path.lexists(target) or _is_empty(target):
        return TreePlan(view, "new", target)
    if view.kind == "deleted" or is_same(backup, view.place, target):
        return TreePlan(view, "same", target)
    if view.kind == "my-files":
        beside = target / f"restored-{_day(backup.header)}-{backup_id(backup.header)}"
        return TreePlan(view, "there" if os.path.lexists(beside) else "beside", beside)
    earlier = _restored_before(folder, f"{backup_id(backup.header)}/{view.place}")
    return TreePlan(view, "there", earlier) if earlier else TreePlan(view, "beside", target)


def _day(header: Header) -> str:
    return header.created[:10]


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def _restored_before(person: Path, mark: str) -> Path | None:
    for marker in sorted(person.glob(f"*/{MARKER}")):
        try:
            if json.loads(marker.read_text(encoding="utf-8")).get(RESTORED) == mark:
                return marker.parent
        except (OSError, ValueError, AttributeError):
            continue
    return None


def is_same(backup: Backup, place: str, folder: Path) -> bool:
    """Whether a folder holds exactly the files and links that a tree of the backup has."""
    prefix = f"{place}/"
    digests = {name.removeprefix(prefix): d for name, d in backup.digests.items() if name.startswith(prefix)}
    links = {name.removeprefix(prefix): to for name, to in backup.links.items() if name.startswith(prefix)}
    for name, target in list(links.items()):
        if target.startswith(prefix) and (first := digests.get(target.removeprefix(prefix))) is not None:
            digests[name] = first  # a further name of a file
            del links[name]
    seen = 0
    try:
        with Tree(folder) as tree:
            for entry in tree.entries():
                if entry.kind == "link":
                    if links.get(entry.path) != entry.text:
                        return False
                    seen += 1
                elif entry.kind == "file":
                    expected = digests.get(entry.path)
                    if expected is None or _digest(tree, entry.path) != expected:
                        return False
                    seen += 1
                elif entry.kind == "skipped":
                    return False
    except OSError:
        return False
    return seen == len(digests) + len(links)


def _digest(tree: Tree, path: str) -> str:
    descriptor = tree.open_file(path)
    try:
        content, digest = read(descriptor), hashlib.sha256()
        for _ in digested(content.pieces, content.segments, content.size, digest):
            pass
        return digest.hexdigest()
    finally:
        os.close(descriptor)


def _image(view: ImageView, present: frozenset[str] | None) -> ImagePlan:
    if present is not None and view.image_id in present:
        return ImagePlan(view, "there")
    if view.again == "file":
        return ImagePlan(view, "load")
    return ImagePlan(view, "build" if view.again == "build" else "nowhere")
