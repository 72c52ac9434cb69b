"""Notes from when to when each server runs: by Docker's events, and by a look at the start and each minute.

What is told twice is written once (`store.accounting`), so an event and a look never have to agree on who is
first. While the service was away, Docker's memory of its last events tells what began and ended; where that
is gone too, a server is counted until it was seen last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..engine import ContainerRow, Engine, EngineEvent
from ..errors import BinderError
from ..labels import KIND_LABEL
from ..launch.running import Running, of_container, of_labels
from ..moments import as_stored
from ..store import ServerRun, Store, utc_now
from ..time_limit import within

log = logging.getLogger("littlest_binder.accounting")

PERIOD_S = 60.0
_RETRY_S = 5.0
_ENDED = ("created", "exited", "dead", "removing")


class Recorder:
    """`start`, later `await stop`; without them, `await look()` and `await hear(event)` by hand."""

    def __init__(self, store: Store, engine: Engine, *, period_s: float = PERIOD_S) -> None:
        self._runs = store.server_runs
        self._engine = engine
        self._period_s = period_s
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._look_for_ever(), name="recorder-look"),
            asyncio.create_task(self._listen_for_ever(), name="recorder-listen"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def hear(self, event: EngineEvent) -> None:
        """Note what an event tells. Raises `StoreError`."""
        if event.type != "container" or not self._is_server(event.attributes):
            return
        moment = _moment(event.time) if event.time else utc_now()
        if event.action == "start":
            held = of_labels(event.attributes)
            if held is None:  # of an earlier version: the next look asks Docker
                self._told.set()
                return
            await self._runs.begin(_run(event.id, event.attributes.get("image", ""), held, moment))
        elif event.action == "die":
            await self._runs.end(event.id, moment)

    async def look(self) -> None:
        """Compare what is noted with what Docker runs now. Raises `EngineError`, `StoreError`."""
        known = {run.container_id: run for run in await self._runs.open()}
        now = utc_now()  # before the list: what ends or begins after it is told by events
        servers = {row.id: row for row in await self._engine.containers() if self._is_server(row.labels)}
        running = {row.id for row in servers.values() if row.state not in _ENDED}
        for identifier in sorted(running - set(known)):
            run = await self._begun(servers[identifier], now)
            if run is not None:
                await self._runs.begin(run)
        await self._runs.still(sorted(running), now)
        for identifier in sorted(set(known) - running):
            await self._ended(known[identifier], servers.get(identifier))

    # -- within ---------------------------------------------------------------------------------------

    async def _begun(self, row: ContainerRow, now: str) -> ServerRun | None:
        held = await of_container(self._engine, row)
        state = await self._state(row.id)
        if held is None or state is None:
            return None
        run = _run(row.id, row.image_id, held, _docker_time(state.get("StartedAt")) or now)
        return replace(run, seen=now)

    async def _ended(self, run: ServerRun, row: ContainerRow | None) -> None:
        state = await self._state(run.container_id) if row is not None else None
        finished = _docker_time(state.get("FinishedAt")) if state else ""
        # After the machine was off, Docker says that a container ended when the machine came up again.
        if finished and not run.seen < _booted() <= finished:
            await self._runs.end(run.container_id, finished)
        else:
            await self._runs.end(run.container_id, run.seen, exact=False)

    async def _state(self, container: str) -> Mapping[str, Any] | None:
        found = await self._engine.inspect(container)
        return found["State"] if found is not None else None

    def _is_server(self, labels: Mapping[str, str]) -> bool:
        return self._engine.is_ours(labels) and labels.get(KIND_LABEL) == "server"

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.look()
            except BinderError as error:
                log.info("Who runs servers is looked at again later: %s", error)
            with suppress(asyncio.TimeoutError):
                await within(self._period_s, self._told.wait())
            self._told.clear()

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                async for event in self._engine.events(("container",), from_memory=True):
                    await self.hear(event)
            except BinderError as error:
                log.info("Docker's events broke off: %s", error)
            self._told.set()
            await asyncio.sleep(_RETRY_S)


def _run(container: str, image: str, held: Running, started: str) -> ServerRun:
    return ServerRun(
        container_id=container,
        person=held.person,
        server=held.server,
        image_id=image,
        groups=held.groups,
        profile=held.profile,
        memory_bytes=held.memory_bytes,
        cpus=held.cpus,
        started=started,
        seen=started,
    )


def _moment(seconds: float) -> str:
    return as_stored(datetime.fromtimestamp(seconds, timezone.utc))


def _docker_time(text: Any) -> str:
    """Docker's `2026-11-21T09:26:52.123456789Z` as the store keeps it; empty for its zero."""
    if not isinstance(text, str) or text.startswith("0001-"):
        return ""
    whole, _, rest = text.rstrip("Z").partition(".")
    with suppress(ValueError):
        return as_stored(datetime.fromisoformat(f"{whole}.{rest[:6]:0<6}+00:00"))
    return ""


def _booted() -> str:
    """When the machine was started."""
    up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return _moment(time.time() - up)
