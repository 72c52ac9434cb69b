"""When the guard of the firewall looks, and that it never ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from waiting import until

from tljh_plugin import request_ids
from tljh_plugin.engine import EngineEvent
from tljh_plugin.errors import EngineUnavailable
from tljh_plugin.launch import guard
from tljh_plugin.launch.guard import FirewallGuard


class Docker:
    """Tells events until `gone` is set, and is not there while it is."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self.gone = False
        self.streams = 0

    async def events(self, types: tuple[str, ...]) -> AsyncIterator[EngineEvent]:
        assert types == ("network", "daemon")
        if self.gone:
            raise EngineUnavailable("Docker cannot be reached.", "Start it.")
        self.streams += 1
        while (event := await self.told.get()) is not None:
            yield event

    async def info(self) -> None:
        if self.gone:
            raise EngineUnavailable("Docker cannot be reached.", "Start it.")


class Looks:
    """What the guard asked: whether Docker may have changed something."""

    def __init__(self, answers: bool = True) -> None:
        self.asked: list[bool] = []
        self.requests: set[str] = set()
        self.answers = answers
        self.problem: Exception | None = None

    async def __call__(self, docker_changed: bool) -> bool:
        self.asked.append(docker_changed)
        self.requests.add(request_ids.current())
        if self.problem:
            raise self.problem
        return self.answers


def watched(looks: Looks, docker: Docker, period_s: float = 3600.0) -> FirewallGuard:
    return FirewallGuard(looks, docker, period_s=period_s)  # type: ignore[arg-type]


async def seen(looks: Looks, count: int) -> None:
    async def so_many() -> bool:
        return len(looks.asked) >= count

    await until(so_many)


async def test_it_looks_at_once_and_again_and_again() -> None:
    looks = Looks()
    guarding = watched(looks, Docker(), period_s=0.01)
    guarding.start()
    guarding.start()
    await seen(looks, 5)
    guarding.stop()
    assert looks.asked[0] is True
    assert looks.asked[-1] is False


async def test_a_new_network_and_a_reload_of_docker_are_looked_at_at_once() -> None:
    looks, docker = Looks(), Docker()
    guarding = watched(looks, docker)
    guarding.start()
    for number, (kind, action) in enumerate([("network", "create"), ("daemon", "reload")]):
        docker.told.put_nowait(
            EngineEvent("network", "connect", "n", {})
        )  # of a container: no reason to look
        await until(docker.told.empty)
        docker.told.put_nowait(EngineEvent(kind, action, "n", {}))
        await seen(looks, number + 2)
    assert looks.asked == [True, True, True]
    guarding.stop()


async def test_after_a_restart_of_docker_it_looks_and_listens_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_RETRY_S", 0.01)
    looks, docker = Looks(), Docker()
    guarding = watched(looks, docker)
    guarding.start()

    async def listens() -> bool:
        return docker.streams == 1

    await until(listens)
    docker.gone = True
    docker.told.put_nowait(None)
    await seen(looks, 2)
    before = len(looks.asked)
    docker.gone = False
    await seen(looks, before + 1)
    guarding.stop()
    assert docker.streams == 2 or looks.asked[-1]


async def test_nothing_that_goes_wrong_ends_it() -> None:
    looks = Looks()
    guarding = watched(looks, Docker(), period_s=0.01)
    for problem in (EngineUnavailable("Docker cannot be reached.", "Start it."), ValueError("a mistake")):
        looks.problem = problem
        guarding.start()
        await seen(looks, len(looks.asked) + 2)
    guarding.stop()


async def test_where_nothing_is_guarded_docker_is_not_listened_to() -> None:
    looks, docker = Looks(answers=False), Docker()
    guarding = watched(looks, docker, period_s=0.01)
    guarding.start()
    await seen(looks, 5)
    assert docker.streams == 0
    guarding.stop()


async def test_what_goes_on_for_ever_is_not_of_the_start_that_began_it() -> None:
    looks = Looks()
    with request_ids.belonging("of-a-start"):
        guarding = watched(looks, Docker(), period_s=0.01)
        guarding.start()
    await seen(looks, 3)
    guarding.stop()
    assert looks.requests == {""}
