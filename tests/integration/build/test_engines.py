"""The whole way of a build on a newer Docker, with both ways in which it keeps images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import NEXT, NEXT_CONTAINERD, Kind, private
from git_server import GitServer
from installation_parts import BOB, settings_for, visited
from private_docker import PrivateDocker

from tljh_plugin.build.base import BASE, BaseImage, base_name
from tljh_plugin.build.identity import verify
from tljh_plugin.installation import secret

DEBIAN = "littlest-binder/debian:bookworm"

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module", params=[NEXT, NEXT_CONTAINERD], ids=str)
def machine(
    request: pytest.FixtureRequest, base: BaseImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateDocker]:
    kind: Kind = request.param
    with private(kind, tmp_path_factory.mktemp("engine")) as docker:
        docker.copy_in(DEBIAN)
        docker.copy_flat(base.name)
        docker.docker("tag", base.name, f"{BASE}:latest")
        yield docker


async def test_a_repository_becomes_an_image_and_then_a_hit(
    machine: PrivateDocker, git_server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", machine.host)
    git_server.new("small", {"Dockerfile": "FROM littlest-binder/base\nRUN echo more > /home/jovyan/more\n"})
    spec = git_server.spec("small")
    policy = {**git_server.settings(), "dockerfile": "everyone"}
    sections = {"policy": policy, "servers": {"uid": 1000, "gid": 1000}}
    settings = settings_for(tmp_path / "state", sections)
    # The other store has Debian under another id, and the name of our base follows from that.
    machine.docker("tag", f"{BASE}:latest", await base_name(settings))
    async with visited(settings) as parts:
        view = await parts.build(spec)
        assert view.error is None, [line.text for line in await parts.log(view.id)]
        facts = await parts.engine.image(view.image_name)
        assert facts
        assert facts.id == view.image_id
        assert verify(facts.labels, secret(parts.settings))
        hit = await parts.request(spec, BOB)
        assert (hit.hit, hit.image_id) == (True, view.image_id)
