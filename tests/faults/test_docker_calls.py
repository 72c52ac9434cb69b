"""Each call to Docker goes wrong in turn, in each way: on the way from a repository to a server, of a stop,
of the deletion of a project and an image, and of the start of the service.

Everything ends, as it should or with a stated error, within the time that Docker is given; afterwards
nobody's files are touched, nothing is left over, and the next try works. With `--soak` each pair of a call
and a fault is tried, and the end of the run says how many of how many were.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import docker
import pytest
import pytest_asyncio
from docker_proxy import Call, DockerProxy
from machine import IMAGES, REAL, Homes, Machine
from private_docker import PrivateDocker
from trials import ABSENT, RECOVERED, TOLD, Trial, Trials
from waiting import until

from tljh_plugin.errors import BinderError
from tljh_plugin.labels import INSTANCE_LABEL, KIND_LABEL, PERSON_LABEL, SERVER_LABEL
from tljh_plugin.time_limit import within

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="session")]

# The longest way has a few calls that are tried again, or wait for Docker to come back.
LONGEST_S = 240.0
# A call that did not come so often in a row is not to be had on this machine today.
TRIES = 3
# At least as many as a way has pairs, and in their proportion; what there are not is passed over.
ROUNDS = {"start": 1500, "stop": 180, "deletion": 400, "service": 480}
_DEBIAN = "littlest-binder/debian:bookworm"
_LEFT = ("check", "stub", "fill", "server")


@dataclass(frozen=True)
class Good:
    """What is asked of Docker on each way when nothing goes wrong, and the repository with which that was."""

    spec: str
    calls: Mapping[str, list[Call]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def good(machine: Machine, proxy: DockerProxy, private_docker: PrivateDocker) -> Good:
    machine.brisk = True  # as most rounds are
    spec, calls = machine.repository(), {}
    proxy.begin()
    await machine.ready("good", spec)
    calls["start"] = list(proxy.calls)
    proxy.begin()
    await machine.gone("good")
    calls["stop"] = list(proxy.calls)
    await may_go(machine, spec)
    proxy.begin()
    assert not await delete(machine, spec)
    calls["deletion"] = list(proxy.calls)
    await bring_back(machine)
    await machine.kill_service()
    left = await asyncio.to_thread(leave, machine, private_docker)
    proxy.begin()
    await start_and_tidy(machine, private_docker, left)
    calls["service"] = list(proxy.calls)
    proxy.begin()
    print(f"\ncalls: { {way: len(each) for way, each in calls.items()} }")
    return Good(spec, calls)


@pytest.fixture
def go_through(
    trials: Trials, good: Good, homes: Homes, soak: bool, machine: Machine
) -> Callable[[str, int, Callable[[Trial], Awaitable[None]]], Awaitable[None]]:
    """Try one pair of a way, until its fault came or has not come often enough."""

    async def one(way: str, round_number: int, attempt: Callable[[Trial], Awaitable[None]]) -> None:
        pairs = trials.pairs(way, good.calls[way])
        assert len(pairs) <= ROUNDS[way], f"{way} has {len(pairs)} pairs: give it as many rounds"
        if round_number >= len(pairs):
            return
        with trials.trying(way, pairs[round_number]) as trial:
            for _ in range(TRIES):
                homes.note(machine.projects())
                await attempt(trial)
                assert homes.changed(machine.projects()) == []
                if trial.came:
                    return
            trial.ended = ABSENT
        # A soak run counts them at its end.
        if not soak:
            pytest.skip(f"{pairs[round_number]} was not asked for in {TRIES} tries")

    return one


@contextmanager
def failing(proxy: DockerProxy, trial: Trial) -> Iterator[None]:
    """The fault is in force."""
    begun = time.monotonic()
    proxy.begin(trial.pair.call, trial.pair.fault)
    try:
        yield
    finally:
        trial.came = bool(proxy.failed)
        proxy.begin()
        seconds = time.monotonic() - begun
        print(f"\n{trial.pair} {'came' if trial.came else 'did not come'}; over after {seconds:.1f} s")


def tell(trial: Trial, said: str) -> None:
    """What people were told, if anything: `code: text`."""
    trial.ended, trial.said = (TOLD if said else RECOVERED), said
    print(said or "as it should be")
    code, _, text = said.partition(": ")
    if said:
        assert code not in ("", "unexpected", "service-down"), said
        assert len(text) > 30, said


@pytest.mark.rounds(few=2, soak=ROUNDS["start"])
async def test_a_start_ends_with_a_server_or_a_stated_error(
    machine: Machine, proxy: DockerProxy, go_through: Callable[..., Awaitable[None]], round_number: int
) -> None:
    async def attempt(trial: Trial) -> None:
        machine.brisk = bool(round_number % REAL)
        server, spec = f"start-{round_number}", machine.repository()
        with failing(proxy, trial):
            start = machine.begin(server, spec)
            ended = await start.over(LONGEST_S)
        assert ended in ("ready", "failed"), start.error
        tell(trial, start.error)
        if trial.pair.fault == "late":
            assert ended == "ready", start.error
        if ended == "failed":
            await machine.sound()
            await machine.ready(server, spec)
        await machine.sound()
        await machine.gone(server)
        await machine.sound()
        await machine.evict_old(2, IMAGES)

    await go_through("start", round_number, attempt)


@pytest.mark.rounds(few=1, soak=ROUNDS["stop"])
async def test_a_stop_succeeds_or_can_be_asked_for_again(
    machine: Machine,
    proxy: DockerProxy,
    good: Good,
    go_through: Callable[..., Awaitable[None]],
    round_number: int,
) -> None:
    async def attempt(trial: Trial) -> None:
        machine.brisk = True
        server, said = f"stop-{round_number}", ""
        await machine.ready(server, good.spec)
        async with machine.hub_api as api:

            async def settled() -> bool:
                found = await api.server("ann", server)
                return found is None or not found.pending

            with failing(proxy, trial):
                try:
                    await within(LONGEST_S, api.stop("ann", server, remove=True))
                except BinderError as error:
                    said = f"{error.code}: {error}"
                await until(settled, LONGEST_S)
        tell(trial, said)
        await machine.gone(server)
        await machine.sound()

    await go_through("stop", round_number, attempt)


@pytest.mark.rounds(few=1, soak=ROUNDS["deletion"])
async def test_a_deletion_ends_or_is_told(
    machine: Machine,
    proxy: DockerProxy,
    good: Good,
    go_through: Callable[..., Awaitable[None]],
    round_number: int,
) -> None:
    async def attempt(trial: Trial) -> None:
        machine.brisk = True
        await machine.ready("deletion", good.spec)
        await machine.gone("deletion")
        await may_go(machine, good.spec)
        try:
            with failing(proxy, trial):
                said = await within(LONGEST_S, delete(machine, good.spec))
            tell(trial, said)
            await machine.sound()
            await may_go(machine, good.spec)
            assert not await delete(machine, good.spec)
            assert images_of(machine, good.spec) == []
        finally:
            await bring_back(machine)
        await machine.sound()

    await go_through("deletion", round_number, attempt)


@pytest.mark.rounds(few=1, soak=ROUNDS["service"])
async def test_a_service_starts_whatever_docker_says(
    machine: Machine,
    proxy: DockerProxy,
    private_docker: PrivateDocker,
    go_through: Callable[..., Awaitable[None]],
    round_number: int,
) -> None:
    async def attempt(trial: Trial) -> None:
        machine.brisk = True
        await machine.kill_service()
        left = await asyncio.to_thread(leave, machine, private_docker)
        try:
            with failing(proxy, trial):
                await start_and_tidy(machine, private_docker, left)
        finally:
            if machine.service is None or machine.service.poll() is not None:
                await machine.start_service()
        tell(trial, "")

        async def healthy() -> bool:
            async with machine.client() as client:
                return (await client.health()).engine

        await until(healthy)
        await machine.sound()

    await go_through("service", round_number, attempt)


def name_of(spec: str) -> str:
    """The repository's name in a link."""
    return spec.split("%2F")[-1].split("/")[0]


