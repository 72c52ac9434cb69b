"""Our lines at the end of somebody else's `jupyterhub_config.py`: all of theirs works on, and so do we.

The lines are those of docs/how-to/plain-jupyterhub.md, read out of the page; only the two folders are the
test's.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from desktop import free_port
from git_server import GitServer
from machine import light_files
from ruamel.yaml import YAML
from running_hub import BOTH_MAJORS
from waiting import LONG_S, until

from tljh_plugin import handover
from tljh_plugin.client import ServiceClient
from tljh_plugin.engine import Engine
from tljh_plugin.errors import BinderError
from tljh_plugin.hub_api import HubApi
from tljh_plugin.wire import Person

pytestmark = [pytest.mark.docker, pytest.mark.hub]

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "plain-jupyterhub.md"
THEIRS = Path(__file__).with_name("somebodys_config.py")


def lines_of_the_page(service: str, home: Path) -> str:
    """What the page tells to write, with folders that the test may use."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    hub, unit = blocks
    text = hub if service == "hub" else hub.rpartition("configure(")[0] + unit
    file, state = f'"{home / "binder.yaml"}"', f'"{home / "state"}"'
    assert '"/etc/jupyterhub/binder.yaml"' in text
    return text.replace('"/etc/jupyterhub/binder.yaml"', f"{file}, state_dir={state}")


