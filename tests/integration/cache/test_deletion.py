"""Evicting, erasing and retention of images that were built here, on a real Docker."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer
from installation_parts import ROOT, Parts, opened, settings_for, visited
from waiting import until

from tljh_plugin.engine import Engine
from tljh_plugin.wire import BuildView

pytestmark = pytest.mark.docker

TESTS = Path(__file__).parents[2]
_ERASE = """
import asyncio, json, sys
from pathlib import Path
from installation_parts import opened, settings_for

async def erase():
    async with opened(settings_for(Path(sys.argv[1]), json.loads(sys.argv[2]))) as parts:
        remove, ended = parts.engine.remove_image, []

        async def all_but_the_last(image, *names):
            if len(ended) == len(sys.argv[3:]) - 1:
                await asyncio.sleep(3600)  # to be killed
            await remove(image, *names)
            ended.append(image)

        parts.engine.remove_image = all_but_the_last
        await parts.delete(*sys.argv[3:], mode="erase")

asyncio.run(erase())
"""


@pytest.fixture
def sections(git_server: GitServer, base_image: str) -> dict[str, Any]:
    policy = {**git_server.settings(), "dockerfile": "everyone"}
    retention = {"min_age_hours": 0, "enabled": False, "low_watermark_percent": 0}
    return {"policy": policy, "source": {"resolve_cache_s": 0}, "retention": retention}


@pytest.fixture
async def parts(tmp_path: Path, sections: dict[str, Any]) -> AsyncIterator[Parts]:
    async with visited(settings_for(tmp_path / "state", sections)) as ours:
        yield ours
        await ours.build_cache.erase_leftovers()


async def built(parts: Parts, git_server: GitServer, mark: str = "") -> BuildView:
    """An image with three megabytes of its own."""
    mark = mark or secrets.token_hex(6)
    name = f"r-{mark}"
    text = (
        f"FROM littlest-binder/base\nENV A={mark}\nRUN head -c 3000000 /dev/urandom > /home/jovyan/{mark}\n"
    )
    git_server.new(name, {"Dockerfile": text})
    view = await parts.build(git_server.spec(name))
    assert view.state == "built", view.error
    return view


async def layers(parts: Parts, image_id: str) -> tuple[str, ...]:
    """What was random when it was built tells whether it was built again."""
    facts = await parts.engine.image(image_id)
    assert facts is not None
    return facts.layers


def docker(*arguments: str) -> str:
    command = ["docker", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def erasing(*arguments: str) -> subprocess.Popen[bytes]:
    """A process that erases images, and goes on until it is killed."""
    return subprocess.Popen([sys.executable, "-c", _ERASE, *arguments], cwd=TESTS)


async def test_an_evicted_image_comes_back_from_the_cache_and_an_erased_one_is_built_anew(
    parts: Parts, git_server: GitServer
) -> None:
    view = await built(parts, git_server)
    first = await layers(parts, view.image_id)
    await parts.inventory.refresh()
    await parts.layers.learn()
    evicting, erasing = await parts.plan(view.image_id), await parts.plan(view.image_id, mode="erase")
    assert evicting.frees_bytes == 0
    assert erasing.frees_bytes is not None
    assert 3_000_000 <= erasing.frees_bytes < 3_500_000
    [evicted] = (await parts.sweep.carry_out(evicting, ROOT)).results
    assert evicted.outcome == "evicted"
    assert await parts.engine.image(view.image_id) is None
    assert parts.inventory.images() == []
    assert parts.build_cache.leftovers == {view.image_id}
    again = await parts.build(view.spec)
    assert await layers(parts, again.image_id) == first
    [erased] = (await parts.delete(again.image_id, mode="erase")).results
    assert (erased.outcome, erased.text) == ("erased", "")
    anew = await parts.build(view.spec)
    assert await layers(parts, anew.image_id) != first
    await parts.delete(anew.image_id, mode="erase")
    assert parts.build_cache.leftovers == frozenset()


async def test_retention_erases_what_was_evicted_first_and_keeps_what_is_in_use(
    parts: Parts, git_server: GitServer
) -> None:
    left, used, idle = [await built(parts, git_server) for _ in range(3)]
    await parts.delete(left.image_id)
    await parts.store.update_image(used.image_id, pinned=True)
    container = docker("create", idle.image_id, "true")
    try:
        await parts.inventory.refresh()
        await parts.layers.learn()
        run = await parts.retention.run(ROOT)
        assert run is not None
        assert [
            (item.rule, result.outcome) for item, result in zip(run.plan.take, run.results, strict=True)
        ] == [("cache-first", "erased")]
        assert sorted(item.rule for item in run.plan.keep) == ["in-use", "pinned"]
        assert parts.build_cache.leftovers == frozenset()
    finally:
        docker("rm", container)
    await parts.inventory.refresh()
    after = await parts.retention.run(ROOT)
    assert after is not None
    assert [(each.image_id, each.outcome) for each in after.results] == [(idle.image_id, "erased")]
    assert await parts.engine.image(used.image_id) is not None
    await parts.store.update_image(used.image_id, pinned=False)
    await parts.delete(used.image_id, mode="erase")


async def test_a_service_that_is_killed_in_the_middle_leaves_nothing_undone_for_good(
    tmp_path: Path, git_server: GitServer, sections: dict[str, Any]
) -> None:
    settings = settings_for(tmp_path / "state", sections)
    async with opened(settings) as parts:
        ids = [(await built(parts, git_server)).image_id for _ in range(3)]
    arguments = [str(settings.state_dir), json.dumps(sections), *ids]
    child = erasing(*arguments)
    engine = Engine("0")

    async def begun() -> bool:
        assert child.poll() is None
        return len({each.id for each in await engine.images()} & set(ids)) < 3

    try:
        await until(begun)
    finally:
        child.kill()
        child.wait()
        await engine.close()
    async with visited(settings) as parts:
        await parts.build_cache.resume()
        [run] = await parts.sweep.runs()
        assert run.finished
        assert run.problem is not None
        assert run.problem.code == "run-ended"
        assert len(run.results) == 3
        # What is said done is done, and what is not recorded any more is not there.
        there = {each.id for each in await parts.engine.images()}
        said = {each.image_id for each in run.results if each.outcome == "erased"}
        assert said.isdisjoint(there)
        assert {each.image_id for each in await parts.store.images()} == there & set(ids)
        again = await parts.sweep.carry_out(run.plan, ROOT)
        assert {each.outcome for each in again.results} <= {"erased", "gone"}
        assert {each.id for each in await parts.engine.images()}.isdisjoint(ids)
        assert await parts.store.images() == []
        assert parts.build_cache.leftovers == frozenset()
