"""Whether everything that the service needs is well: a few looks at once, none of which is waited for long.

Comes in: looks, each of which says what is wrong, or nothing. Goes out: `HealthPart`s. A look that does not
come to its end, as at a Docker that hangs, is what is wrong with its part; it is not put a second time
meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from ..build.queue import Queue
from ..engine import Engine
from ..errors import BinderError
from ..hub_api import HubApi
from ..settings import MIB, Settings
from ..store import Store
from ..wire import HealthPart, HealthPartId
from .engine_health import EngineHealth
from .shared_question import SharedQuestion

log = logging.getLogger("littlest_binder.service")

Look = Callable[[], Awaitable[str]]

_FRESH_S = 3.0
_WAIT_S = 2.0


class Health:
    """Asks all looks at once; whoever asks within a few seconds gets the same answers."""

    def __init__(self, looks: Mapping[HealthPartId, Look], *, wait_s: float = _WAIT_S) -> None:
        self._wait_s = wait_s
        self._questions = {
            name: SharedQuestion(_caught(look), fresh_s=_FRESH_S) for name, look in looks.items()
        }

    async def parts(self) -> tuple[HealthPart, ...]:
        """What is well, and what is not, in the order of the looks; after two seconds at the latest."""
        return tuple(
            await asyncio.gather(*(self._part(name, asked) for name, asked in self._questions.items()))
        )

    async def _part(self, name: HealthPartId, question: SharedQuestion[str]) -> HealthPart:
        try:
            problem = await question.answer(self._wait_s)
        except asyncio.TimeoutError:
            problem = f"No answer for {self._wait_s:g} seconds."
        return HealthPart(name=name, ok=not problem, message=problem)


def looks_at(
    settings: Settings, store: Store, engine: Engine, engine_health: EngineHealth, hub: HubApi, queue: Queue
) -> dict[HealthPartId, Look]:
    """The looks of a service."""

    async def at_docker() -> str:
        return str(await engine_health.problem() or "")

    async def at_hub() -> str:
        await hub.version()
        return ""

    async def at_disk() -> str:
        free, reserve = await engine.free_bytes(), settings.build.disk_reserve_bytes
        if free >= reserve:
            return ""
        return (
            f"Docker's disk has {free // MIB} MiB free; below {reserve // MIB} MiB nothing is built. "
            "Delete images that nobody needs."
        )

    async def at_queue() -> str:
        return "The service is stopping." if queue.stopping else ""

    async def at_firewall() -> str:
        # Before the first server there is no network to protect; what must not run without, does not start.
        if settings.firewall != "required" or await engine.network() is None:
            return ""
        return await engine_health.firewall()

    return {
        "store": store.problem,
        "docker": at_docker,
        "hub": at_hub,
        "disk": at_disk,
        "queue": at_queue,
        "firewall": at_firewall,
    }


def _caught(look: Look) -> Look:
    async def ask() -> str:
        try:
            return await look()
        except BinderError as error:
            return str(error)
        except Exception as error:  # a mistake of ours is no reason to tell a monitor nothing
            log.exception("A part of the health could not be looked at.")
            return f"It could not be looked at: {type(error).__name__}."

    return ask