def images_of(machine: Machine, spec: str) -> list[str]:
    """Ids of the images that the store knows of a repository."""
    query = f"SELECT image_id FROM images WHERE url LIKE '%{name_of(spec)}'"
    return [row["image_id"] for row in machine.rows(query)]


async def delete(machine: Machine, spec: str) -> str:
    """Ann's projects of a repository and then its images, as far as they are there; what is told
    instead, each `code: text`.
    """
    said = []
    async with machine.client() as client:
        try:
            for project in await client.projects():
                if project.id.startswith(name_of(spec)):
                    await client.delete_project(project.id)
        except BinderError as error:
            said.append(f"{error.code}: {error}")
    images = images_of(machine, spec)
    machine.evicted |= set(images)
    async with machine.client("root", admin=True) as client:
        try:
            deleted = await client.delete_images(images, "evict") if images else None
            if deleted is not None:
                assert deleted.run, deleted
                async for run in client.follow_run(deleted.run.id):
                    said += [
                        f"{each.outcome}: {each.text}"
                        for each in run.results
                        if run.finished and each.outcome not in ("evicted", "gone")
                    ]
        except BinderError as error:
            said.append(f"{error.code}: {error}")
    return "; ".join(said)


async def may_go(machine: Machine, spec: str) -> None:
    """Wait until the list that deletions go by, which may be some seconds old, has no user of its images."""
    images = images_of(machine, spec)
    async with machine.client("root", admin=True) as client:

        async def unused() -> bool:
            return not images or not (await client.delete_images(images, "evict", dry_run=True)).plan.keep

        await until(unused, LONGEST_S, every=0.1)


async def bring_back(machine: Machine) -> None:
    """Ann's deleted projects."""
    async with machine.client() as client:
        for each in await client.deleted_projects():
            await client.undelete_project(each.id)


def leave(machine: Machine, private_docker: PrivateDocker) -> list[str]:
    """A container of each kind that a service may find from the one before it; their ids."""
    found = []
    with_labels = {INSTANCE_LABEL: machine.engine.instance, PERSON_LABEL: "ann", SERVER_LABEL: "left"}
    client = docker.APIClient(base_url=private_docker.host)
    try:
        for kind in _LEFT:
            made = client.create_container(_DEBIAN, "true", labels={**with_labels, KIND_LABEL: kind})
            found.append(str(made["Id"]))
    finally:
        client.close()
    return found


async def start_and_tidy(machine: Machine, private_docker: PrivateDocker, left: list[str]) -> None:
    """Until the service answers and has removed what is left: of servers only after a second look."""
    await machine.start_service()

    def still_there() -> bool:
        client = docker.APIClient(base_url=private_docker.host)
        try:
            return any(each["Id"] in left for each in client.containers(all=True))
        finally:
            client.close()

    async def tidied() -> bool:
        return not await asyncio.to_thread(still_there)

    await until(tidied, LONGEST_S, every=0.1)
