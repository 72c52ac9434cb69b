"""The limit of what a person may keep, set while their server runs, on a real hub."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from running_hub import RunningHub
from waiting import until

from tljh_plugin.client import ServiceClient
from tljh_plugin.errors import BinderError
from tljh_plugin.settings import MIB

pytestmark = [pytest.mark.hub, pytest.mark.docker]


async def test_who_keeps_too_much_starts_nothing_that_keeps_more_and_loses_nothing(
    tmp_path: Path, base_image: str, build_image: Callable[..., str]
) -> None:
    name = build_image(f"FROM littlest-binder/base\nENV MARK={secrets.token_hex(8)}\n")
    policy = {"images": "listed", "image_names": ["littlest-binder-test/*"]}
    settings = {"policy": policy, "storage": {"measure_every_s": 0.5}}
    async with RunningHub(tmp_path, service="real", settings=settings) as hub:
        await hub.service_answers()
        async with hub.service_client(await hub.person(hub.owner)) as owner:
            adopted = await owner.adopt(name)
            assert await launch(owner, adopted.spec, "one") == "ready"
            [home] = hub.settings.storage_root.glob("*/*/home")
            data = home / "data.bin"
            data.write_bytes(os.urandom(2 * MIB))

            async def measured() -> bool:
                return (await owner.storage()).used_bytes > 2 * MIB

            await until(measured, 90)
            limit(hub, MIB)
            assert (await launch(owner, adopted.spec, "two")).startswith("storage-full: You keep 2")
            assert await launch(owner, adopted.spec, "nothing-kept", storage="ephemeral") == "ready"

            async with hub.api() as api:
                servers = await api.servers(hub.owner)
                assert {each for each in servers if servers[each].ready} == {"one", "nothing-kept"}
                assert data.stat().st_size == 2 * MIB
                for server in servers:
                    await api.stop(hub.owner, server)
    await asyncio.to_thread(
        subprocess.run, ["docker", "image", "rm", adopted.name], check=True, capture_output=True
    )


async def launch(owner: ServiceClient, spec: str, server: str, **options: str) -> str:
    """How it ended; a start may fail before the hub has answered, or afterwards."""
    try:
        launched = await owner.launch({"repository": spec, **options}, server=server)
    except BinderError as error:
        return f"{error.code}: {error}"
    last = [event async for event in owner.launch_events(launched.server)][-1]
    return f"{last.error.code}: {last.error.message}" if last.error else last.type


def limit(hub: RunningHub, most: int) -> None:
    """Write it into the settings' file, as an administrator does; nothing is restarted."""
    place = hub.state / "config.yaml"
    document = YAML(typ="safe").load(place)
    document["binder"]["storage"]["max_bytes_per_person"] = most
    with place.open("w") as file:
        YAML(typ="safe").dump(document, file)
