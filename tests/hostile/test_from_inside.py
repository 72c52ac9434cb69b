"""What a server tries, from inside a real one; and the same where our rules do not hold."""

from __future__ import annotations

import asyncio
import re
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
import pytest_asyncio
from attempts import Attempt, exhausting, lying, reaching
from attempts.kinds import KINDS
from cis import ITEMS, Item, Server
from desktop import free_port
from host_service import HostService
from hostile_image import hostile_image
from inside import Inside, answer, program
from neighbour import PORT, Neighbour, ip
from running_hub import RunningHub
from waiting import LONG_S, until

from tljh_plugin.engine.kernel import look
from tljh_plugin.engine.network import bridge_name
from tljh_plugin.installation import instance_id

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="module")]

HIT = {"repository": "gh/test/hit/main", "storage": "ephemeral"}
MIB = 1024**2
SERVERS = {"memory_bytes": 600 * MIB, "pids": 256, "log_bytes": 2 * MIB, "shm_bytes": 64 * MIB}
PYTHON = "/srv/venv/bin/python"

ATTEMPTS = [
    pytest.param(
        attempt,
        marks=pytest.mark.attack(
            module.KIND,
            preventable=not attempt.expected,
            page=attempt.page,
            counterpart=attempt.control is not None,
        ),
        id=f"{module.KIND}: {attempt.name}",
    )
    for module in KINDS
    for attempt in module.ATTEMPTS
]
CONTROLS = [
    pytest.param(attempt, id=attempt.name)
    for module in KINDS
    for attempt in module.ATTEMPTS
    if attempt.control is not None
]

# Method and path of the hub's API; `{me}` is the attacker, `{you}` the other person.
FORBIDDEN = [
    ("GET", "/users/{you}"),
    ("GET", "/users/{you}/tokens"),
    ("GET", "/users/{me}/tokens"),
    ("GET", "/services"),
    ("GET", "/groups"),
    ("GET", "/proxy"),
    ("POST", "/users/mallory"),
    ("POST", "/users/{me}/tokens"),
    ("POST", "/users/{you}/tokens"),
    ("POST", "/users/{me}/servers/more"),
    ("POST", "/users/{you}/servers/more"),
    ("POST", "/users/{you}/activity"),
    ("DELETE", "/users/{you}/servers/two"),
    ("DELETE", "/users/{me}/servers/one"),
    ("DELETE", "/users/{you}"),
    ("POST", "/groups/binder-admin/users"),
    ("PATCH", "/users/{me}"),
    ("POST", "/shutdown"),
]
ASK = """
import json, urllib.request, urllib.error
def ask(method, path, token, body):
    data = json.dumps(body).encode() if method != 'GET' else None
    headers = {'Authorization': 'token ' + token}
    request = urllib.request.Request(place['api'] + path, data, headers, method=method)
    try:
        return urllib.request.urlopen(request, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code
"""


@pytest.fixture(scope="module")
def image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hostile_image(base_image, tmp_path_factory.mktemp("hostile")) as name:
        yield name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(image: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    home = tmp_path_factory.mktemp("hub")
    settings = {"servers": {**SERVERS, "stop_timeout_s": 1}}
    async with RunningHub(home, settings=settings, environment={"TEST_IMAGE": image}) as running:
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
        "pids": SERVERS["pids"],
        "memory": SERVERS["memory_bytes"],
        "shm": SERVERS["shm_bytes"],
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


@pytest.fixture(scope="module")
def server(attacker: Inside, client: docker.APIClient) -> Server:
    seen = look(attacker.container)
    assert seen is not None
    running = tuple(" ".join(row) for row in client.top(attacker.container["Id"])["Processes"])
    return Server(attacker.container, seen, client.info(), running)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.number} {item.subject}")
async def test_each_item_of_the_cis_benchmark_is_met_or_explained(item: Item, server: Server) -> None:
    """An explanation of what is met by now is no longer true."""
    assert item.is_met(server) is not bool(item.instead)


# -- the hub's API, with a server's own token and with another's --------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [pytest.param(*each, marks=pytest.mark.attack(reaching.KIND), id=" ".join(each)) for each in FORBIDDEN],
)
async def test_a_servers_token_opens_nothing(
    method: str, path: str, hub: RunningHub, attacker: Inside, victim: Inside
) -> None:
    """Neither with its own token nor with another server's that was stolen."""
    listener = attacker.environment["JUPYTERHUB_API_URL"]
    for thief, other in ((attacker, victim), (victim, attacker)):
        asked = path.format(me=thief.person, you=other.person)
        body = {"users": [thief.person], "admin": True, "last_activity": "2030-01-01T00:00:00Z"}
        code = f"{ASK}got = ask({method!r}, {asked!r}, place['token'], {body!r})"
        token = thief.environment["JUPYTERHUB_API_TOKEN"]
        status = await attacker.value(code, {"api": listener, "token": token})
        assert status in (403, 404), f"{method} {asked} with the token of {thief.person}: {status}"


async def test_the_same_requests_succeed_with_more_rights(hub: RunningHub, victim: Inside) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"token {hub.token}"}, timeout=LONG_S) as http:
        for path in ("/users/victim", "/users/victim/tokens", "/proxy"):
            answer = await http.get(f"http://127.0.0.1:{hub.port}/hub/api{path}")
            assert answer.status_code == 200, path


