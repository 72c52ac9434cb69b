"""Newer commits of a real repository, built by the real builder."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer
from installation_parts import ROOT, Parts, settings_for, visited
from waiting import until

from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.cache.claims import blank_row
from tljh_plugin.service.newer import Newer
from tljh_plugin.source.credentials import Credentials
from tljh_plugin.source.spec import parse_link
from tljh_plugin.store import BuildRow, ImageRow

pytestmark = pytest.mark.docker


@pytest.fixture
async def parts(tmp_path: Path, git_server: GitServer, base_image: str) -> AsyncIterator[Parts]:
    sections: dict[str, Any] = {
        "policy": {**git_server.settings(), "dockerfile": "everyone"},
        "source": {"resolve_cache_s": 0},
        "updates": {"nightly_at": "03:30", "rebuild": "pinned"},
    }
    async with visited(settings_for(tmp_path / "state", sections)) as ours:
        yield ours


class Quick:
    """Stands in for the builder: an image of a few bytes for each commit."""

    def __init__(self, parts: Parts, small_image: Callable[..., str]) -> None:
        self.parts = parts
        self.make = small_image

    async def check_disk(self) -> None:
        return

    async def tidy(self, row: BuildRow) -> None:
        return

    async def build(self, row: BuildRow, report: object, login: object = None) -> ImageRow:
        spec = parse_link(row.spec).with_ref(row.commit)
        identity = ImageIdentity(row.url, row.commit, row.subdir, row.platform)
        image = replace(
            blank_row(identity, spec, ref=row.asked_ref, recipe="r"),
            image_id=await asyncio.to_thread(self.make),
            name=f"littlest-binder/quick:{row.commit[:12]}",
            built_by=row.requested_by,
            build_id=row.id,
        )
        assert await self.parts.store.finish_built(row.id, image)
        await self.parts.engine.tag(image.image_id, image.name)
        await self.parts.inventory.refresh()
        return image


@pytest.fixture
def quick(parts: Parts, small_image: Callable[..., str]) -> Parts:
    """Where it does not matter what is built."""
    pipeline: Any = Quick(parts, small_image)
    parts.queue._pipeline = pipeline
    return parts


@pytest.fixture
async def newer(parts: Parts) -> AsyncIterator[Newer]:
    doing = make(parts)
    doing.start()
    yield doing
    await doing.stop()


def make(parts: Parts) -> Newer:
    credentials = Credentials(parts.settings)
    return Newer(parts.settings, parts.store, parts.inventory, parts.queue, parts.resolver, credentials)


async def built(parts: Parts, git_server: GitServer, name: str) -> str:
    mark = secrets.token_hex(8)
    git_server.new(name, {"Dockerfile": f"FROM littlest-binder/base\nENV MARK={mark}\n"})
    view = await parts.build(git_server.spec(name))
    assert view.error is None
    return view.image_id


def move_on(git_server: GitServer, name: str) -> str:
    git_server.commit(name, {"README": secrets.token_hex(8)})
    return git_server.head(name)


async def test_a_newer_commit_is_seen_and_built_beside_the_old_one(
    parts: Parts, newer: Newer, git_server: GitServer
) -> None:
    image_id = await built(parts, git_server, "course")
    [view] = await newer.look(ROOT)
    assert (view.state, view.newer_commit) == ("same", "")

    await parts.store.update_image(image_id, title="Our course", description="Summer", pinned=True)
    commit = move_on(git_server, "course")
    view, gone = await newer.look(ROOT, [image_id, "sha256:" + "f" * 64])
    assert gone.state == "gone"
    assert (view.state, view.newer_commit, view.build_id) == ("newer", commit, "")
    shown = parts.inventory.image(image_id)
    assert shown
    assert (shown.newer_commit, bool(shown.newer_looked)) == (commit, True)
    assert len(await parts.store.builds()) == 1

    [view] = await newer.look(ROOT, [image_id], build=True)
    ended = await parts.queue.finished(view.build_id)
    assert (ended.state, ended.commit) == ("built", commit)
    made = await until(lambda: succeeded(parts, ended.image_id))
    assert (made.title, made.description, made.pinned) == ("Our course", "Summer", True)
    old = await parts.store.image(image_id)
    assert old
    assert (old.pinned, old.title) == (False, "Our course")
    assert await parts.engine.image(image_id) is not None
    told = {entry.what for entry in await parts.store.audit_entries()}
    assert {"image.look", "build.update", "image.succeed"} <= told


async def succeeded(parts: Parts, image_id: str) -> Any:
    image = await parts.store.image(image_id)
    return image if image and image.title == "Our course" else None


async def test_what_cannot_be_asked_is_said_and_stops_nothing(
    quick: Parts, parts: Parts, newer: Newer, git_server: GitServer
) -> None:
    gone, there = await built(parts, git_server, "gone"), await built(parts, git_server, "there")
    git_server.path("gone").rename(git_server.path("gone").with_name("elsewhere.git"))
    commit = move_on(git_server, "there")
    found = {each.image_id: each for each in await newer.look(ROOT)}
    assert (found[gone].state, found[there].state) == ("failed", "newer")
    assert found[gone].error is not None
    assert found[there].newer_commit == commit
    shown = parts.inventory.image(gone)
    assert shown
    assert shown.newer_problem


async def test_at_night_only_what_the_rule_names_is_built(
    quick: Parts, parts: Parts, newer: Newer, git_server: GitServer
) -> None:
    pinned, other = await built(parts, git_server, "pinned"), await built(parts, git_server, "other")
    await parts.store.update_image(pinned, pinned=True)
    commit = move_on(git_server, "pinned")
    move_on(git_server, "other")
    now = datetime.now().astimezone()
    assert not await newer.night(now.replace(hour=12))
    assert await newer.night(now.replace(hour=3, minute=40))
    assert not await newer.night(now.replace(hour=3, minute=50))

    async def done() -> bool:
        return any(each.commit == commit for each in await parts.queue.list(states=["built"]))

    await until(done)
    assert len(await parts.queue.list()) == 3
    shown = parts.inventory.image(other)
    assert shown
    assert shown.newer_commit == git_server.head("other")


async def test_a_restart_in_between_loses_no_succession(
    quick: Parts, parts: Parts, git_server: GitServer
) -> None:
    image_id = await built(parts, git_server, "course")
    await parts.store.update_image(image_id, title="Our course")
    move_on(git_server, "course")
    first = make(parts)
    build = await first.build(ROOT, image_id)
    await first.stop()
    ended = await parts.queue.finished(build.id)
    assert ended.state == "built"
    second = make(parts)
    second.start()
    try:
        await until(lambda: succeeded(parts, ended.image_id))
        assert await parts.store.successors() == {}
    finally:
        await second.stop()
