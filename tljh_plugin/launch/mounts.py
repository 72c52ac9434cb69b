"""Which folders of this machine a person may have in a server, and where they are there.

Comes in: the administrator's catalogue, the folders that the person of a desktop has picked, the person.
Goes out: `Offer`s, or a refusal with its reason. Everything here is pure; `host_folders` looks at the disk.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..access import is_meant_for
from ..errors import MountError, MountTargetTaken, MountUnknown, MountUnsafe
from ..settings import MountSettings, Settings
from ..wire import Person
from .grants import Grant
from .host_folders import Folder, Identity

# Where a person's own folder is, which is the same in all of their servers.
MY_FILES, MY_FILES_TARGET = "my-files", "/my-files"

# Where something of the image, or of the system in it, would be hidden by a mount.
_HIDING = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/proc", "/root", "/run",
    "/sbin", "/srv/conda", "/srv/julia", "/srv/npm", "/srv/repo", "/srv/venv", "/sys", "/tmp", "/usr", "/var",  # noqa: S108  # compared, not used
)  # fmt: skip
# These hold people's and the image's folders side by side: a mount may be below them, not on them.
_SHARED = ("/", "/home", "/srv")
_PLAIN_NAME = re.compile(r"[a-z0-9]+([._@+-][a-z0-9]+)*")
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Offer:
    """A folder that a person may have. `folder` is that of everybody, `own` the name of the person's in it.

    `picked`: the person chose it on a desktop, so nothing may lead out of the allowed roots. `home`: it is
    that of the person's own account, and `folder` is empty, since only the system knows where it is.
    """

    id: str
    title: str
    description: str
    folder: str
    target: str
    read_only: bool
    default: bool = False
    own: str = ""
    picked: bool = False
    home: bool = False

    @property
    def makes_own(self) -> bool:
        """Whether a missing folder of the person is made."""
        return bool(self.own) and not self.read_only


def folder_name(person: str) -> str:
    """The name of a person's folder in a `per_person` mount, different for different people.

    Plain names (lowercase letters and digits, with single `.`, `_`, `@`, `+`, `-` between) stay as they are;
    others get what is readable of them, two hyphens, which no plain name has, and 16 hex of their SHA-256.
    """
    if _PLAIN_NAME.fullmatch(person) and len(person) <= _LONGEST_NAME:
        return person
    readable = re.sub(r"[^a-z0-9]+", "-", person.lower()).strip("-")[:40].strip("-")
    return f"{readable or 'x'}--{hashlib.sha256(person.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def offers(settings: Settings, person: Person, grants: Sequence[Grant] = ()) -> tuple[Offer, ...]:
    """What is meant for `person`: the catalogue in its order, their own home, then what they picked."""
    meant = (each for each in settings.mounts if is_meant_for(person, each.people, each.groups))
    picked = grants if settings.platform == "desktop" and person.name == settings.owner else ()
    home = () if settings.servers.home_mount == "off" else (_of_home(settings),)
    return (*(_of_catalogue(each, person) for each in meant), *home, *map(_of_grant, picked))


def choose(ids: Iterable[str], offered: Sequence[Offer]) -> tuple[Offer, ...]:
    """The offers of these ids.

    Raises `MountUnknown`, with the same words whether an id is that of somebody else's mount or of none.
    """
    known = {each.id: each for each in offered}
    chosen = []
    for each in ids:
        if each not in known:
            theirs = ", ".join(f"`{name}`" for name in known) or "none"
            raise MountUnknown(
                f"There is no mount `{each:.60}` for you.",
                f"Start the server without it, or ask the administrator. Mounts that you may use: {theirs}.",
            )
        chosen.append(known[each])
    return tuple(chosen)


def check_targets(
    chosen: Sequence[Offer], home: str = "", workdir: str = "", *, my_files: bool = False
) -> None:
    """Whether all can be where they are to be. Raises `MountTargetTaken`.

    `home` and `workdir` are the image's; empty while it is not known yet.
    """
    taken = [(place, what) for place, what in ((home, "your home"), (workdir, "the repository")) if place]
    if my_files:
        taken.append((MY_FILES_TARGET, "your own folder `my-files`"))
    for each in chosen:
        reason = _hides(each.target)
        for place, what in taken:
            if not reason and _overlap(each.target, place):
                reason = f"{what} is at {place}"
        if reason:
            raise MountTargetTaken(
                f"The mount `{each.id}` cannot be at {each.target}: {reason}.",
                "Start the server without one of them; the administrator can give the mount another "
                "`target`, such as `/data/` and its id.",
            )
        taken.append((each.target, f"the mount `{each.id}`"))


def _hides(target: str) -> str:
    if target in _SHARED:
        return "it would hide what is there in the server"
    for place in _HIDING:
        if target == place or target.startswith(f"{place}/"):
            return f"{place} belongs to the system of the server"
    return ""


def _overlap(one: str, other: str) -> bool:
    first, second = PurePosixPath(one), PurePosixPath(other)
    return first == second or first in second.parents or second in first.parents


def _of_catalogue(mount: MountSettings, person: Person) -> Offer:
    return Offer(
        id=mount.id,
        title=mount.shown,
        description=mount.description,
        folder=mount.source,
        target=mount.place,
        read_only=mount.access == "read-only",
        default=mount.default,
        own=folder_name(person.name) if mount.per_person else "",
    )


def _of_home(settings: Settings) -> Offer:
    return Offer(
        id=settings.home_mount_id,
        title="My home on this machine",
        description="The files of your own account on this machine",
        folder="",
        target=f"/{settings.home_mount_id}",
        read_only=settings.servers.home_mount == "read-only",
        home=True,
    )


def _of_grant(grant: Grant) -> Offer:
    return Offer(
        id=grant.id,
        title=PurePosixPath(grant.path).name,
        description=grant.path,
        folder=grant.path,
        target=f"/data/{link_name(PurePosixPath(grant.path).name)}-{grant.id.rpartition('-')[2][:4]}",
        read_only=grant.access == "read-only",
        picked=True,
    )


def link_of(offer: Offer) -> str:
    """The name of its link in the home."""
    return link_name(offer.title) if offer.picked else offer.id


def link_name(name: str) -> str:
    """What is left of a folder's name for the name of a link: a shell and a page take it as it is."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "folder"


