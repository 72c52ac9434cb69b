"""What others do with a real Docker is in the list within seconds, long before the next look at all."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import docker
import installation_parts
import pytest
from installation_parts import Parts, settings_for, visited
from waiting import until

from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.cache.claims import blank_row
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.listing import Listed
from tljh_plugin.source.spec import parse_link

pytestmark = pytest.mark.docker

SECONDS = 120.0  # on a busy machine; by itself it looks at all of Docker once an hour here
_COMMIT = "6" * 40


@pytest.fixture
async def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Parts]:
    rarely = partial(Inventory, period_s=3600)
    monkeypatch.setattr(installation_parts, "Inventory", rarely)
    async with visited(settings_for(tmp_path / "state", {})) as ours:
        yield ours


def listed(parts: Parts, image_id: str) -> Listed | None:
    return next((each for each in parts.inventory.listed() if each.id == image_id), None)


async def test_it_is_in_the_list_within_seconds(
    parts: Parts, client: docker.APIClient, small_image: Callable[..., str]
) -> None:
    image_id = small_image("CMD /nothing")
    await until(lambda: listed(parts, image_id), SECONDS)
    name = f"littlest-binder-test/{secrets.token_hex(6)}:1"
    client.tag(image_id, *name.rsplit(":", 1))
    await until(lambda: (found := listed(parts, image_id)) and name in found.name, SECONDS)
    container = client.create_container(image_id)["Id"]
    await until(lambda: (found := listed(parts, image_id)) and found.in_use, SECONDS)
    client.remove_container(container)
    await until(lambda: (found := listed(parts, image_id)) and not found.in_use, SECONDS)

    spec = parse_link(f"gh/owner/behind/{_COMMIT}")
    identity = ImageIdentity(spec.normal_url, _COMMIT, "", "linux/amd64")
    row = replace(blank_row(identity, spec, ref="", recipe=""), image_id=image_id, name=name)
    await parts.store.record_image(row, "root", "image.adopt")
    await parts.inventory.refresh()
    assert [each.id for each in parts.inventory.images()] == [image_id]
    await asyncio.to_thread(client.remove_image, image_id, force=True)
    await until(lambda: not parts.inventory.images(), SECONDS)
    assert listed(parts, image_id) is None