@pytest.mark.attack(reaching.KIND)
async def test_of_the_hub_only_its_api_can_be_reached(attacker: Inside) -> None:
    listener = attacker.environment["JUPYTERHUB_API_URL"].removesuffix("/hub/api")
    paths = [
        "/", "/hub/", "/hub/login", "/hub/sign-in?code=x", "/hub/admin", "/services/binder/",
        "/user/victim/two/", "/hub/api/../login", "/hub/api/%2e%2e/login", "/hub/apix", "//hub/api",
    ]  # fmt: skip
    code = """
import http.client
got = {}
for path in place['paths']:
    connection = http.client.HTTPConnection(place['host'], place['port'], timeout=60)
    connection.putrequest('GET', path, skip_host=False)
    connection.endheaders()
    got[path] = connection.getresponse().status
"""
    url = httpx.URL(listener)
    got = await attacker.value(code, {"paths": paths, "host": url.host, "port": url.port})
    assert got == dict.fromkeys(paths, 404)


# -- from the local network ---------------------------------------------------------------------------


@pytest.mark.attack(reaching.KIND)
async def test_a_machine_of_the_lan_reaches_no_server(
    lan: Neighbour, attacker: Inside, place: dict[str, Any]
) -> None:
    code = f"{reaching.KNOCK}got = answers(place['server'], 8888)"
    assert not await asyncio.to_thread(lan.value, code, {"server": attacker.address})


@pytest.mark.attack(reaching.KIND)
async def test_a_machine_of_the_lan_does_not_reach_the_listener_whatever_else_it_reaches(
    lan: Neighbour, place: dict[str, Any]
) -> None:
    """The same address answers at another port, so that the way there is open."""
    code = f"{reaching.KNOCK}got = [port for port in place['ports'] if answers(place['gateway'], port)]"
    ports = [place["listener"], place["service"]]
    got = await asyncio.to_thread(lan.value, code, {"gateway": place["gateway"], "ports": ports})
    assert got == [place["service"]]


@pytest.mark.attack(reaching.KIND)
async def test_somebody_elses_container_reaches_neither_server_nor_listener(
    image: str, attacker: Inside, place: dict[str, Any]
) -> None:
    """As a step of a build, too: both are on Docker's default bridge. Other services do answer it."""
    code = f"{reaching.KNOCK}got = [each for each in place['knock'] if answers(*each)]"
    service = [place["gateway"], place["service"]]
    knock = [[attacker.address, 8888], [place["gateway"], place["listener"]], service]
    plain = ("--user", "1000:1000")
    assert await asyncio.to_thread(by_docker_run, image, plain, code, {"knock": knock}) == [service]


# -- what is seen from this machine's side ------------------------------------------------------------


@pytest.mark.attack(lying.KIND)
async def test_labels_of_the_image_do_not_take_the_place_of_ours(hub: RunningHub, attacker: Inside) -> None:
    labels = attacker.container["Config"]["Labels"]
    said = {name.removeprefix("org.littlest-binder."): value for name, value in labels.items()}
    assert said["instance"] == instance_id(hub.settings)
    assert (said["kind"], said["person"], said["server"]) == ("server", hub.owner, "one")


@pytest.mark.attack(exhausting.KIND)
async def test_a_flood_of_output_is_not_kept(attacker: Inside) -> None:
    """362 MB in four seconds were kept once; the log of Docker's own default is without bounds."""
    await attacker.value("import os\nwith open('/proc/1/fd/1', 'wb') as out:\n    got = sum(out.write("
                         "b'x' * 79 + b'\\n') for _ in range(300000))")  # fmt: skip
    place = Path(attacker.container["LogPath"])
    kept = sum(each.stat().st_size for each in place.parent.glob(f"{place.name}*"))
    assert 0 < kept <= 1.1 * SERVERS["log_bytes"]


@pytest.mark.attack(exhausting.KIND)
async def test_a_sparse_file_takes_no_room(attacker: Inside) -> None:
    code = (
        "import os\nopen('/tmp/sparse', 'wb').truncate(2**40)\ngot = os.stat('/tmp/sparse').st_blocks * 512"
    )
    assert await attacker.value(code) < MIB


@pytest.mark.attack(exhausting.KIND)
async def test_others_work_on_while_one_server_is_exhausted(attacker: Inside, victim: Inside) -> None:
    """The victim's server runs a program and reports to the hub while the attacker has taken all it can."""
    await attacker.run(
        "import os, subprocess, sys\n"
        "burning = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(4)]\n"
        "held = []\n"
        "try:\n"
        "    while len(held) < 100_000:\n"
        "        held.append(os.open('/dev/null', os.O_RDONLY))\n"
        "except OSError:\n"
        "    pass\n"
        "for _ in range(min(50, len(held))):\n"
        "    os.close(held.pop())"
    )
    code = f"{ASK}got = ask('GET', '/user', place['token'], None)"
    token, api = (victim.environment[f"JUPYTERHUB_API_{each}"] for each in ("TOKEN", "URL"))
    assert await victim.value(code, {"api": api, "token": token}) == 200
    await attacker.run(
        "for each in held:\n    os.close(each)\nfor each in burning:\n    each.kill()\n    each.wait()"
    )


@pytest.mark.attack(lying.KIND)
async def test_a_server_that_refuses_to_end_is_ended(
    hub: RunningHub, client: docker.APIClient, attacker: Inside
) -> None:
    """It ignores the signal, and its image names one that ends nothing."""
    assert attacker.container["Config"]["StopSignal"] == "SIGTERM"
    third = await Inside(hub, "third", "three").open(client, HIT)
    # All its processes but its first, after the answer was given.
    await third.run("import subprocess\nsubprocess.Popen(['sh', '-c', 'sleep 0.2; kill -STOP -1'])")
    await until(lambda: is_silent(third))
    await hub.api().stop("third", "three")
    gone = third.container["Id"]
    await until(lambda: not client.containers(all=True, filters={"id": gone}))


async def is_silent(server: Inside) -> bool:
    try:
        async with httpx.AsyncClient(timeout=0.5) as http:
            await http.get(f"{server.origin}/api")
    except httpx.TimeoutException:
        return True
    return False
