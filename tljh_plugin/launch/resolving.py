"""From what a person chose to folders that Docker is told to mount; looked at anew at each start.

Between this look and Docker's own somebody could put another folder into the place, so the kernel's list is
compared after the start as well: see `kernel_mounts`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..accounts import Identity, fixed, identity_of
from ..engine import Mount
from ..errors import AccountError, AccountMissing, BinderError, MountError, MountMissing, MountUnsafe
from ..settings import Settings
from ..wire import ErrorView, MountView, Person
from . import grants
from .host_folders import Folder, chain_to, look, look_in
from .mounts import Offer, Place, choose, hidden_part, judge, link_of, offers

_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr",
    "/var/run",
)  # fmt: skip
_DOCKERS = ("/var/lib/docker", "/var/lib/containerd")
_SOCKET = "/var/run/docker.sock"
_TLJHS = ("/opt/tljh",)
# TLJH's hub has folders of its own there (its unit says PrivateTmp), which are not those that Docker sees.
_PRIVATE = ("/tmp", "/var/tmp")  # noqa: S108  # compared, not used


@dataclass(frozen=True, slots=True)
class Chosen:
    """A folder that a server gets."""

    offer: Offer
    folder: Folder

    @property
    def mount(self) -> Mount:
        """What Docker is asked for."""
        return Mount(self.folder.path, self.offer.target, self.offer.read_only)

    @property
    def link(self) -> str:
        """Its name in the home."""
        return link_of(self.offer)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What folders are judged by: see `mounts.judge`."""

    protected: tuple[Place, ...]
    writable: tuple[Place, ...]
    roots: tuple[Place, ...]
    who: Identity  # as whom the person's servers run


def offered(settings: Settings, person: Person) -> tuple[Offer, ...]:
    """What is meant for `person`, whether it can be had now or not. Raises `SettingsError`."""
    return offers(settings, person, grants.read(settings.grants_path))


def resolve(settings: Settings, person: Person, ids: Iterable[str], docker_root: str) -> tuple[Chosen, ...]:
    """The folders of these ids as they are now; missing ones of a person are made where that is wanted.

    Raises `MountError`, or an `AccountError`. Looks at the disk: run it in a thread.
    """
    chosen = choose(ids, offered(settings, person))
    if not chosen:
        return ()
    around = surroundings(settings, docker_root, identity_of(settings, person.name))
    return tuple(Chosen(each, folder_of(each, around, make=True)) for each in chosen)


def views(settings: Settings, person: Person, docker_root: str) -> tuple[MountView, ...]:
    """What a form shows: everything that is meant for `person`, with the reason of what cannot be had now.

    Looks at the disk: run it in a thread.
    """
    try:
        known = offered(settings, person)
    except BinderError:
        known = offers(settings, person)
    if not known:
        return ()
    who, nobody = fixed(settings), None
    try:
        who = identity_of(settings, person.name)
    except AccountError as error:
        nobody = error
    around = surroundings(settings, docker_root, who)
    return tuple(_view(each, _problem(each, around, nobody, settings.platform)) for each in known)


def folder_of(offer: Offer, around: Surroundings, *, make: bool) -> Folder:
    """The folder that an offer means. Raises `MountError`."""
    if offer.picked:
        folder = look(offer.folder, links=False)
        check_picked(folder, around)
        return folder
    if offer.home:
        folder = look(around.who.home)
        _refuse(_of_another(folder, around.who, "the home of your account"))
    elif not offer.own:
        folder = look(offer.folder)
    else:
        _refuse(judge(look(offer.folder), around.protected, around.writable))
        make_for = (around.who.uid, around.who.gid) if make and offer.makes_own else None
        folder = look_in(offer.folder, offer.own, make_for=make_for)
        if offer.makes_own and around.who.account:
            _refuse(_of_another(folder, around.who, "your own folder"))
    _refuse(judge(folder, around.protected, around.writable))
    return folder


def check_picked(folder: Folder, around: Surroundings) -> None:
    """A person's own choice is held to more than an administrator's. Raises `MountError`."""
    _refuse(judge(folder, around.protected, around.writable, around.roots))
    inside = min(
        (
            os.path.relpath(folder.path, place.path)
            for place in around.roots
            if place.chain[-1] in folder.chain
        ),
        key=len,
        default="",
    )
    hidden = hidden_part(inside)
    if hidden:
        raise MountUnsafe(
            f"{folder.path} is in the hidden folder `{hidden}`, where programs keep keys and settings.",
            "Pick a folder that is not hidden, or move the data out of it.",
        )


