"""The state folder: who may read it, whether the store is whole, and whether there is a backup of it."""

from __future__ import annotations

import grp
import os
import pwd
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from .... import handover
from ....amounts import shown_bytes
from ....engine.threads import in_thread
from ....installation import LAST_BACKUP
from ....projects.root import ROOT_MARKER
from ....store.examination import examine
from ..findings import CannotCheck, Repair, Verdict, note, ok, problem, warning
from ..registry import check
from ..site import Site

_PRIVATE = 0o077  # what others must not have of a secret
_WRITING = 0o022
_LARGE_WAL = 256 * 1024**2
_OLD_DAYS = 30.0
_DRAFT = re.compile(r"\.(instance|secret|service\.json|storage\.json)\.[0-9a-f]{8}")
_DRAFT_S = 3600.0
_BACKUP = re.compile(r"littlest-binder-.*\.tar(\.[a-z0-9]+)?")
_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)T(\d\d):?-?(\d\d):?-?(\d\d)")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A path, and the rights that nobody but its owner may have on it."""

    path: Path
    forbidden: int
    what: str


@check(
    "permissions",
    "State",
    "Who may read and write the state",
    repairs="takes the rights of others from the state folder and its secrets; owners stay as they are",
)
def permissions(site: Site) -> list[Verdict]:
    """The owner and the mode of the state folder, of secrets, sockets, the store, the hub's database, the
    file of credentials and the folder of people's files.
    """
    if not site.state.exists():
        raise CannotCheck(f"There is no state folder {site.state} yet.")
    owner = site.state.stat().st_uid
    if not site.root and owner != os.geteuid():
        raise CannotCheck(f"{site.state} is another account's.")
    wrong = [verdict for each in _wanted(site) if (verdict := _judge(each, owner)) is not None]
    return wrong or [ok(seen={"folder": site.state, "owner": owner})]


def _wanted(site: Site) -> Iterator[_Wanted]:
    state, settings = site.state, site.settings
    yield _Wanted(state, _WRITING, "the state folder")
    yield _Wanted(state / "secret", _PRIVATE, "the secret that vouches for images and signs people in")
    yield _Wanted(state / "instance", _WRITING, "the id of the installation")
    yield _Wanted(settings.run_dir, _PRIVATE, "the folder of sockets and tokens")
    yield _Wanted(handover.path(state), _PRIVATE, "the tokens of service and commands")
    yield _Wanted(settings.service_socket, _PRIVATE, "the service's socket")
    yield _Wanted(settings.log_dir, _PRIVATE, "the logs")
    yield _Wanted(settings.checkout_dir, _WRITING, "the files of builds")
    for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
        yield _Wanted(state / name, _PRIVATE, "the store")
    yield _Wanted(state / "grants.json", _WRITING, "the folders that were picked")
    yield _Wanted(state / "config.yaml", _WRITING, "the settings")
    yield _Wanted(state / "hub", _PRIVATE, "the hub's folder")
    yield _Wanted(state / "hub" / "cookie_secret", _PRIVATE, "the secret of the hub's cookies")
    yield _Wanted(state / "backups", _PRIVATE, "backups, in which the secrets are")
    if settings.storage_root.is_dir():
        yield _Wanted(settings.storage_root, _WRITING, "people's files")
        yield _Wanted(settings.storage_root / ROOT_MARKER, _WRITING, "the marker of people's files")
    if settings.source.credentials_file:
        yield _Wanted(Path(settings.source.credentials_file), _PRIVATE, "credentials of git hosts")


def _judge(wanted: _Wanted, owner: int) -> Verdict | None:
    """None if it is as it should be, or not there; links are not followed."""
    try:
        facts = wanted.path.lstat()
    except FileNotFoundError:
        return None
    path, mode, forbidden = wanted.path, stat.S_IMODE(facts.st_mode), wanted.forbidden
    if forbidden == _WRITING and _is_private(facts.st_uid, facts.st_gid):
        forbidden = _WRITING & 0o007  # where the umask is 002, as on Ubuntu
    if stat.S_ISLNK(facts.st_mode):
        return None
    seen = {"mode": f"{mode:04o}", "owner": str(facts.st_uid)}
    if facts.st_uid not in (0, owner):
        return problem(
            f"{path} ({wanted.what}) belongs to user {facts.st_uid}, not to {owner}.",
            f"If you know how that came, run `chown {owner} {path}`.",
            about=str(path),
            seen=seen,
        )
    if not mode & forbidden:
        return None
    narrow = mode & ~forbidden
    verb = "read or change" if wanted.forbidden == _PRIVATE else "change"
    return problem(
        f"Others than its owner may {verb} {path} ({wanted.what}; mode {mode:04o}).",
        f"Run `chmod {narrow:04o} {path}`"
        + (", and consider what stands in it as known to others." if wanted.forbidden == _PRIVATE else "."),
        about=str(path),
        repair=Repair(f"set the mode of {path} to {narrow:04o}", lambda: _narrow(path, narrow, facts)),
        seen=seen,
    )


def _is_private(uid: int, gid: int) -> bool:
    """Whether a group has no member but this account, whose own it is."""
    try:
        account, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    others = (each for each in pwd.getpwall() if each.pw_uid != uid and each.pw_gid == gid)
    return account.pw_gid == gid and set(group.gr_mem) <= {account.pw_name} and not any(others)


