"""What was left when something was killed, or Docker was gone: looked for at the start and every ten seconds.

Builds and projects know what they may have left. Here is what only the hub can tell: whether a start goes on
for which an image is leased, and whether a container belongs to a server that the hub runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..build.base import ensure_base
from ..build.queue import Queue
from ..cache.leases import Leases
from ..cache.lost import Lost
from ..cache.mirrors import Mirrors
from ..cache.moves import Moves
from ..engine import ContainerRow, Engine
from ..errors import BinderError
from ..hub_api import HubApi, HubUser
from ..labels import KIND_LABEL, PERSON_LABEL, SERVER_LABEL
from ..projects import Projects
from ..settings import Settings
from ..store import LeaseRow, Store

log = logging.getLogger("littlest_binder.tidying")

# A look is two lists of containers and some small queries; people wait for what it finds.
PERIOD_S = 10.0
_SECOND_LOOK_S = 5.0
# Until the hub is asked again for servers that it knew, in seconds. It reads everybody from its database for
# an answer and logs the question; what is new, and each start, is asked for at the next look.
KNOWN_S = 60.0


@dataclass(frozen=True)
class Told:
    """What the hub says: `person/server` of those that run, start or stop; `pending`: without the first."""

    active: frozenset[str]
    pending: frozenset[str]


def told(people: Iterable[HubUser]) -> Told:
    """The servers of everybody."""
    everything = [
        (f"{person.name}/{server.name}", server) for person in people for server in person.servers.values()
    ]
    return Told(
        active=frozenset(name for name, server in everything if server.active),
        pending=frozenset(name for name, server in everything if server.pending),
    )


def strays(servers: Iterable[ContainerRow], hub: Told, before: Collection[str]) -> tuple[set[str], set[str]]:
    """Ids of containers to remove, and those to look at again: twice in a row the hub did not know them.

    JupyterHub notes a server only when it is up: a hub that is killed in between forgets the container.
    """
    unknown = {each.id for each in servers if _server(each) not in hub.active}
    return unknown & set(before), unknown - set(before)


def forgotten(leases: Iterable[LeaseRow], hub: Told) -> list[str]:
    """Leases of starts that are over: a hub or a service that was killed did not give them back."""
    return [lease.id for lease in leases if lease.server and lease.server not in hub.pending]


class Tidying:
    """`start`, later `stop`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engine: Engine,
        hub: HubApi,
        queue: Queue,
        projects: Projects,
        leases: Leases,
        moves: Moves,
        mirrors: Mirrors,
        lost: Lost,
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._hub = hub
        self._queue = queue
        self._projects = projects
        self._leases = leases
        self._moves = moves
        self._mirrors = mirrors
        self._lost = lost
        self._unknown: set[str] = set()
        self._known: set[tuple[str, str]] = set()  # id and state
        self._known_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="tidying")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def round(self) -> None:
        """Each part by itself: what fails now, since Docker or the hub is gone, is for the next round."""
        parts: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [
            ("builds", self._queue.tidy),
            ("projects", self._tidy_projects),
            ("imports", self._moves.recover),
            ("starts", self._tidy_starts),
            ("fetches", self._mirrors.tidy),
            ("images", self._lost.tidy),
        ]
        for what, work in parts:
            try:
                await work()
            except (BinderError, OSError) as error:
                log.info("What %s may have left is looked for again later: %s", what, error)
            except Exception:  # a mistake of ours: what is left over stays if nobody looks any more
                log.exception("What %s may have left was not looked for", what)

    async def _run(self) -> None:
        while True:
            await self.round()
            await asyncio.sleep(_SECOND_LOOK_S if self._unknown else PERIOD_S)

    async def _tidy_projects(self) -> None:
        async def base() -> str:
            return (await ensure_base(self._settings, log.info)).id

        await self._projects.tidy(base)

    async def _tidy_starts(self) -> None:
        leases = await self._store.leases()
        # Before the hub is asked: it knows of a start before there is a lease or a container.
        servers = [
            each
            for each in await self._engine.containers()
            if self._engine.is_ours(each.labels) and each.labels.get(KIND_LABEL) == "server"
        ]
        if not leases and not servers:
            self._unknown = set()
            return
        there = {(each.id, each.state) for each in servers}
        if not leases and there <= self._known and time.monotonic() < self._known_until:
            return
        hub = told(await self._hub.users())
        over = set(forgotten(leases, hub))
        for lease in leases:
            if lease.id in over and lease.server in hub.active:
                await self._leases.end(lease.id)  # it came up, and nobody told
            elif lease.id in over:
                await self._leases.release(lease.id)
        gone, self._unknown = strays(servers, hub, self._unknown)
        self._known = {each for each in there if each[0] not in gone | self._unknown}
        self._known_until = time.monotonic() + KNOWN_S
        for each in servers:
            if each.id in gone:
                log.warning("The hub does not run %s: %s is removed.", _server(each), each.name)
                await self._engine.remove(each.id)


def _server(container: ContainerRow) -> str:
    return f"{container.labels.get(PERSON_LABEL, '')}/{container.labels.get(SERVER_LABEL, '')}"
