"""Starts at the same moment do not take the same room twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import pytest
from waiting import until

from tljh_plugin.engine import ContainerRow
from tljh_plugin.errors import LimitReached
from tljh_plugin.labels import INSTANCE_LABEL
from tljh_plugin.launch.reservations import Reservations
from tljh_plugin.launch.running import Running, Span, of_labels, running_servers


class Docker:
    """Keeps containers; its answers come late, and tell what was there when it was asked."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], ContainerRow] = {}
        self.hosts: dict[str, dict[str, Any]] = {}
        self.asked = 0

    def is_ours(self, labels: dict[str, str]) -> bool:
        return labels.get(INSTANCE_LABEL) == "me"

    def run(self, server: Running, state: str = "running", **more: str) -> None:
        labels = {INSTANCE_LABEL: "me", "org.littlest-binder.kind": "server", **server.labels(), **more}
        self.rows[server.key] = ContainerRow(f"id-{server.server}", "n", "i", labels, state)

    async def containers(self) -> list[ContainerRow]:
        self.asked += 1
        found = list(self.rows.values())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return found

    async def inspect(self, container: str) -> dict[str, Any] | None:
        return self.hosts.get(container)


def at_most(servers: int) -> Any:
    def judge(others: Sequence[Running]) -> None:
        if len(others) >= servers:
            raise LimitReached(f"{len(others)} servers", "Stop one.")

    return judge


async def start(docker: Docker, places: Reservations, name: str, most: int, *, fails: bool = False) -> bool:
    wanted = Running("ada", name, 1, 1.0)
    try:
        async with places.hold(wanted, at_most(most)):
            for _ in range(5):
                await asyncio.sleep(0)
            if not fails:
                docker.run(wanted)
    except LimitReached:
        return False
    return True


async def test_of_ten_starts_at_the_same_moment_as_many_succeed_as_may() -> None:
    docker: Any = Docker()
    places = Reservations(docker)
    done = await asyncio.gather(*(start(docker, places, f"s{n}", 3) for n in range(10)))
    assert sum(done) == 3
    assert len(docker.rows) == 3
    assert not places._starting


async def test_ten_starts_one_behind_the_other_overlap_without_a_gap() -> None:
    docker: Any = Docker()
    places = Reservations(docker)

    async def later(n: int) -> bool:
        for _ in range(n):
            await asyncio.sleep(0)
        return await start(docker, places, f"s{n}", 3)

    assert sum(await asyncio.gather(*(later(n) for n in range(40)))) == 3


async def test_a_failed_start_gives_its_place_back() -> None:
    docker: Any = Docker()
    places = Reservations(docker)
    assert await start(docker, places, "one", 1, fails=True)
    assert await start(docker, places, "two", 1)
    assert not await start(docker, places, "three", 1)


async def test_a_cancelled_start_gives_its_place_back() -> None:
    docker: Any = Docker()
    places = Reservations(docker)

    async def for_ever() -> None:
        async with places.hold(Running("ada", "one", 1, 1.0), at_most(1)):
            await asyncio.Event().wait()

    task = asyncio.create_task(for_ever())
    await until(lambda: places._starting)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await start(docker, places, "two", 1)


async def test_the_server_itself_does_not_count_against_its_start() -> None:
    docker: Any = Docker()
    places = Reservations(docker)
    docker.run(Running("ada", "one", 1, 1.0))
    assert await start(docker, places, "one", 1)


async def test_what_runs_is_what_docker_says() -> None:
    docker: Any = Docker()
    begun = datetime(2026, 11, 21, tzinfo=timezone.utc)
    server = Running("ada", "", 2**31, 0.5, "small", Span(60.0, 3.5), begun)
    docker.run(server)
    docker.run(Running("ada", "ended", 1, 1.0), state="exited")
    docker.run(Running("ada", "check", 1, 1.0), **{"org.littlest-binder.kind": "check"})
    docker.run(Running("eve", "other", 1, 1.0), **{INSTANCE_LABEL: "another installation"})
    assert await running_servers(docker) == {("ada", ""): server}


async def test_a_server_of_an_earlier_version_counts_with_what_docker_gave_it() -> None:
    docker: Any = Docker()
    docker.run(Running("ada", "old", 1, 1.0), **{"org.littlest-binder.memory-bytes": "?"})
    docker.hosts["id-old"] = {"HostConfig": {"Memory": 2**31, "CpuQuota": 150_000, "CpuPeriod": 100_000}}
    assert await running_servers(docker) == {("ada", "old"): Running("ada", "old", 2**31, 1.5)}


@pytest.mark.parametrize("labels", [{}, {"org.littlest-binder.person": "ada"}])
def test_labels_of_others_say_nothing(labels: dict[str, str]) -> None:
    assert of_labels(labels) is None
