"""Running servers, as Docker tells of them: whose they are, what they hold, and when they end.

Each container of a server carries what it was given as labels, so that this outlives hub and settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..engine import ContainerRow, Engine
from ..engine.isolation import CPU_PERIOD_US
from ..labels import (
    CPUS_LABEL,
    GROUPS_LABEL,
    IDLE_LABEL,
    KIND_LABEL,
    LIFETIME_LABEL,
    MEMORY_LABEL,
    PERSON_LABEL,
    PROFILE_LABEL,
    SERVER_LABEL,
    STARTED_LABEL,
)

_ENDED = ("exited", "dead", "removing")


@dataclass(frozen=True)
class Span:
    """How long a server runs, in seconds; 0: without end."""

    lifetime_s: float = 0.0
    idle_s: float = 0.0

    def end(self, started: datetime | None, last_activity: datetime | None) -> tuple[datetime | None, str]:
        """When it ends if nothing more happens, and why: `lifetime`, `idle`, or nothing."""
        ends = []
        if self.lifetime_s and started is not None:
            ends.append((started + timedelta(seconds=self.lifetime_s), "lifetime"))
        active = max((each for each in (last_activity, started) if each is not None), default=None)
        if self.idle_s and active is not None:
            ends.append((active + timedelta(seconds=self.idle_s), "idle"))
        return min(ends, default=(None, ""))


@dataclass(frozen=True)
class Running:
    """A server that runs or starts, and what it holds; `groups` are the person's at its start."""

    person: str
    server: str
    memory_bytes: int
    cpus: float
    profile: str = ""
    span: Span = Span()
    started: datetime | None = None  # when its container was made, with a zone: builds are not its lifetime
    groups: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Whose it is, and its name."""
        return self.person, self.server

    @property
    def shown(self) -> str:
        """Its name for people."""
        return self.server or "default server"

    def labels(self) -> dict[str, str]:
        """What its container carries."""
        return {
            PERSON_LABEL: self.person,
            SERVER_LABEL: self.server,
            PROFILE_LABEL: self.profile,
            MEMORY_LABEL: str(self.memory_bytes),
            CPUS_LABEL: repr(self.cpus),
            LIFETIME_LABEL: repr(self.span.lifetime_s),
            IDLE_LABEL: repr(self.span.idle_s),
            STARTED_LABEL: self.started.isoformat() if self.started else "",
            GROUPS_LABEL: json.dumps(self.groups),
        }


def of_labels(labels: Mapping[str, str]) -> Running | None:
    """The server of a container with these labels; None where they do not say what it holds."""
    try:
        return Running(
            labels[PERSON_LABEL],
            labels[SERVER_LABEL],
            int(labels[MEMORY_LABEL]),
            float(labels[CPUS_LABEL]),
            labels.get(PROFILE_LABEL, ""),
            Span(float(labels.get(LIFETIME_LABEL, 0)), float(labels.get(IDLE_LABEL, 0))),
            datetime.fromisoformat(labels[STARTED_LABEL]) if labels.get(STARTED_LABEL) else None,
            tuple(str(each) for each in json.loads(labels.get(GROUPS_LABEL) or "[]")),
        )
    except (KeyError, TypeError, ValueError):
        return None


async def running_servers(engine: Engine) -> dict[tuple[str, str], Running]:
    """All servers of this installation that Docker runs, by person and name. Raises `EngineError`."""
    found: dict[tuple[str, str], Running] = {}
    for row in await engine.containers():
        if _is_server(engine, row):
            server = await of_container(engine, row)
            if server is not None:
                found[server.key] = server
    return found


async def of_container(engine: Engine, row: ContainerRow) -> Running | None:
    """The server of a container of ours; None if it is gone meanwhile. Raises `EngineError`."""
    return of_labels(row.labels) or await _inspected(engine, row)


def _is_server(engine: Engine, row: ContainerRow) -> bool:
    ours = engine.is_ours(row.labels) and row.labels.get(KIND_LABEL) == "server"
    return ours and PERSON_LABEL in row.labels and row.state not in _ENDED


async def _inspected(engine: Engine, row: ContainerRow) -> Running | None:
    """A server of an earlier version, whose container does not say what it holds."""
    said = await engine.inspect(row.id)
    if said is None:
        return None
    host: Mapping[str, Any] = said["HostConfig"]
    cpus = (host.get("CpuQuota") or 0) / (host.get("CpuPeriod") or CPU_PERIOD_US)
    labels = row.labels
    return Running(labels[PERSON_LABEL], labels.get(SERVER_LABEL, ""), int(host.get("Memory") or 0), cpus)