class PlainHub:
    """Somebody's hub with our lines in it."""

    def __init__(self, home: Path, python: str, service: str, served: GitServer) -> None:
        self.home, self.python, self.service = home, python, service
        self.state = home / "state"
        self.robot = secrets.token_hex(16)
        ports = [free_port() for _ in range(4)]
        self.url = f"http://127.0.0.1:{ports[0]}/lab"
        self.api_url = f"http://127.0.0.1:{ports[1]}/lab/hub/api"
        self.log_path = home / "hub.log"
        (home / "templates").mkdir()
        (home / "templates" / "login.html").write_text(
            '{% extends "templates/login.html" %}'
            "{% block main %}The lab's own words{{ super() }}{% endblock %}"
        )
        reached = {key: list(value) for key, value in served.settings().items()}
        policy = {"builders": "role", "dockerfile": "everyone", **reached}
        with (home / "binder.yaml").open("w") as file:
            YAML().dump({"binder": {"servers": {"idle_s": 3600}, "policy": policy}}, file)
        (home / "jupyterhub_config.py").write_text(
            THEIRS.read_text() + "\n" + lines_of_the_page(service, home)
        )
        self.environment = {
            **os.environ,
            "SOMEBODYS_HOME": str(home),
            "SOMEBODYS_PORTS": " ".join(map(str, ports)),
            "ROBOTS_TOKEN": self.robot,
            "PYTHONUNBUFFERED": "1",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [self.python, "-m", *command],
                cwd=self.home,
                env={**self.environment, handover.STATE_VARIABLE: str(self.state)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    async def start(self) -> None:
        hub = self.run("jupyterhub", "--config", str(self.home / "jupyterhub_config.py"))

        async def is_up() -> bool:
            assert hub.poll() is None, self.log
            return "JupyterHub is now running" in self.log

        await until(is_up)
        if self.service == "unit":
            # What the unit of the page runs.
            self.run("tljh_plugin.cli", "serve")
        await until(self.service_is_up)

    async def service_is_up(self) -> bool:
        try:
            async with self.as_person("grace", admin=True) as client:
                return await client.images() is not None
        except BinderError:
            return False

    def as_person(self, name: str, *, admin: bool = False) -> ServiceClient:
        return ServiceClient(
            socket=self.state / "run" / "service.sock",
            person=Person(name=name, admin=admin),
            timeout_s=LONG_S,
        )

    def stop(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(LONG_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if (self.state / "instance").exists():
            asyncio.run(self.remove_network())

    async def stop_servers(self) -> None:
        """All of them, and their containers."""
        engine = Engine((self.state / "instance").read_text().strip())
        try:
            for each in await engine.containers():
                if engine.is_ours(each.labels):
                    await engine.remove(each.id)
        finally:
            await engine.close()

    async def remove_network(self) -> None:
        """The hub makes it as soon as Docker is there, for the firewall."""
        engine = Engine((self.state / "instance").read_text().strip())
        try:
            await engine.remove_network()
        finally:
            await engine.close()

    async def signed_in(self, name: str, password: str = "of the lab") -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            timeout=LONG_S,
            headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"},
        )
        await client.get(f"{self.url}/hub/login")
        fields = {
            "username": name,
            "password": password,
            "_xsrf": client.cookies.get("_xsrf", path="/lab/hub/"),
        }
        await client.post(f"{self.url}/hub/login", data={key: value or "" for key, value in fields.items()})
        return client


@pytest.fixture(scope="module", params=BOTH_MAJORS)
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with GitServer(tmp_path_factory.mktemp("git") / "served") as server:
        for name in ("first", "second"):
            server.new(name, light_files(name))
        yield server


@pytest.fixture(scope="module", params=["hub", "unit"])
def hub(
    request: pytest.FixtureRequest, python: str, served: GitServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlainHub]:
    running = PlainHub(tmp_path_factory.mktemp("plain"), python, request.param, served)
    try:
        asyncio.run(running.start())
        yield running
    finally:
        running.stop()
        print(running.log)


async def follow(client: httpx.AsyncClient, url: str) -> httpx.Response:
    return await client.get(url, follow_redirects=True)


async def test_their_services_roles_and_groups_are_there(hub: PlainHub) -> None:
    async with HubApi(hub.api_url, hub.robot) as robot:
        users = {user.name for user in await robot.users()}
    assert {"grace", "ada", "bob"} <= users
    async with httpx.AsyncClient(headers={"Authorization": f"token {hub.robot}"}, timeout=LONG_S) as http:
        groups = {each["name"]: each["users"] for each in (await http.get(f"{hub.api_url}/groups")).json()}
    assert groups["physics"] == ["ada"]
    assert groups["binder-builder"] == ["ada"]
    assert "binder-admin" in groups
    async with httpx.AsyncClient(timeout=LONG_S) as http:

        async def answers() -> bool:
            return (await http.get(f"{hub.url}/services/status/")).status_code != 503

        await until(answers)


async def test_their_sign_in_template_handler_and_headers_work(hub: PlainHub) -> None:
    async with httpx.AsyncClient(timeout=LONG_S) as http:
        page = await http.get(f"{hub.url}/hub/login")
        assert "The lab's own words" in page.text
        assert "Tea at four" in page.text
        assert page.headers["X-Lab"] == "ours"
        assert (await http.get(f"{hub.url}/hub/imprint")).text == "the lab's imprint"
    stranger = await hub.signed_in("eve", "guessed")
    assert (await stranger.get(f"{hub.url}/hub/home")).status_code == 302
    person = await hub.signed_in("ada")
    assert (await person.get(f"{hub.url}/hub/home")).status_code == 200


async def test_our_pages_open_for_who_signed_in_their_way(hub: PlainHub) -> None:
    person = await hub.signed_in("ada")
    front = await follow(person, f"{hub.url}/services/binder/")
    assert front.status_code == 200
    assert front.url.path == "/lab/services/binder/"
    assert 'name="binder-xsrf"' in front.text
    form = await person.get(f"{hub.url}/hub/spawn/ada")
    assert 'name="repository"' in form.text
    link = await person.get(f"{hub.url}/hub/v2/gh/owner/repo/main?urlpath=lab")
    assert link.headers["Location"] == "/lab/services/binder/v2/gh/owner/repo/main?urlpath=lab"


def test_the_settings_are_those_of_the_file(hub: PlainHub) -> None:
    given = handover.read(hub.state)
    assert given.platform == "jupyterhub"
    assert given.settings().servers.idle_s == 3600
    assert given.hub_api_url == hub.api_url
    shown = subprocess.run(
        [hub.python, "-m", "tljh_plugin.cli", "config", "show", "--said"],
        env={**os.environ, handover.STATE_VARIABLE: str(hub.state)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{hub.home / 'binder.yaml'}:3" in shown.stdout


async def spawn(person: httpx.AsyncClient, hub: PlainHub, name: str, spec: str) -> httpx.Response:
    """What the hub answers when somebody fills in its own form."""
    page = await person.get(f"{hub.url}/hub/spawn/{name}")
    action = re.search(r'action="([^"]*_xsrf[^"]*)"', page.text)
    assert action, page.text[:2000]
    return await person.post(
        str(httpx.URL(str(page.url)).join(action[1].replace("&amp;", "&"))),
        files={"kind": (None, "repository"), "repository": (None, spec)},
        follow_redirects=True,
    )


async def test_a_refusal_of_our_service_is_on_the_hubs_form(hub: PlainHub) -> None:
    answer = await spawn(await hub.signed_in("ada"), hub, "ada", "https://169.254.169.254/never")
    assert "not an address of the internet" in answer.text


async def test_who_may_build_does_so_and_everybody_starts_what_is_there(
    hub: PlainHub, served: GitServer
) -> None:
    """ada may by the group `binder-builder`, bob by their own role of that name, eve may not."""
    people = {name: await hub.signed_in(name) for name in ("eve", "ada", "bob")}

    async def runs(name: str) -> bool:
        answer = await follow(people[name], f"{hub.url}/user/{name}/")
        return (answer.status_code, answer.text) == (200, "{}")

    async def starts(name: str, spec: str) -> None:
        await spawn(people[name], hub, name, spec)
        await until(lambda: runs(name))

    first, second = (served.url(name) for name in ("first", "second"))
    refused = await spawn(people["eve"], hub, "eve", first)

    async def is_told() -> bool:
        shown = await follow(people["eve"], f"{hub.url}/hub/spawn/eve")
        return "but not have new ones built" in refused.text + shown.text

    await until(is_told)
    try:
        await starts("ada", first)
        await starts("bob", second)
        await starts("eve", first)
        async with hub.as_person("grace", admin=True) as client:
            builds = await client.builds(everyone=True)
        assert sorted(each.requested_by for each in builds if each.state == "built") == ["ada", "bob"]
    finally:
        await hub.stop_servers()


def test_the_page_names_all_that_is_changed() -> None:
    """The table is what `configure` sets in an empty configuration."""
    code = (
        "import sys, tempfile\nfrom traitlets.config import Config\n"
        "from tljh_plugin.hub import configure\nfrom tljh_plugin.settings import load_file\n"
        "c = Config()\nd = tempfile.mkdtemp()\nconfigure(c, load_file(d + '/binder.yaml', state_dir=d))\n"
        "print(*sorted(c.JupyterHub), *sorted(set(c) - {'JupyterHub'}))"
    )
    page = PAGE.read_text(encoding="utf-8")
    for python in {
        sys.executable,
        *(each.values[0] for each in BOTH_MAJORS if Path(each.values[0]).exists()),
    }:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        for name in done.stdout.split():
            assert f"`{name}`" in page, name
