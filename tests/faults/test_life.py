"""Servers outlive their hub and service; Docker that stops is told; one person's trouble is nobody else's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from docker_proxy import Call, DockerProxy
from machine import Machine
from private_docker import PrivateDocker
from waiting import until

from tljh_plugin.engine.values import KIND_LABEL

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="session")]

NOTE = b"written in the server that Docker's end ended\n"
QUICK_S = 10.0  # of the 20 that Docker is given, see conftest.py


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def one(machine: Machine) -> AsyncIterator[Path]:
    """The files of a server that runs, `one`."""
    spec = machine.specs[0]
    await machine.ready("one", spec)
    name = spec.split("%2F")[-1].split("/")[0]
    [home] = [home for project, home in machine.projects().items() if project.startswith(name)]
    yield home
    await machine.gone("one")


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


async def test_servers_outlive_hub_and_service(machine: Machine, one: Path) -> None:
    before = await running_server(machine)
    await machine.kill_service()
    await machine.start_service()
    await machine.kill_hub()
    await machine.start_hub()
    await until(lambda: is_ready(machine, "one"))
    await machine.sound()
    assert await running_server(machine) == before


async def test_docker_stops_and_servers_can_be_started_again(
    machine: Machine, one: Path, private_docker: PrivateDocker
) -> None:
    (one / "note.txt").write_bytes(NOTE)
    await asyncio.to_thread(private_docker.stop)

    async def told() -> str:
        async with machine.client() as client:
            health = await client.health()
        return "" if health.engine else health.message  # what it knows may be some seconds old

    try:
        assert "Docker cannot be reached" in await until(told)
        refused = machine.begin("two", machine.specs[0])
        assert await refused.over() == "failed"
        assert "Docker cannot be reached" in refused.error
    finally:  # other tests need it too
        await asyncio.to_thread(private_docker.start)

    async def stopped() -> bool:
        return not await is_ready(machine, "one")

    await until(stopped)
    await machine.sound()
    await machine.ready("one")
    assert (one / "note.txt").read_bytes() == NOTE


async def test_stopping_is_quick_while_anothers_call_hangs(
    machine: Machine, one: Path, proxy: DockerProxy
) -> None:
    proxy.begin(Call("POST /containers/create", 1), "hang")
    hanging = machine.begin("stuck", machine.specs[0], person="bob", storage="ephemeral")
    await until(lambda: proxy.failed)
    begun = time.monotonic()
    await machine.gone("one")
    print(f"\nstopped in {time.monotonic() - begun:.1f} s")
    assert not hanging.ended
    async with machine.hub_api as api:  # and the one that hangs can be given up
        begun = time.monotonic()
        await api.stop("bob", "stuck")
        assert time.monotonic() - begun < QUICK_S
    await hanging.over(QUICK_S)
    proxy.begin()
    await machine.ready("one", machine.specs[0])
    await machine.sound()
