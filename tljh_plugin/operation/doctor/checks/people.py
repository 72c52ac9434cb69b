"""What people get in their servers: mounts, and how long a server runs without them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ....engine.threads import in_thread
from ....errors import EngineError, MountError
from ....launch.host_folders import look
from ....launch.mounts import judge
from ....launch.resolving import Surroundings, surroundings
from ....settings import MountSettings, Settings
from ..findings import CannotCheck, Verdict, ok, problem, warning
from ..registry import check
from ..site import Site

_FSTAB = Path("/etc/fstab")
_MOUNTS = Path("/proc/self/mountinfo")
_PROC = Path("/proc")
_ACL = "system.posix_acl_access"
_CULLER = "jupyterhub_idle_culler"


@check("mounts", "People", "Mounts of the catalogue")
async def mounts(site: Site) -> list[Verdict]:
    """Each folder of `binder.mounts`: there, its disk mounted if /etc/fstab says that it is one, not a
    folder that is never mounted, and readable (or writable) for the servers' user and groups.
    """
    catalogue = site.settings.mounts
    if not catalogue:
        return [ok("There is none.")]
    root = ""
    with suppress(EngineError):  # Docker's folder is then one that is known
        root = (await site.docker()).root_dir
    return await in_thread(
        lambda: [_mount(site.settings, each, surroundings(site.settings, root)) for each in catalogue]
    )


def _mount(settings: Settings, mount: MountSettings, around: Surroundings) -> Verdict:
    seen = {"source": mount.source, "access": mount.access}
    away = _not_mounted(mount.source)
    if away:
        return problem(
            f"The mount `{mount.id}` is on {away}, which /etc/fstab names as a disk of its own and which is "
            "not "
            "mounted: people see an empty folder, or what they write lands on the wrong disk.",
            f"Run `mount {away}` and look why it was not mounted at the start.",
            about=mount.id,
            seen=seen,
        )
    try:
        folder = look(mount.source)
        refusal = judge(folder, around.protected, around.writable)
    except MountError as error:
        refusal = error
    if refusal is not None:
        return problem(
            f"The mount `{mount.id}` cannot be used: {refusal.message}",
            refusal.next_step,
            about=mount.id,
            seen=seen,
        )
    lacking = _lacking(settings, mount)
    if lacking:
        user = f"{settings.server_uid}:{settings.server_gid}"
        return warning(
            f"Servers run as {user} and may not {lacking} {mount.source}: people who have the mount "
            f"`{mount.id}` "
            "get an error there.",
            "Give that right to the servers' user or group (`setfacl -m u:"
            f"{settings.server_uid}:{'rwX' if mount.access == 'read-write' else 'rX'} {mount.source}`), or "
            "add the "
            "folder's group to `binder.servers.groups`.",
            about=mount.id,
            seen=seen,
        )
    return ok(about=mount.id, seen=seen)


def _not_mounted(source: str) -> str:
    """The place in fstab(5) on which a folder lies and where nothing is mounted; empty if there is none."""
    try:
        lines = [line.split() for line in _FSTAB.read_text(errors="replace").splitlines()]
        mounted = {_plain(line.split()[4]) for line in _MOUNTS.read_text(errors="replace").splitlines()}
    except OSError:
        return ""
    disks = {_plain(words[1]) for words in lines if len(words) > 2 and not words[0].startswith("#")}
    above = [str(each) for each in (Path(source), *Path(source).parents) if str(each) in disks - {"/"}]
    return next((each for each in above if each not in mounted), "")


def _plain(text: str) -> str:
    """fstab(5) and the kernel write blanks as octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _lacking(settings: Settings, mount: MountSettings) -> str:
    """The right on the folder that the servers' user lacks, by its mode; empty if none, if an ACL decides, or
    if servers run as people's accounts: then that is each one's own affair.
    """
    if settings.servers.identity == "unix":
        return ""
    try:
        facts = os.stat(mount.source)
        if _ACL in os.listxattr(mount.source):
            return ""
    except OSError:
        return ""
    groups = {settings.server_gid, *settings.servers.groups}
    if facts.st_uid == settings.server_uid:
        bits = facts.st_mode >> 6
    elif facts.st_gid in groups:
        bits = facts.st_mode >> 3
    else:
        bits = facts.st_mode
    # A folder with folders of people need only be entered, and Docker enters it, not the server.
    needed = [] if mount.per_person else [(4, "read"), (1, "enter")]
    if mount.access == "read-write" and not mount.per_person:
        needed.append((2, "write in"))
    return next((word for bit, word in needed if not bits & bit), "")


@check("culling", "People", "Stopping of idle servers")
async def culling(site: Site) -> Verdict:
    """Our idle times and lifetimes against JupyterHub's idle culler (TLJH runs one), if one runs on this
    machine.
    """
    ours = _longest(site.settings)
    found = await in_thread(lambda: list(_cullers()))
    seen = {"ours": _said(ours), "culler": "; ".join(_said(each) for each in found) or "none"}
    if not site.root and site.settings.platform != "desktop":
        raise CannotCheck("Only root sees the hub's processes.")
    for idle, age in found:
        if ours[0] is not None and idle is not None and idle < ours[0]:
            wish = "never stops them for that" if ours[0] == _NEVER else f"gives them {ours[0]:.0f} s"
            return warning(
                f"JupyterHub's idle culler stops servers that were idle for {idle:.0f} s, also those to "
                "which "
                f"`binder` {wish}; a kernel that computes does not hold it up.",
                "Let one of both decide: `sudo tljh-config set services.cull.enabled false`, and "
                "`tljh-config reload`.",
                seen=seen,
            )
        if age and ours[1] is not None and age < ours[1]:
            return warning(
                f"JupyterHub's idle culler ends servers after {age:.0f} s, before the lifetime of `binder`.",
                "`sudo tljh-config set services.cull.max_age 0`, and `tljh-config reload`.",
                seen=seen,
            )
    return ok(seen=seen)


_NEVER = float("inf")


def _longest(settings: Settings) -> tuple[float | None, float | None]:
    """The longest idle time and lifetime that somebody is given; None where nobody set any."""
    idle = [settings.servers.idle_s, *(each.idle_s for each in settings.profiles if each.idle_s is not None)]
    life = [
        settings.servers.lifetime_s,
        *(each.lifetime_s for each in settings.profiles if each.lifetime_s is not None),
    ]
    return _most(idle), _most(life)


def _most(seconds: Iterable[float]) -> float | None:
    known = list(seconds)
    if not any(known):
        return None
    return _NEVER if 0 in known else max(known)


def _cullers() -> Iterable[tuple[float | None, float | None]]:
    """Idle time and greatest age of each idle culler that runs here, by its arguments."""
    for place in _PROC.glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(_CULLER in word or word.endswith("cull-idle") for word in words[:4]):
            yield _option(words, "--timeout", 600.0), _option(words, "--max-age", 0.0)


def _option(words: list[str], name: str, default: float) -> float:
    for number, word in enumerate(words):
        value = word.partition("=")[2] if word.startswith(f"{name}=") else ""
        if word == name and number + 1 < len(words):
            value = words[number + 1]
        try:
            return float(value)
        except ValueError:
            continue
    return default


def _said(times: tuple[float | None, float | None]) -> str:
    idle, age = (
        "not set" if each in (None, 0) else "never" if each == _NEVER else f"{each:.0f} s" for each in times
    )
    return f"idle {idle}, lifetime {age}"