# -- folders that are never mounted -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of this machine that matters to others. `chain` is as in `Folder`, itself last.

    `below` tells how far below it nothing is mounted that others could swap: 1 for a folder in which a server
    can write, 2 for one in whose folders servers can.
    """

    what: str
    path: str
    chain: tuple[Identity, ...]
    below: int = 1


def judge(
    folder: Folder,
    protected: Sequence[Place],
    writable: Sequence[Place],
    roots: Sequence[Place] | None = None,
) -> MountError | None:
    """Why a folder that is there is not mounted; None if it may be.

    Compared is what the folders are, not how they are called: one folder can have several names. `protected`
    are those of which nothing is mounted, nor anything that contains them; below `writable` ones a server
    could swap a folder for a link; `roots`, if any, are where picked folders may be.
    """
    for place in protected:
        if place.chain[-1] in folder.chain:
            return _never(folder, f"it is, or is in, {place.path} ({place.what})")
        if folder.chain[-1] in place.chain:
            return _never(folder, f"it contains {place.path} ({place.what})")
    if folder.pseudo:
        return _never(folder, f"it is a view of the kernel ({folder.file_system})")
    for place in writable:
        if place.chain[-1] in folder.chain[: -place.below]:
            return MountUnsafe(
                f"{folder.path} is not mounted: it is in {place.path}, in which servers can write "
                f"({place.what}), so that one could swap it for a link to anywhere.",
                "Use that mount itself, or let the administrator move the folder out of it.",
            )
    if roots is not None and not any(place.chain[-1] in folder.chain[:-1] for place in roots):
        shown = ", ".join(place.path for place in roots) or "none"
        return MountUnsafe(
            f"{folder.path} is not below the folders from which you may pick (`binder.desktop.mount_roots`: "
            f"{shown}).",
            "Pick another folder, or add its parent to `binder.desktop.mount_roots`.",
        )
    return None


def hidden_part(path: str) -> str:
    """The first part of a path whose name begins with a dot; empty if there is none."""
    return next((part for part in PurePosixPath(path).parts if part.startswith(".")), "")


def _never(folder: Folder, why: str) -> MountUnsafe:
    return MountUnsafe(
        f"{folder.path} is never mounted: {why}.",
        "Put the data into a folder of its own, such as `/srv/data`, and mount that.",
    )
