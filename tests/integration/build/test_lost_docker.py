"""The docker command's own questions to Docker get no answer, or half of one, while the worker builds.

Every such build ends soon, with an image or with an error that names Docker; buildx never makes a builder of
its own in Docker's place.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from docker_proxy import Call, DockerProxy, Fault
from image_bench import Bench
from worker_process import WorkerProcess

from tljh_plugin.build.base import BaseImage
from tljh_plugin.build.job import ResultEvent

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

PATIENCE_S = 10.0
# What the worker itself may take until it starts the docker command, and after it.
AROUND_S = 60.0
DOCKERFILE = {"Dockerfile": "FROM littlest-binder/base\nRUN true\n"}


@pytest.fixture
def bench(base: BaseImage, tmp_path: Path) -> Iterator[Bench]:
    ours = Bench(base, tmp_path)
    yield ours
    ours.clean()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DockerProxy]:
    async with DockerProxy(tmp_path_factory.mktemp("proxy") / "docker.sock") as running:
        yield running


async def build(bench: Bench, proxy: DockerProxy) -> tuple[ResultEvent, WorkerProcess]:
    return await asyncio.to_thread(
        lambda: bench.build(DOCKERFILE, environment={"DOCKER_HOST": proxy.host}, docker_timeout_s=PATIENCE_S)
    )


def of_the_docker_command(calls: list[Call]) -> list[Call]:
    """docker-py, with which the worker itself asks, sends no HEAD and is done before the command starts."""
    first = next(place for place, call in enumerate(calls) if call.what.startswith("HEAD"))
    return sorted(set(calls[first:]), key=str)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calls(base: BaseImage, proxy: DockerProxy, tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """What a good build asks of Docker by the docker command."""
    bench = Bench(base, tmp_path_factory.mktemp("good"))
    proxy.begin()
    result, worker = await build(bench, proxy)
    bench.clean()
    assert result.ok, worker.log
    return of_the_docker_command(proxy.calls)


async def ended(bench: Bench, proxy: DockerProxy, call: Call, fault: Fault) -> ResultEvent:
    """How a build with that fault ended; in time, and with no more asked of Docker than a build needs."""
    proxy.begin(call, fault)
    begun = time.monotonic()
    result, worker = await build(bench, proxy)
    seconds = time.monotonic() - begun
    print(
        f"\n{fault} of {call} {'came' if proxy.failed else 'did not come'}: {seconds:.1f} s, {result.error}"
    )
    asked = [each.what for each in proxy.calls]
    proxy.begin()
    proxy.let_go()
    assert seconds < PATIENCE_S + AROUND_S, worker.log
    assert "POST /containers/create" not in asked
    return result


@pytest.mark.rounds(few=2, soak=26)
async def test_a_docker_that_does_not_answer_ends_the_build_early(
    bench: Bench, proxy: DockerProxy, calls: list[Call], round_number: int
) -> None:
    every: list[tuple[Call, Fault]] = [(call, fault) for call in calls for fault in ("hang", "hung")]
    random.Random(2).shuffle(every)
    result = await ended(bench, proxy, *every[round_number % len(every)])
    if not result.ok:
        assert result.error
        assert result.error.code == "engine-timed-out"
        assert f"within {PATIENCE_S:g} s" in result.error.message


async def test_buildkit_that_is_never_reached_ends_the_build_early(bench: Bench, proxy: DockerProxy) -> None:
    result = await ended(bench, proxy, Call("POST /grpc", 3), "hang")
    assert result.error
    assert result.error.code == "engine-timed-out"


@pytest.mark.rounds(few=3, soak=9)
async def test_half_an_answer_is_told_as_docker_breaking_off(
    bench: Bench, proxy: DockerProxy, calls: list[Call], round_number: int
) -> None:
    faults: tuple[Fault, ...] = ("half", "lost", "cut")
    every = [
        (call, fault) for fault in faults for call in calls if call.what in ("POST /grpc", "POST /session")
    ]
    result = await ended(bench, proxy, *every[round_number % len(every)])
    if not result.ok:
        assert result.error
        assert result.error.code == "build-docker-broke-off"
        assert "Docker" in result.error.message
