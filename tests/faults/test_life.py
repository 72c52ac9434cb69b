"""Servers outlive their hub and service; Docker that stops is told; one person's trouble is nobody else's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from docker_proxy import Call, DockerProxy
from git_server import GitServer
from machine import Machine
from private_docker import PrivateDocker
from waiting import until

from tljh_plugin.engine.values import KIND_LABEL

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="module")]

NOTE = b"written in the server that Docker's end ended\n"
# Docker is given a minute for an answer; who waits for another's call would wait as long.
QUICK_S = 15.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with GitServer(tmp_path_factory.mktemp("git") / "served") as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(private_docker: PrivateDocker) -> AsyncIterator[DockerProxy]:
    async with DockerProxy(private_docker.run / "life.sock", private_docker.socket) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(
    tmp_path_factory: pytest.TempPathFactory, served: GitServer, proxy: DockerProxy
) -> AsyncIterator[Machine]:
    """With one image that is there."""
    async with Machine(tmp_path_factory.mktemp("lab"), served, proxy.host) as running:
        await running.ready("one", running.repository())
        yield running
        proxy.begin()
        proxy.let_go()


async def running_server(machine: Machine) -> str:
    """The id of the container of the one server."""
    [container] = [
        each.id
        for each in await machine.engine.containers()
        if machine.engine.is_ours(each.labels) and each.labels[KIND_LABEL] == "server"
    ]
    return container


async def is_ready(machine: Machine, server: str) -> bool:
    async with machine.hub_api as api:
        found = await api.server("ann", server)
    return found is not None and found.ready


async def test_servers_outlive_hub_and_service(machine: Machine) -> None:
    before = await running_server(machine)
    await machine.kill_service()
    await machine.start_service()
    await machine.kill_hub()
    await machine.start_hub()
    await until(lambda: is_ready(machine, "one"), 30)
    await machine.sound()
    assert await running_server(machine) == before


async def test_docker_stops_and_servers_can_be_started_again(
    machine: Machine, private_docker: PrivateDocker
) -> None:
    [home] = machine.projects().values()
    (home / "note.txt").write_bytes(NOTE)
    await asyncio.to_thread(private_docker.stop)
    async with machine.client() as client:
        health = await client.health()
    assert not health.engine
    assert "Docker cannot be reached" in health.message
    refused = machine.begin("two", machine.specs[0])
    assert await refused.over(30) == "failed"
    assert "Docker cannot be reached" in refused.error
    await asyncio.to_thread(private_docker.start)

    async def stopped() -> bool:
        return not await is_ready(machine, "one")

    await until(stopped, 30)
    await machine.sound()
    await machine.ready("one")
    assert (home / "note.txt").read_bytes() == NOTE


async def test_stopping_is_quick_while_anothers_call_hangs(machine: Machine, proxy: DockerProxy) -> None:
    proxy.begin(Call("POST /containers/create", 1), "hang")
    hanging = machine.begin("stuck", machine.specs[0], person="bob", storage="ephemeral")
    await until(lambda: proxy.failed, 60)
    begun = time.monotonic()
    await machine.gone("one")
    stopped = time.monotonic() - begun
    await machine.ready("one", machine.specs[0])
    print(f"\nstopped in {stopped:.1f} s, started in {time.monotonic() - begun - stopped:.1f} s")
    assert stopped < QUICK_S
    assert not hanging.ended
    async with machine.hub_api as api:  # and the one that hangs can be given up
        begun = time.monotonic()
        await api.stop("bob", "stuck")
        assert time.monotonic() - begun < QUICK_S
    proxy.begin()
    proxy.let_go()
    await machine.gone("one")
    await machine.sound()
