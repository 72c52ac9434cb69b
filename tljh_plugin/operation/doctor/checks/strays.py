"""What was left over: containers, folders, networks and processes that nobody works with any more."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from ....build.base import ensure_base
from ....engine import ContainerRow, limits_for
from ....engine.threads import in_thread
from ....errors import BinderError
from ....labels import KIND_LABEL
from ....projects.staging import clear
from ....projects.unfinished import unfinished
from ....source.checkout import abandoned, sweep
from ..findings import CannotCheck, Repair, Verdict, note, ok, warning
from ..registry import check
from ..site import Site, server_of

# A start, a fill, a check of an image may take so long; what is older is left over.
_AT_WORK_S = 3600.0
# Of the doctor's own, which live for some seconds.
_OWN_S = 60.0
_INIT_S = 60.0
_PROC = Path("/proc")


@check(
    "strays",
    "Left over",
    "Containers without a server",
    repairs="removes these containers, which carry this installation's label; servers that the hub "
    "knows stay",
)
async def strays(site: Site) -> Verdict:
    """Our containers, by their label, against the servers that the hub knows; and those of fills and checks
    that nobody waits for any more.
    """
    found = await _strays(site)
    if not found:
        return ok(seen={"containers": len(await site.containers())})
    names = ", ".join(sorted(each.name for each in found))

    async def remove() -> str:
        # Once more: the hub may have come to know one since, and a start that began has a container before.
        before = {each.id for each in found}
        left = [each for each in await _strays(site.anew()) if each.id in before]
        for each in left:
            await site.engine.remove(each.id)
        return f"Removed {', '.join(sorted(each.name for each in left)) or 'nothing: they are in use'}."

    return warning(
        f"{len(found)} containers belong to no server and take memory and disk: {names}.",
        "The service removes them when it and the hub run; at once: `littlest-binder doctor --fix strays`.",
        repair=Repair(f"remove {len(found)} containers of ours", remove),
        seen={"containers": names},
    )


async def _strays(site: Site) -> list[ContainerRow]:
    # Containers first: the hub knows of a start before there is a container.
    rows = await site.containers()
    now = time.time()
    servers = [each for each in rows if each.labels.get(KIND_LABEL) == "server"]
    found = [each for each in rows if each not in servers and _is_old(each, now)]
    if servers:
        found += await _unknown(site, servers)
    return found


async def _unknown(site: Site, servers: Sequence[ContainerRow]) -> list[ContainerRow]:
    """Containers of servers that the hub does not run; a hub that does not answer may run them all.

    Not so a desktop's, which ends them with itself.
    """
    if site.settings.platform == "desktop" and not await in_thread(site.is_up):
        return list(servers)
    try:
        people = await site.people()
    except BinderError as error:
        ended = [each for each in servers if each.state in ("exited", "dead")]
        if ended:
            return ended
        raise CannotCheck(f"The hub, which knows the servers, does not tell: {error.message}") from None
    active = {
        f"{person.name}/{server.name}"
        for person in people
        for server in person.servers.values()
        if server.active
    }
    return [each for each in servers if server_of(each) not in active]


def _is_old(container: ContainerRow, now: float) -> bool:
    limit = _OWN_S if container.labels.get(KIND_LABEL) == "doctor" else _AT_WORK_S
    return container.state in ("exited", "dead") or now - container.created > limit


@check("half-started", "Left over", "Containers that Docker started half-way")
def half_started(site: Site) -> Verdict:
    """Processes `runc:[2:INIT]` that are older than a minute: Docker was killed while it started a
    container.
    """
    if not site.root:
        raise CannotCheck("Only root sees the processes of Docker.")
    found = [pid for pid, age in _inits() if age > _INIT_S]
    if not found:
        return ok()
    shown = " ".join(map(str, found))
    return warning(
        f"{len(found)} containers have been starting for more than a minute (processes {shown}): Docker "
        "hung or was "
        "killed meanwhile. Their names and memory are taken.",
        f"If no container of anybody starts now, run `kill -9 {shown}`, and `systemctl restart docker`.",
        seen={"processes": shown},
    )


def _inits() -> list[tuple[int, float]]:
    """Processes of runc that wait to become a container's, each with its age in seconds; see proc(5)."""
    found = []
    uptime, ticks = time.clock_gettime(time.CLOCK_BOOTTIME), os.sysconf("SC_CLK_TCK")
    for place in _PROC.glob("[0-9]*/stat"):
        try:
            text = place.read_text(errors="replace")
        except OSError:
            continue
        name = text[text.find("(") + 1 : text.rfind(")")]
        if name == "runc:[2:INIT]":
            start = int(text[text.rindex(")") + 2 :].split()[19])
            found.append((int(place.parent.name), uptime - start / ticks))
    return found


@check(
    "staging",
    "Left over",
    "Folders of fills that broke off",
    repairs="removes these folders, which are no finished projects, as their files' own user",
)
async def staging(site: Site) -> Verdict:
    """Staging folders among people's projects, in which a project was to be filled, and nobody fills it."""
    found = await in_thread(lambda: [each for _, each in unfinished(site.settings.storage_root)])
    if not await in_thread(site.service_is_gone):
        # It tidies them itself, and may be filling others.
        now = time.time()
        found = [each for each in found if now - _changed(each.path) > _AT_WORK_S]
    if not found:
        return ok()

    async def remove() -> str:
        base = await ensure_base(site.settings, lambda _: None)
        for each in found:
            await clear(site.engine, base.id, limits_for(site.settings), each)
        return f"Removed {len(found)} folders of fills that broke off."

    return warning(
        f"{len(found)} projects were not filled to the end, and what was copied occupies the disk.",
        "The service removes them when it starts; at once: `littlest-binder doctor --fix staging`.",
        repair=Repair(f"remove {len(found)} staging folders", remove),
        seen={"folders": ", ".join(str(each.path) for each in found[:5])},
    )


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


@check(
    "checkouts",
    "Left over",
    "Files of builds that were killed",
    repairs="removes the folders of checkouts whose lock nobody holds",
)
async def checkouts(site: Site) -> Verdict:
    """Folders of checkouts whose process is gone."""
    root = site.settings.checkout_dir
    if not root.is_dir():
        raise CannotCheck("Nothing was built here yet.")
    found = await in_thread(lambda: abandoned(root))
    if not found:
        return ok()

    async def remove() -> str:
        return f"Removed {len(await in_thread(lambda: sweep(root)))} folders of checkouts."

    return note(
        f"{len(found)} builds were killed and left their files; the next build removes them.",
        "At once: `littlest-binder doctor --fix checkouts`.",
        repair=Repair(f"remove {len(found)} folders of checkouts", remove),
        seen={"folders": len(found)},
    )


@check("networks", "Left over", "Networks of other installations")
async def networks(site: Site) -> Verdict:
    """Docker networks with the label of The Littlest Binder that are not this installation's."""
    await site.docker()
    found = await site.engine.labelled_networks()
    others = sorted(name for name, instance in found.items() if instance != site.instance)
    if not others:
        return ok(seen={"networks": len(found)})
    return note(
        f"There are networks of other installations: {', '.join(others)}. If those are gone, they only "
        "occupy "
        "addresses.",
        f"If nobody uses them: `docker network rm {' '.join(others)}`.",
        seen={"networks": ", ".join(others)},
    )
