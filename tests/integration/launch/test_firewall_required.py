"""A hub that must have firewall rules, on a machine where they cannot be set."""

from __future__ import annotations

import os
from pathlib import Path

import docker
import pytest
from running_hub import RunningHub

from tljh_plugin.errors import BinderError
from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL

pytestmark = [pytest.mark.docker, pytest.mark.hub]

HIT = {"repository": "gh/test/hit/main", "storage": "ephemeral"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """In which `iptables-save` fails as it does without the kernel's modules."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("iptables-save", "ip6tables-save"):
        (programs / name).write_text(
            "#!/bin/sh\necho 'Table does not exist (do you need to insmod?)' >&2\nexit 3\n"
        )
        (programs / name).chmod(0o755)
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


async def how_it_ends(hub: RunningHub) -> str:
    try:
        await hub.api().start(hub.owner, "one", HIT)
    except BinderError as error:
        return str(error)
    return str([event async for event in hub.api().progress(hub.owner, "one")][-1])


async def test_no_server_starts_without_the_rules_that_are_required(
    tmp_path: Path, base_image: str, environment: dict[str, str], client: docker.APIClient
) -> None:
    settings = {"network": {"firewall": "required"}}
    async with RunningHub(tmp_path / "home", settings=settings, environment=environment) as hub:
        assert "do you need to insmod" in await how_it_ends(hub)
        label = f"{INSTANCE_LABEL}={instance_id(hub.settings)}"
        assert client.containers(all=True, filters={"label": label}) == []


async def test_where_they_are_not_required_a_server_starts_and_the_log_says_what_is_missing(
    tmp_path: Path, base_image: str, environment: dict[str, str]
) -> None:
    async with RunningHub(tmp_path / "home", environment=environment) as hub:
        assert "'ready': True" in await how_it_ends(hub), hub.log
        assert hub.log.count("Servers run without firewall rules: iptables-save failed") == 1
