"""A person works, everything is backed up while the hub runs, all is lost, and comes back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer
from machine import Machine, content, light_files

from tljh_plugin.build.base import ensure_base

pytestmark = [pytest.mark.docker, pytest.mark.hub]

DOCKER = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
NOTE = b"three months of work\n"
SECTION = {"retention": {"enabled": False, "min_age_hours": 0}}


def command(state: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tljh_plugin.cli", *arguments, "--json"],
        env={**os.environ, "LITTLEST_BINDER_STATE": str(state)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    said: dict[str, Any] = json.loads(done.stdout)
    return said


async def asked(state: Path, *arguments: str) -> dict[str, Any]:
    return await asyncio.to_thread(command, state, *arguments)


@pytest.mark.parametrize("images", [True, False], ids=["with-images", "without-images"])
async def test_everything_lost_comes_back_and_a_server_starts_with_it(
    tmp_path: Path, git_server: GitServer, images: bool
) -> None:
    machine = Machine(tmp_path / "lab", git_server, DOCKER, SECTION)
    await ensure_base(machine.settings, lambda line: None)
    file = tmp_path / "kept" / "backup.tar.gz"
    async with machine:
        git_server.new("course", light_files("course"))
        spec = git_server.spec("course")
        await machine.ready("one", spec)
        [(name, home)] = machine.projects().items()
        (home / "note.txt").write_bytes(NOTE)
        # The server runs, and so do hub and service.
        made = await asked(
            machine.state, "backup", str(file), "--projects", *(["--images"] if images else [])
        )
        assert [each["again"] for each in made["images"]] == ["file" if images else "build"]
        before = content(home)
        await machine.gone("one")
        [image] = machine.rows("SELECT * FROM images")
        users = machine.hub_folder / "jupyterhub.sqlite"
        assert made["hub_database"]

        # All of it is lost: processes, state, people's files, hub, image.
        await machine._end()
        shutil.rmtree(machine.state)
        users.unlink()
        engine = type(machine.engine)(machine.engine.instance, base_url=DOCKER)
        await engine.remove_image(image["image_id"], names=[image["name"]])
        await engine.close()

        machine.settings.state_dir.mkdir()
        (machine.state / "run").mkdir()
        _hand_over(machine)
        said = await asked(machine.state, "restore", str(file), "--yes")
        assert [each["action"] for each in said["projects"]] == ["new"]
        assert [each["problem"] for each in said["images"]] == ([""] if images else [])
        [(name_again, home_again)] = machine.projects().items()
        assert (name_again, home_again) == (name, home)
        assert content(home_again) == before
        assert users.exists()
        (machine.state / "run" / "service.json").unlink()  # the hub writes its own

        machine.engine = type(machine.engine)(machine.engine.instance, base_url=DOCKER)
        starting = [asyncio.create_task(each) for each in (machine.start_service(), machine.start_hub())]
        await asyncio.gather(*starting)
        await machine.ready("one", spec)
        [running] = [row for row in machine.rows("SELECT * FROM images") if row["image_id"]][-1:]
        if images:
            assert running["image_id"] == image["image_id"]
        assert (home_again / "note.txt").read_bytes() == NOTE
        assert content(home_again).items() >= {"note.txt": before["note.txt"]}.items()
        await machine.gone("one")


def _hand_over(machine: Machine) -> None:
    """What a fresh hub of somebody's own configuration says when it is started once."""
    from tljh_plugin import handover

    handover.write(
        handover.Handover(
            platform="jupyterhub",
            state_dir=machine.state,
            section=machine.section,
            hub_database=str(machine.hub_folder / "jupyterhub.sqlite"),
            cookie_secret_file=str(machine.state / "cookie_secret"),
        )
    )
