"""Uninstalling with a real Docker: what is ours goes, what is somebody else's stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from git_server import GitServer
from machine import Machine, content, light_files

from tljh_plugin.build.base import ensure_base
from tljh_plugin.engine import Engine
from tljh_plugin.engine.network import network_name

pytestmark = [pytest.mark.docker, pytest.mark.hub]

DOCKER = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
SECTION = {"retention": {"enabled": False, "min_age_hours": 0}}


def binder(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tljh_plugin.cli", *arguments],
        env={**os.environ, "LITTLEST_BINDER_STATE": str(state)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


async def test_files_and_images_stay_and_the_rest_goes(tmp_path: Path, git_server: GitServer) -> None:
    machine = Machine(tmp_path / "lab", git_server, DOCKER, SECTION)
    await ensure_base(machine.settings, lambda line: None)
    async with machine:
        git_server.new("course", light_files("course"))
        await machine.ready("one", git_server.spec("course"))
        [(_, home)] = machine.projects().items()
        before = content(home)
        refused = binder(machine.state, "uninstall", "--yes")
        assert refused.returncode == 1
        assert "ann/one" in refused.stderr
        # Hub and service are gone; the server's container and the network are there.
        await machine.kill_service()
        await machine.kill_hub()
        machine.kill_proxy()

        done = binder(machine.state, "uninstall", "--stop-servers", "--json")
        assert done.returncode == 0, done.stderr
        assert any("container" in each for each in json.loads(done.stdout)["removed"])
        assert content(home) == before
        [image] = machine.rows("SELECT * FROM images")
        machine.engine = Engine(machine.engine.instance, base_url=DOCKER)
        assert not [row for row in await machine.engine.containers() if machine.engine.is_ours(row.labels)]
        assert await machine.engine.network() is None
        assert await machine.engine.image(image["image_id"]) is not None

        # The image has a name of somebody else's: then it stays even when all is erased.
        await machine.engine.tag(image["image_id"], "somebody/else:1")
        again = binder(machine.state, "uninstall", "--erase-data", "--yes", "--json")
        assert again.returncode == 0, again.stderr
        assert any("names of others" in each for each in json.loads(again.stdout)["left"])
        facts = await machine.engine.image("somebody/else:1")
        assert facts is not None
        assert facts.tags == ("somebody/else:1",)
        assert not machine.state.exists()
        assert network_name(machine.engine.instance)
        await machine.engine.remove_image(facts.id, names=["somebody/else:1"])
