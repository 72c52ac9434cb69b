"""As whom a person's servers run on this machine: numbers, looked up anew at each start.

Comes in: the settings, a person's name. Goes out: an `Identity`. With `servers.identity: fixed` it is the
same for everybody; with `unix` it is that of the person's own account, without whatever would give a
container more than files: root, system accounts and the groups of the system never get that far. Docker is
only ever told numbers, since an image chooses what a name means.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import AccountMissing, AccountRefused
from .settings import Settings

log = logging.getLogger("littlest_binder.accounts")

LOGIN_DEFS = Path("/etc/login.defs")

# Where /etc/login.defs says nothing, as in its own manual.
_FIRST = 1000
# systemd hands these out to services that have no account (systemd.io/UIDS-GIDS); then come `nobody`
# and the number that means none.
_NOBODYS = range(61184, 65536)
_NO_NUMBER = 2**32 - 1
# The one group of the system that only says "a person": some systems make it everybody's own.
_PLAIN_SYSTEM_GROUPS = ("users",)
# Rights over this machine, wherever an administrator has put their numbers.
DANGEROUS_GROUPS = frozenset(
    ("root", "adm", "admin", "disk", "docker", "incus", "incus-admin", "jupyterhub-admins", "kmem", "kvm",
     "libvirt", "lxd", "microk8s", "nogroup", "podman", "shadow", "staff", "sudo", "systemd-journal", "video",
     "wheel")
)  # fmt: skip
# `useradd` gives up where another one has /etc/passwd, as when a course begins.
_one_at_a_time = threading.Lock()
TLJH_PEOPLE, TLJH_ADMINISTRATORS = "jupyterhub-users", "jupyterhub-admins"


@dataclass(frozen=True, slots=True)
class Identity:
    """Numeric user, primary group and further groups. `account` and `home` are empty if it is nobody's own.

    `withheld` are groups of the account that servers do not get, as `name (number)`.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    account: str = ""
    home: str = ""
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A group of this machine; its name is empty if it has none."""

    gid: int
    name: str


def fixed(settings: Settings) -> Identity:
    """As whom all servers run without accounts, and images are built and tried in any case."""
    return Identity(settings.server_uid, settings.server_gid, settings.servers.groups)


def identity_of(settings: Settings, person: str) -> Identity:
    """As whom this person's servers run. Asks the system's name services: run it in a thread.

    Raises `AccountMissing`, `AccountRefused`.
    """
    if settings.servers.identity == "fixed":
        return fixed(settings)
    found = account_of(settings, person)
    if found is None:
        name = account_name(settings, person)
        raise AccountMissing(
            f"There is no account `{name}` on this machine, as which servers of {person} would run.",
            "Start a server: the account is made then."
            if settings.platform == "tljh"
            else f"Ask the administrator to make it (`useradd --create-home {name}`), or to correct "
            "`binder.servers.account`.",
        )
    return _checked(found, settings.servers.groups)


def ensure_identity(settings: Settings, person: str, *, admin: bool = False) -> Identity:
    """As `identity_of`; on TLJH an account that is not there is made as TLJH makes it.

    Its groups are brought up to date there too, as TLJH does at each start.
    """
    if settings.servers.identity == "unix" and settings.platform == "tljh":
        name = account_name(settings, person)
        with _one_at_a_time:
            _ensure_in_tljh(name, person, admin=admin)
    return identity_of(settings, person)


def account_of(settings: Settings, person: str) -> pwd.struct_passwd | None:
    """The person's account, if there is one, whoever servers run as."""
    try:
        return pwd.getpwnam(account_name(settings, person))
    except (KeyError, ValueError, UnicodeError):  # the latter two: what no account can be called
        return None


def account_name(settings: Settings, person: str) -> str:
    """What the person's account is called, whether it is there or not."""
    if settings.platform == "tljh":
        try:
            from tljh.normalize import generate_system_username
        except ImportError as error:
            raise AccountMissing(
                f"Only TLJH says what the account of {person} is called, and it is not here: {error}.",
                "Let hub and service run in TLJH's own environment.",
            ) from error
        return str(generate_system_username(f"jupyter-{person}"))
    # Not `str.format`: a person's name is anything that the hub lets in.
    return settings.servers.account_pattern.replace("{name}", person)


# -- what a container may be --------------------------------------------------------------------------