async def _narrow(path: Path, mode: int, seen: os.stat_result) -> str:
    """By a descriptor, and only of what was looked at, lest somebody puts a link into its place."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        now = os.fstat(descriptor)
        if (now.st_dev, now.st_ino) != (seen.st_dev, seen.st_ino):
            raise OSError(f"{path} is another file than the one that was looked at")
        # fchmod(2) takes no O_PATH descriptor; its name in /proc leads to the very file.
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)
    return f"The mode of {path} is {mode:04o}, it was {stat.S_IMODE(seen.st_mode):04o}."


@check(
    "stale-files",
    "State",
    "Sockets and drafts of processes that ended",
    repairs="removes sockets at which nobody listens and drafts that are older than an hour",
)
async def stale_files(site: Site) -> list[Verdict]:
    """The service's socket without a service, and drafts of files that were not finished."""
    if not site.settings.run_dir.exists():
        raise CannotCheck(f"There is no folder {site.settings.run_dir} yet.")
    found = await in_thread(lambda: list(_stale(site)))
    return [
        warning(
            f"{path} is left of {what}.",
            "It is in nobody's way and goes with `littlest-binder doctor --fix stale-files`.",
            about=str(path),
            repair=Repair(f"remove {path}", lambda path=path: _remove(site, path)),  # type: ignore[misc]
        )
        for path, what in found
    ] or [ok()]


def _stale(site: Site) -> Iterator[tuple[Path, str]]:
    place = site.settings.service_socket
    if _is_dead(place) and site.service_is_gone():
        yield place, "a service that was killed"
    for folder in (site.state, site.settings.run_dir, site.settings.storage_root):
        for path in sorted(folder.glob(".*")) if folder.is_dir() else ():
            with suppress(OSError):
                if _DRAFT.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _DRAFT_S:
                    yield path, "a process that was killed while it wrote"


def _is_dead(place: Path) -> bool:
    """Whether it is a socket at which nobody listens."""
    try:
        if not stat.S_ISSOCK(place.lstat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(place))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


async def _remove(site: Site, path: Path) -> str:
    """Only what is still as it was found."""

    def remove() -> str:
        if not any(each == path for each, _ in _stale(site)):
            return f"{path} is in use again, or gone."
        path.unlink(missing_ok=True)
        return f"{path} was removed."

    return await in_thread(remove)


@check("store", "State", "The store")
def store(site: Site) -> Verdict:
    """SQLite's `quick_check` of the store, its schema, and what is still to be written back (WAL)."""
    path = site.settings.store_path
    try:
        facts = examine(path)
    except FileNotFoundError:
        return note("There is none: the service makes it when it starts first.", seen={"path": path})
    seen = {
        "path": str(path),
        "size": shown_bytes(facts.bytes),
        "wal": shown_bytes(facts.wal_bytes),
        "projects": str(facts.projects),
    }
    if facts.damage:
        return problem(
            f"The store is damaged: {facts.damage}. The service does not start with it, or fails at times.",
            "Stop the service and restore a backup, or move the file away: images and people's files are "
            "not in "
            "it, only the history is.",
            seen=seen,
        )
    if facts.newer:
        return problem(
            f"The store was written by a newer version (it has the migration {facts.newer[-1]}): the "
            "service does "
            "not start.",
            "Install that version again, or restore a backup made before.",
            seen=seen,
        )
    if facts.pending:
        return note(
            f"The store is of an older version; the service brings it up to date when it starts "
            f"({facts.pending[0]}"
            f"{' and more' if len(facts.pending) > 1 else ''}).",
            "Restart the service.",
            seen=seen,
        )
    if facts.wal_bytes > _LARGE_WAL:
        return warning(
            f"{shown_bytes(facts.wal_bytes)} of the store are not written back: somebody holds it open for "
            "reading.",
            "Close what reads it (`fuser -v` on the file), or restart the service.",
            seen=seen,
        )
    return ok(seen=seen)


@check("backups", "State", "Backups")
def backups(site: Site) -> Verdict:
    """The newest backup, in the folder `backups` of the state folder or noted when it was made: there, and of
    the last 30 days.
    """
    folder = site.state / "backups"
    with suppress(OSError):
        noted = (site.state / LAST_BACKUP).stat().st_mtime
        if (days := (time.time() - noted) / 86400) <= _OLD_DAYS:
            return ok(seen={"age_days": f"{days:.1f}"})
    try:
        found = sorted((_made(each), each) for each in folder.iterdir() if _BACKUP.fullmatch(each.name))
    except FileNotFoundError:
        found = []
    if not found:
        return warning(
            f"No backup was made within {_OLD_DAYS:.0f} days, and there is none in {folder}.",
            "Run `littlest-binder backup`, once a month or by a timer, and copy it to another machine.",
            seen={"folder": folder},
        )
    newest, path = found[-1]
    days = (time.time() - newest) / 86400
    seen = {"newest": path.name, "age_days": f"{days:.1f}", "size": shown_bytes(path.stat().st_size)}
    if days > _OLD_DAYS:
        return warning(
            f"The last backup is {days:.0f} days old.",
            "Run `littlest-binder backup`, and copy it to another machine.",
            seen=seen,
        )
    return ok(seen=seen)


def _made(path: Path) -> float:
    """When it was made, by its name, else by its file: seconds since 1970."""
    found = _TIME.search(path.name)
    if found:
        with suppress(ValueError):
            moment = datetime(*map(int, found.groups()), tzinfo=timezone.utc)  # type: ignore[misc,arg-type]
            return moment.timestamp()
    return path.stat().st_mtime
