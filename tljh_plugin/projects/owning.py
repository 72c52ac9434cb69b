"""Whose a person's folders are: that of as whom their servers run, or they are given to that one first.

`servers.identity` can be changed on an installation that has been running for long. Then a project or
`my-files` still belongs to as whom servers ran before, and is handed over at its first use: by a child that
may do nothing else, and only while nothing has it open. What belongs to anybody else is refused, since nobody
knows whose it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..accounts import Identity, account_of, fixed
from ..engine import ContainerRow
from ..engine.threads import in_thread
from ..errors import AccountError, ProjectFailed, ProjectInUse
from ..settings import Settings
from .child import run_as_owner

log = logging.getLogger("littlest_binder.projects")

_TIMEOUT_S = 3600.0
_ENDED = ("exited", "dead")


@dataclass(frozen=True, slots=True)
class HandedOver:
    """How many files were given away; how many are others', and how many have names elsewhere: both stay."""

    changed: int
    left: int
    linked: int


def owner_of(folder: Path) -> int | None:
    """The number of the user to whom it belongs; None if there is none. Raises `OSError`."""
    try:
        return os.lstat(folder).st_uid
    except FileNotFoundError:
        return None


def former(settings: Settings, person: str, who: Identity) -> list[Identity]:
    """As whom the person's servers may have run with other settings. Asks the system's name services."""
    known = [fixed(settings)]
    if settings.platform != "desktop":
        with suppress(AccountError):
            account = account_of(settings, person)
            if account is not None and account.pw_uid and account.pw_gid:
                known.append(Identity(account.pw_uid, account.pw_gid, account=account.pw_name))
    return [each for each in known if each.uid != who.uid]


def refuse_if_open(folder: Path, containers: Iterable[ContainerRow]) -> None:
    """Raises `ProjectInUse` if a container sees the folder or something in it."""
    for row in containers:
        if row.state not in _ENDED and any(Path(source).is_relative_to(folder) for source in row.mounts):
            raise ProjectInUse(
                f"{folder} still belongs to as whom servers ran before, and {row.name} has it open.",
                "Stop that server; with the next start the files are handed over.",
            )


async def hand_over(folder: Path, old: Identity, who: Identity) -> HandedOver:
    """Give a folder, and what is in it of `old`, to `who`; can be repeated after a crash at any point.

    Raises `ProjectFailed`.
    """
    if os.geteuid() != 0:
        raise ProjectFailed(
            f"{folder} belongs to user {old.uid}, and only root can give it to user {who.uid}.",
            f"As root: `{by_hand(folder, old.uid, who)}`.",
        )
    numbers = map(str, (old.uid, old.gid, who.uid, who.gid))
    said = await run_as_owner(folder, "hand_over.py", _TIMEOUT_S, *numbers, give=True)
    done = HandedOver(said["changed"], said["left"], said["linked"])
    log.info("%s was handed over from user %d to %d: %s files", folder, old.uid, who.uid, done.changed)
    if done.left or done.linked:
        log.warning(
            "%s: %d files in it belong to others, and %d have further names elsewhere; they stay as they are",
            folder,
            done.left,
            done.linked,
        )
    return done


async def gather(settings: Settings, person: str, folder: Path) -> bool:
    """Let all of the person's in a folder belong to the folder's own user; whether that changed anything.

    Raises `ProjectFailed`, `OSError`.
    """
    facts = await in_thread(lambda: os.lstat(folder))
    if os.geteuid() != 0 or facts.st_uid == 0:
        return False
    own = Identity(facts.st_uid, facts.st_gid)
    others = await in_thread(lambda: former(settings, person, own))
    return any([(await hand_over(folder, each, own)).changed for each in others])


async def choose_former(settings: Settings, person: str, folder: Path, who: Identity) -> Identity | None:
    """From whom a folder is to be handed over; None if it is the person's already, or is not there.

    Raises `ProjectFailed` if it is a stranger's, `OSError`.
    """
    owner = await in_thread(lambda: owner_of(folder))
    if owner is None or owner == who.uid:
        return None
    known = await in_thread(lambda: former(settings, person, who))
    old = next((each for each in known if each.uid == owner), None)
    if old is None:
        raise ProjectFailed(
            f"The folder {folder} belongs to user {owner}, but servers of {person} run as user {who.uid}.",
            "If the number was changed on purpose, give the files to that user: "
            f"`{by_hand(folder, owner, who)}`.",
        )
    return old


def by_hand(folder: Path, old: int, who: Identity) -> str:
    """The command with which an administrator does the same; it follows no link either."""
    return f"chown --recursive --no-dereference --from={old} {who.uid}:{who.gid} {folder}"