def _checked(found: pwd.struct_passwd, more: Iterable[int]) -> Identity:
    """What servers get of an account. Raises `AccountRefused`."""
    first = first_numbers()
    problem = judge(found.pw_uid, group_of(found.pw_gid), first)
    if problem:
        raise AccountRefused(
            f"No server runs as the account `{found.pw_name}`: {problem}.",
            "Let the person's name in the hub be that of an ordinary account, or correct "
            "`binder.servers.account`.",
        )
    known = [group_of(gid) for gid in os.getgrouplist(found.pw_name, found.pw_gid)]
    given, withheld = sort_out((each for each in known if each.gid != found.pw_gid), first)
    groups = sorted({*(each.gid for each in given), *more} - {found.pw_gid})
    return Identity(
        uid=found.pw_uid,
        gid=found.pw_gid,
        groups=tuple(groups),
        account=found.pw_name,
        home=found.pw_dir,
        withheld=tuple(f"{each.name or 'unnamed'} ({each.gid})" for each in withheld),
    )


def judge(uid: int, group: Group, first: Mapping[str, int]) -> str:
    """Why no server runs with this user and primary group; empty if one may. Pure."""
    if uid == 0:
        return "it is root"
    if uid < first["UID_MIN"]:
        return f"it is a system account (user {uid}, people begin at {first['UID_MIN']})"
    if uid in _NOBODYS or uid >= _NO_NUMBER:
        return f"user {uid} is nobody's"
    if _is_of_the_system(group, first):
        return f"its own group is {group.name or 'unnamed'} ({group.gid}), one of the system's"
    return ""


def sort_out(groups: Iterable[Group], first: Mapping[str, int]) -> tuple[list[Group], list[Group]]:
    """Groups that a container may have, and those that it does not get. Pure."""
    given: list[Group] = []
    withheld: list[Group] = []
    for each in groups:
        (withheld if _is_of_the_system(each, first) else given).append(each)
    return given, withheld


def _is_of_the_system(group: Group, first: Mapping[str, int]) -> bool:
    if group.gid == 0 or group.name in DANGEROUS_GROUPS or group.gid in _NOBODYS or group.gid >= _NO_NUMBER:
        return True
    return group.gid < first["GID_MIN"] and group.name not in _PLAIN_SYSTEM_GROUPS


def group_of(gid: int) -> Group:
    """A group with its name, if it has one."""
    try:
        return Group(gid, grp.getgrgid(gid).gr_name)
    except KeyError:
        return Group(gid, "")


def first_numbers(path: Path = LOGIN_DEFS) -> dict[str, int]:
    """The first numbers of people and of their groups: `UID_MIN` and `GID_MIN`, see login.defs(5)."""
    found = {"UID_MIN": _FIRST, "GID_MIN": _FIRST}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return found
    for name, number in re.findall(r"^[ \t]*(UID_MIN|GID_MIN)[ \t]+(\d+)[ \t]*$", text, re.MULTILINE):
        found[name] = max(1, int(number))
    return found


# -- TLJH's accounts ----------------------------------------------------------------------------------


def _ensure_in_tljh(name: str, person: str, *, admin: bool) -> None:
    """What TLJH's own spawner does before a start (`tljh/user_creating_spawner.py`), but for one thing.

    An administrator's account is not given `sudo` for the sake of a container; it is taken away from who is
    none any more.
    """
    from tljh import user
    from tljh.configurer import load_config

    try:
        user.ensure_user(name)
    except (OSError, subprocess.SubprocessError) as error:
        raise AccountMissing(
            f"The account `{name}`, as which servers of {person} would run, cannot be made: {error}.",
            f"Look at the hub's log, and try `useradd --create-home {name}` as root.",
        ) from error
    extra = (load_config().get("users") or {}).get("extra_user_groups") or {}
    wanted = [TLJH_PEOPLE, *(group for group, people in extra.items() if person in (people or ()))]
    for group in wanted:
        _in_tljh(group, lambda group=group: user.ensure_user_group(name, group))  # type: ignore[misc]
    if not admin:
        _in_tljh(TLJH_ADMINISTRATORS, lambda: user.remove_user_group(name, TLJH_ADMINISTRATORS))


def _in_tljh(group: str, change: Callable[[], None]) -> None:
    """A group that is not there, or that another service keeps, is no reason not to start."""
    try:
        change()
    except (KeyError, OSError, subprocess.SubprocessError) as error:
        log.warning("The group %s was left as it is: %s", group, error)
