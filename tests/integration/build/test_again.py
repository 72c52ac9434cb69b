"""Building again: without cache, what failed, and an image anew."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer
from installation_parts import ANN, Parts, settings_for, visited

from tljh_plugin.service.again import Again
from tljh_plugin.service.lookups import Lookups
from tljh_plugin.source.credentials import Credentials

pytestmark = pytest.mark.docker

STEP = "RUN head -c 8 /dev/urandom | base64 > /tmp/chance"


@pytest.fixture
async def parts(tmp_path: Path, git_server: GitServer, base_image: str) -> AsyncIterator[Parts]:
    policy = {**git_server.settings(), "dockerfile": "everyone"}
    async with visited(settings_for(tmp_path / "state", {"policy": policy})) as ours:
        yield ours


def again(parts: Parts) -> Again:
    no_projects: Any = None
    lookups = Lookups(
        parts.settings, parts.resolver, parts.queue, no_projects, Credentials(parts.settings), parts.inventory
    )
    return Again(lookups, parts.queue, parts.inventory)


async def test_without_cache_every_step_is_run_again(parts: Parts, git_server: GitServer) -> None:
    mark = secrets.token_hex(8)
    git_server.new("chance", {"Dockerfile": f"FROM littlest-binder/base\nENV MARK={mark}\n{STEP}\n"})
    first = await parts.build(git_server.spec("chance"))
    assert first.error is None
    doing = again(parts)
    cached = await parts.queue.finished((await doing.rebuild(ANN, first.image_id)).id)
    assert cached.image_id == first.image_id
    anew = await parts.queue.finished((await doing.rebuild(ANN, first.image_id, no_cache=True)).id)
    assert anew.error is None
    assert anew.image_id != first.image_id
    assert {each.id for each in parts.inventory.images()} == {first.image_id, anew.image_id}


async def test_a_failed_build_is_tried_again_at_its_commit(parts: Parts, git_server: GitServer) -> None:
    mark = secrets.token_hex(8)
    git_server.new("failing", {"Dockerfile": f"FROM littlest-binder/base\nENV MARK={mark}\nRUN false\n"})
    failed = await parts.build(git_server.spec("failing"))
    assert failed.state == "failed"
    git_server.commit("failing", {"README": "later"})
    retried = await again(parts).retry(ANN, failed.id)
    assert (retried.id != failed.id, retried.commit) == (True, failed.commit)
    assert (await parts.queue.finished(retried.id)).state == "failed"