def surroundings(settings: Settings, docker_root: str, who: Identity | None = None) -> Surroundings:
    """What is protected and what servers can write in, as it is on this machine now.

    `who` is as whom the servers run for which folders are looked at.
    """
    who = who or fixed(settings)
    protected = [
        *((path, "a folder of the system") for path in _SYSTEM),
        *((path, "Docker's own") for path in (docker_root, *_DOCKERS, *_socket_folders()) if path),
        (str(settings.state_dir), "The Littlest Binder's own"),
        (str(settings.storage_root), "people's files"),
    ]
    if settings.platform == "tljh":
        protected += [(path, "TLJH's own") for path in _TLJHS]
        protected += [(path, "the hub and Docker see different ones") for path in _PRIVATE]
    writable = [
        (mount.source, f"the mount `{mount.id}`", 2 if mount.per_person else 1)
        for mount in settings.mounts
        if mount.access == "read-write"
    ]
    if settings.servers.home_mount == "read-write" and who.home:
        writable += [(home, "the home of somebody's account", 1) for home in _homes_beside(who.home)]
    with suppress(BinderError):
        if settings.platform == "desktop":
            picked = grants.read(settings.grants_path)
            writable += [(each.path, "a folder that you picked", 1) for each in picked if _writes(each)]
    return Surroundings(
        protected=tuple(_places((path, what, 1) for path, what in protected)),
        writable=tuple(_places(writable)),
        roots=tuple(_places((str(path), "allowed", 1) for path in settings.mount_roots)),
        who=who,
    )


def _homes_beside(home: str) -> list[str]:
    """The homes that servers can write in: where one is, the others are, and root's folders are none."""
    found = [home]
    with suppress(OSError), os.scandir(os.path.dirname(os.path.realpath(home))) as entries:
        for each in entries:
            if each.is_dir(follow_symlinks=False) and each.stat(follow_symlinks=False).st_uid != 0:
                found.append(each.path)
    return found


def _of_another(folder: Folder, who: Identity, what: str) -> MountError | None:
    """Why what is to be a person's own folder is not."""
    if folder.owner == who.uid:
        return None
    return MountUnsafe(
        f"{folder.path} is not mounted: as {what} it has to belong to {who.account} ({who.uid}), and it "
        f"belongs to user {folder.owner}.",
        "Let the administrator look whose it is; if it is yours from before, they can give it to you: "
        f"`chown --recursive --no-dereference --from={folder.owner} {who.uid}:{who.gid} {folder.path}`.",
    )


def _places(wanted: Iterable[tuple[str, str, int]]) -> Sequence[Place]:
    """Those that are there: what is not there is in nobody's way."""
    found = []
    for path, what, below in wanted:
        chain = chain_to(path)
        if chain is not None:
            found.append(Place(what, path, chain, below))
    return found


def _socket_folders() -> list[str]:
    """Where Docker's socket is said to be, and where it is: Docker Desktop's usual one is a link."""
    host = os.environ.get("DOCKER_HOST") or f"unix://{_SOCKET}"
    if not host.startswith("unix://"):
        return []
    socket = host.removeprefix("unix://")
    return [os.path.dirname(each) for each in (socket, os.path.realpath(socket))]


def _writes(grant: grants.Grant) -> bool:
    return grant.access == "read-write"


def _refuse(error: MountError | None) -> None:
    if error is not None:
        raise error


def _problem(
    offer: Offer, around: Surroundings, nobody: AccountError | None, platform: str
) -> BinderError | None:
    """Why it cannot be had now; `nobody` is why the person has no account, if they should have one."""
    if nobody is not None:
        # TLJH's are made at the start, with their home.
        made = platform == "tljh" and isinstance(nobody, AccountMissing)
        if not made:
            return nobody
        if offer.home or offer.makes_own:
            return None
    try:
        folder_of(offer, around, make=False)
    except MountMissing as error:
        # The folder around it is there, and theirs is made at the start.
        return None if offer.makes_own and _is_there(offer.folder) else error
    except MountError as error:
        return error
    return None


def _is_there(path: str) -> bool:
    with suppress(MountError):
        return bool(look(path).path)
    return False


def _view(offer: Offer, problem: BinderError | None) -> MountView:
    return MountView(
        id=offer.id,
        title=offer.title,
        description=offer.description,
        target=offer.target,
        link=link_of(offer),
        access="read-only" if offer.read_only else "read-write",
        default=offer.default,
        picked=offer.picked,
        error=ErrorView(**problem.to_dict()) if problem else None,
    )
