"""A Docker that isolates a server less than it was told: on a real hub that server does not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker
import pytest
from docker_proxy import DockerProxy
from running_hub import RunningHub

from tljh_plugin.errors import IsolationBroken
from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL

pytestmark = [pytest.mark.docker, pytest.mark.hub]

CREATE = "POST /containers/create"


def weaken(asked: dict[str, Any]) -> None:
    """What a plugin of the engine, or somebody between us and it, could make of a request."""
    asked["HostConfig"].pop("CapDrop")
    asked["HostConfig"]["PidsLimit"] = 100_000


async def refused(hub: RunningHub) -> dict[str, Any]:
    """Why a start failed: told by the start itself where that was quicker than the hub's answer."""
    try:
        await hub.api().start(hub.owner, "one", {"repository": "gh/test/hit/main"})
    except IsolationBroken as error:
        return error.to_dict()
    events = [event async for event in hub.api().progress(hub.owner, "one")]
    assert events[-1].get("failed"), hub.log
    [told] = [event["error"] for event in events if event.get("error")]
    return dict(told)


async def test_a_server_that_is_less_isolated_than_asked_is_stopped(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    async with (
        DockerProxy(tmp_path / "proxy.sock") as proxy,
        RunningHub(tmp_path, environment={"DOCKER_HOST": proxy.host}) as hub,
    ):
        proxy.rewrite[CREATE] = weaken
        error = await refused(hub)
        assert error["code"] == "isolation-broken", hub.log
        assert "capabilities were not dropped" in error["message"]
        assert "100000" in error["message"]
        label = f"{INSTANCE_LABEL}={instance_id(hub.settings)}"
        assert client.containers(all=True, filters={"label": label}) == []
        assert CREATE in [each.what for each in proxy.calls], "the server was made by another way"
