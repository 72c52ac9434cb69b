"""An image goes in the moment in which somebody starts a server with it: the start gets the image, or a clean
rebuild; never a broken server."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from git_server import GitServer
from machine import Machine, light_files
from private_docker import PrivateDocker
from waiting import until

from tljh_plugin.labels import KIND_LABEL
from tljh_plugin.wire import DeletedView

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="session")]

# What a start says where the deletion comes, and the most seconds between the one and the other.
_MOMENTS = ("Looking for the repository", "Preparing your files", "Waiting for")
_LATER_S = 0.3


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def machine(
    tmp_path_factory: pytest.TempPathFactory, served: GitServer, private_docker: PrivateDocker, soak: bool
) -> AsyncIterator[Machine]:
    """One that retention does not touch by itself, and where nothing is too young to go."""
    section = {"retention": {"enabled": False, "min_age_hours": 0}}
    running = Machine(tmp_path_factory.mktemp("race"), served, private_docker.host, section)
    running.brisk = soak
    async with running:
        yield running


@pytest.fixture(scope="module")
def spec(served: GitServer) -> str:
    served.new("race", light_files("race"))
    return served.spec("race")


@pytest.fixture(scope="module")
def seen() -> Iterator[Counter[str]]:
    """What became of the images of all rounds."""
    counted: Counter[str] = Counter()
    yield counted
    print(f"what became of the images: {dict(counted)}")


@pytest.mark.rounds(few=3, soak=500)
async def test_a_start_gets_its_image_or_a_clean_rebuild(
    machine: Machine, spec: str, seen: Counter[str], round_number: int
) -> None:
    chance = random.Random(round_number)
    mode = "erase" if round_number % 2 else "evict"
    server = f"race-{round_number}"
    async with machine.client("root", admin=True) as client:
        if not await client.images():
            await machine.ready("first", spec, storage="ephemeral")
            await machine.gone("first")
        [image] = await client.images()
        # From two browsers at once, before the start, with it, or at a moment of it.
        lead_s = chance.uniform(0, _LATER_S)
        moment = chance.choice(("before", "with", *_MOMENTS))
        if moment == "before":
            deletions = [asyncio.create_task(client.delete_images([image.id], mode)) for _ in range(2)]
            await asyncio.sleep(lead_s)  # the dice: every moment is to come up
            start = machine.begin(server, spec, storage="ephemeral")
        else:
            start = machine.begin(server, spec, storage="ephemeral")
            if moment != "with":
                await start.reached(moment)
            await asyncio.sleep(lead_s)
            deletions = [asyncio.create_task(client.delete_images([image.id], mode)) for _ in range(2)]
        both = await asyncio.gather(*deletions)
        assert await start.over() == "ready", f"{moment} {both}\n{start.error}\n{start.said}"
        seen[_outcome(both)] += 1
    # What runs is of an image that is there and that is known.
    [running] = [
        each
        for each in await machine.engine.containers()
        if machine.engine.is_ours(each.labels) and each.labels.get(KIND_LABEL) == "server"
    ]
    assert running.state == "running"

    async def known() -> bool:
        """As soon as the list was looked at again."""
        async with machine.client("root", admin=True) as client:
            return [each.id for each in await client.images()] == [running.image_id]

    await until(known)
    await until(lambda: not machine.rows("SELECT * FROM runs WHERE finished = ''"))
    await machine.gone(server)


def _outcome(both: list[DeletedView]) -> str:
    """What became of the image, by two who wanted it gone."""
    found = {result.outcome for each in both if each.run for result in each.run.results}
    assert "failed" not in found, both
    went = found & {"evicted", "erased"}
    return went.pop() if went else "stayed"
