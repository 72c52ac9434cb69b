"""Each call to Docker on the way from a repository to a server goes wrong in turn, in each way.

Every start ends with a server or with a stated error, within the time that Docker is given; afterwards
nothing is left over, and the next start works.
"""

from __future__ import annotations

import random
import time

import pytest
import pytest_asyncio
from docker_proxy import FAULTS, Call, DockerProxy, Fault
from machine import IMAGES, REAL, Machine
from waiting import until

from tljh_plugin.errors import BinderError

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="session")]

# The longest way has a few calls that are tried again, or wait for Docker to come back.
LONGEST_S = 240.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def calls(machine: Machine, proxy: DockerProxy) -> dict[str, list[Call]]:
    """What is asked of Docker by a good build and start, and by a stop."""
    machine.brisk = True  # as most rounds are
    proxy.begin()
    await machine.ready("good", machine.repository())
    start = list(proxy.calls)
    proxy.begin()
    await machine.gone("good")
    return {"start": start, "stop": list(proxy.calls)}


def choose(calls: list[Call], round_number: int) -> tuple[Call, Fault]:
    """All pairs of a call and a fault come once, in an order that is the same in each run."""
    every = [(call, fault) for call in sorted(set(calls), key=str) for fault in FAULTS]
    random.Random(1).shuffle(every)
    return every[round_number % len(every)]


@pytest.mark.rounds(few=2, soak=400)
async def test_a_start_ends_with_a_server_or_a_stated_error(
    machine: Machine, proxy: DockerProxy, calls: dict[str, list[Call]], round_number: int
) -> None:
    call, fault = choose(calls["start"], round_number)
    machine.brisk = bool(round_number % REAL)
    server, spec = f"start-{round_number}", machine.repository()
    proxy.begin(call, fault)
    begun = time.monotonic()
    start = machine.begin(server, spec)
    ended = await start.over(LONGEST_S)
    print(
        f"\n{round_number}: {fault} of {call} {'came' if proxy.failed else 'did not come'};"
        f" {ended} after {time.monotonic() - begun:.1f} s {start.error}"
    )
    proxy.begin()
    assert ended in ("ready", "failed"), start.error
    if ended == "failed":
        code, _, text = start.error.partition(": ")
        assert code not in ("", "unexpected"), start.error
        assert len(text) > 30, start.error
        await machine.sound()
        await machine.ready(server, spec)
    await machine.sound()
    await machine.gone(server)
    await machine.sound()
    await machine.evict_old(2, IMAGES)
    print(f"over after {time.monotonic() - begun:.1f} s")


@pytest.mark.rounds(few=1, soak=60)
async def test_a_stop_succeeds_or_can_be_asked_for_again(
    machine: Machine, proxy: DockerProxy, calls: dict[str, list[Call]], round_number: int
) -> None:
    call, fault = choose(calls["stop"], round_number)
    server = f"stop-{round_number}"
    spec = machine.specs[-1]
    await machine.ready(server, spec)
    proxy.begin(call, fault)
    begun = time.monotonic()
    said = "stopped"
    async with machine.hub_api as api:
        try:
            await api.stop("ann", server, remove=True)
        except BinderError as error:
            said = f"{error.code}: {error}"

        async def settled() -> bool:
            found = await api.server("ann", server)
            return found is None or not found.pending

        await until(settled, LONGEST_S)
    print(f"\n{round_number}: {fault} of {call}; {said} after {time.monotonic() - begun:.1f} s")
    proxy.begin()
    await machine.gone(server)
    await machine.sound()
