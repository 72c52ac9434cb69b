"""Docker Desktop, rootless Docker and the like, played by the real Docker with other words about itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from desktop import Desktop
from docker_proxy import DockerProxy

from tljh_plugin.engine.threads import in_thread

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "installer"))

from steps import engine, machine
from steps.machine import DockerFound

pytestmark = pytest.mark.docker


def docker_desktop(said: dict[str, Any]) -> None:
    said |= {"OperatingSystem": "Docker Desktop", "KernelVersion": "6.10.14-linuxkit"}


def rootless(said: dict[str, Any]) -> None:
    said["SecurityOptions"] = ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]
    said["DockerRootDir"] = "/home/ada/.local/share/docker"


def snap(said: dict[str, Any]) -> None:
    said["DockerRootDir"] = "/var/snap/docker/common/var-lib-docker"


@pytest.mark.parametrize(
    ("play", "reason"), [(docker_desktop, "Docker Desktop"), (rootless, "rootless"), (snap, "snap")]
)
async def test_it_is_refused_by_up_and_by_the_installer_with_the_reason(
    play: Callable[[dict[str, Any]], None], reason: str, tmp_path: Path, client: docker.APIClient
) -> None:
    before = client.info()
    async with DockerProxy(tmp_path / "docker.sock") as proxy:
        proxy.answer["GET /info"] = play
        desktop = Desktop(tmp_path / "home")
        desktop.environment["DOCKER_HOST"] = proxy.host
        done = await in_thread(lambda: desktop.command("up", "--no-browser"))
        assert done.returncode == 1, done.stdout
        assert reason in done.stderr
        assert "unset DOCKER_HOST" in done.stderr, "the way back"
        assert desktop.processes() == []
        facts = await in_thread(lambda: engine.ask(str(proxy.path)))
        assert facts is not None
        assert facts.version == before["ServerVersion"]
        problem = machine.judge_docker(DockerFound(proxy.host, "the variable DOCKER_HOST", facts))
        assert problem is not None
        assert reason.lower() in problem.what.lower()


def test_a_docker_on_another_machine_is_refused_by_up_before_anything_is_asked(tmp_path: Path) -> None:
    desktop = Desktop(tmp_path)
    desktop.environment["DOCKER_HOST"] = "tcp://192.0.2.1:2375"
    done = desktop.command("up", "--no-browser")
    assert done.returncode == 1
    assert "tcp://192.0.2.1:2375" in done.stderr


def test_it_is_not_served_to_others(tmp_path: Path) -> None:
    desktop = Desktop(tmp_path)
    done = desktop.command("up", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "no passwords" in done.stderr
    assert "serve-a-room" in done.stderr
    assert desktop.processes() == []
