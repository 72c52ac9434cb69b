"""What a server tries, from inside a real one; and the same where our rules do not hold."""

from __future__ import annotations

import asyncio
import re
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import docker
import httpx
import pytest
import pytest_asyncio
from attempts import Attempt, becoming_root, leaving, reaching
from desktop import free_port
from host_service import HostService
from hostile_image import a_disk, hostile_image
from inside import Inside, answer, program
from neighbour import PORT, Neighbour, ip
from running_hub import RunningHub

from tljh_plugin.engine.network import bridge_name
from tljh_plugin.installation import instance_id

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="module")]

HIT = {"repository": "gh/test/hit/main", "storage": "ephemeral"}
SETTINGS = {"servers": {"memory_bytes": 600 * 1024**2, "pids": 256, "log_bytes": 2 * 1024**2}}
PYTHON = "/srv/venv/bin/python"

ATTEMPTS = [
    pytest.param(
        attempt,
        marks=pytest.mark.attempt(module.KIND, preventable=not attempt.expected),
        id=f"{module.KIND}: {attempt.name}",
    )
    for module in (becoming_root, leaving, reaching)
    for attempt in module.ATTEMPTS
]
CONTROLS = [
    pytest.param(attempt, id=attempt.name)
    for module in (becoming_root, leaving, reaching)
    for attempt in module.ATTEMPTS
    if attempt.control is not None
]


@pytest.fixture(scope="module")
def image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hostile_image(base_image, tmp_path_factory.mktemp("hostile")) as name:
        yield name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(image: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    home = tmp_path_factory.mktemp("hub")
    async with RunningHub(home, settings=SETTINGS, environment={"TEST_IMAGE": image}) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacker(hub: RunningHub, client: docker.APIClient) -> Inside:
    return await Inside(hub, hub.owner, "one").open(client, HIT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def victim(hub: RunningHub, client: docker.APIClient) -> Inside:
    return await Inside(hub, "victim", "two").open(client, HIT)


@pytest.fixture(scope="module")
def lan() -> Iterator[Neighbour]:
    with Neighbour() as machine:
        yield machine


@pytest.fixture(scope="module")
def service() -> Iterator[HostService]:
    with HostService() as running:
        yield running


@pytest.fixture(scope="module")
def published(base_image: str) -> Iterator[int]:
    """A port that somebody else's container publishes."""
    port, name = free_port(), f"lb-test-published-{secrets.token_hex(4)}"
    command = ["docker", "run", "--detach", "--rm", "--name", name, "--publish", f"{port}:8000"]
    serve = ["--entrypoint", PYTHON, base_image, "-m", "http.server", "8000", "--directory", "/tmp"]
    subprocess.run([*command, *serve], check=True, capture_output=True)
    yield port
    subprocess.run(["docker", "rm", "--force", name], check=True, capture_output=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    hub: RunningHub,
    attacker: Inside,
    victim: Inside,
    lan: Neighbour,
    service: HostService,
    published: int,
) -> dict[str, Any]:
    """All that an attacker could ever find out."""
    (network,) = attacker.container["NetworkSettings"]["Networks"].values()
    bridge = bridge_name(instance_id(hub.settings))
    listener = httpx.URL(attacker.environment["JUPYTERHUB_API_URL"])
    hub_port = re.search(r"Hub API listening on http://127\.0\.0\.1:(\d+)", hub.log)
    assert hub_port
    for address in (network["Gateway"], attacker.address):
        lan.route(f"{address}/32")
    # Addresses of this machine, but not those on networks that others made.
    addresses = [
        words[3].split("/")[0]
        for words in map(str.split, ip("-4", "-o", "addr").splitlines())
        if words[1] in (bridge, lan.name, "docker0") or not re.match(r"lo$|lb|br-|veth", words[1])
    ]
    link_local = [
        words[3].split("/")[0]
        for interface in (bridge, "docker0")
        for words in map(str.split, ip("-6", "-o", "addr", "show", interface, "scope", "link").splitlines())
    ]
    assert len(link_local) == 2
    return {
        "addresses": addresses,
        "link_local": link_local,
        "bridge": bridge,
        "gateway": network["Gateway"],
        "listener": listener.port,
        "hub_port": int(hub_port[1]),
        "proxy_port": hub.port,
        "service": service.port,
        "published": published,
        "victim": victim.address,
        "metadata": [lan.metadata],
        "lan": lan.address,
        "lan_port": PORT,
        "public": lan.public,
        "disk": a_disk(),
    }


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_a_server_gets_only_what_the_security_page_says(
    attempt: Attempt, attacker: Inside, place: dict[str, Any]
) -> None:
    got = await attacker.value(attempt.code, place)
    assert bool(got) is attempt.expected, f"{attempt.name}: {got!r}"


@pytest.mark.parametrize("attempt", CONTROLS)
async def test_it_would_get_it_without_the_rule(attempt: Attempt, image: str, place: dict[str, Any]) -> None:
    """In a container of the same image that somebody starts by `docker run`."""
    assert attempt.control is not None
    assert await asyncio.to_thread(by_docker_run, image, attempt.control, attempt.code, place)


def by_docker_run(image: str, arguments: tuple[str, ...], code: str, place: dict[str, Any]) -> Any:
    command = ["docker", "run", "--rm", *arguments, "--entrypoint", PYTHON, image, "-c", program(code, place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return answer(done.stdout + done.stderr)
