"""An image that was built elsewhere, from the administrator's word to a person's server, on a real hub."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from running_hub import SERVICE_PREFIX as PREFIX
from running_hub import RunningHub
from waiting import until

from tljh_plugin.errors import Forbidden, PolicyRefused

pytestmark = [pytest.mark.hub, pytest.mark.docker]


async def test_an_adopted_image_is_launched_by_its_link(
    tmp_path: Path, base_image: str, build_image: Callable[..., str]
) -> None:
    name = build_image(f"FROM littlest-binder/base\nENV MARK={secrets.token_hex(8)}\n")
    policy = {"images": "listed", "image_names": ["littlest-binder-test/*"]}
    async with RunningHub(tmp_path, service="real", settings={"policy": policy}) as hub:
        await hub.service_answers()
        async with hub.service_client(await hub.person(hub.owner)) as owner:
            assert name in [each for found in await owner.adoptable() for each in found.names]
            with pytest.raises(PolicyRefused):
                await owner.adopt("littlest-binder/base:latest")
            adopted = await owner.adopt(name, title="Our course")
            assert (adopted.adopted, adopted.title, adopted.spec) == (True, "Our course", f"image/{name}")
            assert name not in [each for found in (await owner.rescan()).proposals for each in found.names]

            launched = await owner.launch({"repository": adopted.spec}, server="course")
            events = [event async for event in owner.launch_events(launched.server)]
            assert (events[-1].type, events[-1].error) == ("ready", None)
            [image] = [each for each in await owner.images() if each.id == adopted.id]
            assert image.users == (f"{hub.owner}/course",)
            assert (await owner.projects())[0].repository == adopted.spec
        async with hub.service_client(await hub.person("bob")) as bob:
            with pytest.raises(Forbidden):
                await bob.adoptable()
        async with aclosing(await hub.signed_in()) as client:
            front = await client.get(hub.service_origin + PREFIX, follow_redirects=True)
            assert "Our course" in front.text
            page = await client.get(f"{hub.service_origin}{PREFIX}v2/{adopted.spec}", follow_redirects=True)
            assert page.status_code == 200
            assert adopted.id.removeprefix("sha256:")[:12] in page.text
        async with hub.api() as api:
            await api.stop(hub.owner, "course")
        await until(lambda: nobody_uses(hub, adopted.id))
        command = ["docker", "image", "rm", adopted.name]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)


async def nobody_uses(hub: RunningHub, image_id: str) -> bool:
    async with hub.service_client(await hub.person(hub.owner)) as owner:
        return [each.users for each in await owner.images() if each.id == image_id] == [()]
