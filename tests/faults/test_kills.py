"""Service, worker, hub and Docker killed at random points of build, fill and start.

Afterwards nothing is lost, doubled or left over, logs are whole, and people are told what is true. A round's
number is its seed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from machine import HOME_FILES, IMAGES, REAL, Homes, Machine, Start, content
from private_docker import PrivateDocker
from waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="session")]

# What the person is told at the beginning of a stage, and about how long it takes, in seconds; then how long
# where the server is a light one.
STAGES = {
    "build": ("Looking for the repository", 5.0, 3.0),
    "fill": ("Preparing your files", 0.6, 0.5),
    "start": ("Starting the server", 1.8, 0.6),
    # From when there is a worker, which ends before its image is tried.
    "work": ("", 3.0, 2.0),
}
# So large a part of the kills may come when there is nothing left to kill; of a few they say nothing.
LATE, MANY = 0.2, 20


@dataclass
class Aim:
    """How many kills there were, and which came too late: when the start was over, or the worker gone."""

    kills: int = 0
    late: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def aim() -> Iterator[Aim]:
    """Of these rounds; they would prove little if many of them killed nothing."""
    found = Aim()
    yield found
    print(f"\n{found.kills} kills, too late: {found.late}")
    assert found.kills < MANY or len(found.late) <= LATE * found.kills


async def kill_and_look(
    machine: Machine,
    homes: Homes,
    aim: Aim,
    victim: str,
    round_number: int,
    kill: Callable[[Start], Awaitable[None]],
    stages: Sequence[str],
) -> None:
    """A start, `kill` at a random point of it, and everything that must hold.

    What is built is a repository of its own; what is filled and started is a new project, of somebody new
    where there is an image to start.
    """
    chance = random.Random(f"{victim} {round_number}")  # not a secret
    machine.brisk = bool(round_number % REAL)
    stage = stages[round_number % len(stages)]
    begun = time.monotonic()
    server = f"{victim}-{round_number}"
    if machine.built and machine.brisk and stage not in ("build", "work"):
        async with machine.newcomer(server):
            start = machine.begin(server, machine.built, server)
            async with machine.gone_if_it_fails(start):
                killed = await kill_at(machine, aim, start, chance, stage, kill)
                await look(machine, homes, start, machine.built, killed)
    else:
        spec = machine.repository()
        start = machine.begin(server, spec)
        async with machine.gone_if_it_fails(start):
            killed = await kill_at(machine, aim, start, chance, stage, kill)
            await look(machine, homes, start, spec, killed)
        machine.built = spec if machine.brisk else ""
    await machine.evict_old(2, IMAGES)
    print(f"all in {time.monotonic() - begun:.1f} s")


async def kill_at(
    machine: Machine,
    aim: Aim,
    start: Start,
    chance: random.Random,
    stage: str,
    kill: Callable[[Start], Awaitable[None]],
) -> float:
    """Somewhere in `stage`, of a worker while there is one; when that was, on the monotonic clock."""
    text, *durations = STAGES[stage]
    moment = chance.random() * durations[machine.brisk]
    if stage == "work":
        await until(lambda: start.ended or machine.worker_processes(), every=0.05)
    else:
        await start.reached(text)
    await asyncio.sleep(moment)
    killed = time.monotonic()
    aim.kills += 1
    if start.ended:
        aim.late.append(start.server)
    await kill(start)
    restarted = time.monotonic()
    await start.over()
    print(
        f"\n{start.server}: killed {moment:.2f} s into {stage} ({start.said[-1:]}); back after"
        f" {restarted - killed:.1f} s; told after {time.monotonic() - killed:.1f} s:"
        f" {start.ended} {start.error}"
    )
    if start.ended == "failed":
        code, _, text = start.error.partition(": ")
        assert code not in ("", "unexpected"), start.error
        assert len(text) > 20, start.error
    return killed


async def look(machine: Machine, homes: Homes, start: Start, spec: str, killed: float) -> None:
    """Nothing is left over, nobody's files are touched, and it can be started once more."""
    last = await machine.sound()
    print(f"sound after {time.monotonic() - killed:.1f} s {last}")
    assert homes.changed(machine.projects()) == []
    await again(machine, start, spec)
    homes.note(machine.projects())


async def again(machine: Machine, start: Start, spec: str) -> None:
    """The person starts it once more: one image, one project, all of its files."""
    server, person = start.server, start.person
    async with machine.hub_api as api:
        found = await api.server(person, server)
    if found is None or not found.ready:
        await machine.ready(server, spec, person=person)
    name = spec.split("%2F")[-1].split("/")[0]
    [project] = [each for each in machine.projects() if each.startswith(name) and f" {person}-" in each]
    files = content(machine.projects()[project])
    assert len([each for each in files if each.startswith("data/")]) == HOME_FILES + 1
    url = f"%{name}"
    built = machine.rows(f"SELECT image_id FROM images WHERE url LIKE '{url}'")
    assert len(built) == 1, built
    await machine.sound()
    await machine.gone(server, person)
    await machine.sound()


@pytest.mark.rounds(few=1, soak=200)
async def test_the_service_is_killed(machine: Machine, homes: Homes, aim: Aim, round_number: int) -> None:
    async def kill(start: Start) -> None:
        await machine.kill_service()
        await machine.start_service()

    await kill_and_look(machine, homes, aim, "service", round_number, kill, ["build", "fill", "start"])


@pytest.mark.rounds(few=1, soak=200)
async def test_the_worker_is_killed(machine: Machine, homes: Homes, aim: Aim, round_number: int) -> None:
    async def kill(start: Start) -> None:
        if (
            await until(lambda: machine.kill_worker() or start.ended) is not True
            and start.server not in aim.late
        ):
            aim.late.append(start.server)

    await kill_and_look(machine, homes, aim, "worker", round_number, kill, ["work"])


@pytest.mark.rounds(few=1, soak=200)
async def test_the_hub_is_killed(machine: Machine, homes: Homes, aim: Aim, round_number: int) -> None:
    async def kill(start: Start) -> None:
        await machine.kill_hub()
        await machine.start_hub()

    await kill_and_look(machine, homes, aim, "hub", round_number, kill, ["start", "fill", "build"])


@pytest.mark.rounds(few=1, soak=200)
async def test_docker_is_killed(
    machine: Machine, homes: Homes, aim: Aim, private_docker: PrivateDocker, round_number: int
) -> None:
    async def kill(start: Start) -> None:
        await asyncio.to_thread(private_docker.kill)
        await asyncio.to_thread(private_docker.start)

    await kill_and_look(machine, homes, aim, "docker", round_number, kill, ["fill", "start", "build"])
