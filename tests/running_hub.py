"""A real JupyterHub for tests: our configuration, a state folder of its own, a service that tests steer."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from desktop import free_port
from ruamel.yaml import YAML
from waiting import LONG_S, until

from tljh_plugin.client import ServiceClient
from tljh_plugin.desktop import HOST, new_link
from tljh_plugin.engine import Engine
from tljh_plugin.errors import BinderError, LaunchError
from tljh_plugin.hub_api import HubApi
from tljh_plugin.installation import instance_id
from tljh_plugin.settings import Settings, load_desktop

SERVICE_PREFIX = "/services/binder/"
CONFIG = Path(__file__).with_name("hub_config.py")
# tests/run makes it.
PYTHON_5 = Path(__file__).parent / ".state" / "venv-5" / "bin" / "python"
PYTHON = os.environ.get("LITTLEST_BINDER_HUB_PYTHON", sys.executable)
needs_5 = pytest.mark.skipif(not PYTHON_5.exists(), reason=f"{PYTHON_5} is not there: tests/run makes it")
# For a fixture that starts a hub: once with each major.
BOTH_MAJORS = [
    pytest.param(PYTHON, id="jupyterhub-6"),
    pytest.param(str(PYTHON_5), id="jupyterhub-5", marks=needs_5),
]


class Localhost(httpx.AsyncHTTPTransport):
    """Resolves `*.localhost` as browsers do; the system's resolver need not."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # A copy: cookies belong to the host of the request as it was.
        there = httpx.Request(
            request.method,
            request.url.copy_with(host="127.0.0.1"),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        return await super().handle_async_request(there)


def browser(origin: str = "") -> httpx.AsyncClient:
    """A client with cookies that names itself as browsers do."""
    return httpx.AsyncClient(
        transport=Localhost(),
        base_url=origin,
        timeout=LONG_S,
        headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"},
    )


def xsrf(page: httpx.Response) -> str:
    """The token of a page of the service, which its forms send back."""
    found = re.search(r'name="binder-xsrf" content="([^"]+)"', page.text)
    assert found, page.text[:2000]
    return found[1]


class RunningHub:
    """A hub of `home`; use it as an async context manager.

    `service` is `stand-in` (steered by specs, see `stand_in.py`), `real` or `none`. `python` is the
    interpreter, so that another major of JupyterHub can be used. `become` is a command that runs it as
    somebody else.
    """

    config = CONFIG

    def __init__(
        self,
        home: Path,
        *,
        service: str = "stand-in",
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        python: str = PYTHON,
        become: Sequence[str] = (),
    ) -> None:
        self.state = home / "littlest-binder"
        self.state.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.token = secrets.token_hex(16)
        self.python = python
        self._become = tuple(become)
        given = dict(settings or {})
        section = {**given, "desktop": {**given.get("desktop", {}), "port": self.port}}
        with (self.state / "config.yaml").open("w") as file:
            YAML(typ="safe").dump({"binder": section}, file)
        self.environment = {
            **os.environ,
            "XDG_DATA_HOME": str(home),
            "LITTLEST_BINDER_STATE": str(self.state),
            "TEST_TOKEN": self.token,
            "TEST_SERVICE": service,
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self.log_path = home / "hub.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Settings:
        return load_desktop(self.state)

    @property
    def owner(self) -> str:
        return self.settings.owner

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def service_origin(self) -> str:
        return f"http://binder--service.{HOST}:{self.port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def api(self, token: str = "") -> HubApi:
        """The hub's API, with all rights that a test needs."""
        return HubApi(f"http://127.0.0.1:{self.port}/hub/api", token or self.token)

    def service_client(self, token: str) -> ServiceClient:
        """The client over the proxy, as a program elsewhere would use it."""
        client = ServiceClient(url=f"http://127.0.0.1:{self.port}{SERVICE_PREFIX}", token=token)
        client._http.headers["Host"] = self.service_origin.removeprefix("http://")
        return client

    async def service_answers(self) -> None:
        """Wait for the real service."""
        async with httpx.AsyncClient(timeout=LONG_S) as http:
            health = f"http://127.0.0.1:{self.port}{SERVICE_PREFIX}api/v1/health"
            host = {"Host": self.service_origin.removeprefix("http://")}

            async def answers() -> bool:
                answer = await http.get(health, headers=host)
                # A 503 with JSON is the service's own, one without the proxy's.
                return "application/json" in answer.headers.get("Content-Type", "")

            await until(answers)

    async def person(self, name: str) -> str:
        """A token of a person who is made if need be."""
        sign_in = {"Authorization": f"token {self.token}"}
        async with httpx.AsyncClient(headers=sign_in, timeout=LONG_S) as http:
            url = f"http://127.0.0.1:{self.port}/hub/api/users/{name}"
            await http.post(url)
            answer = await http.post(f"{url}/tokens", json={"note": "test"})
            answer.raise_for_status()
            return str(answer.json()["token"])

    async def refusal(self, options: dict[str, Any] | None, server: str = "one") -> str:
        """What a start is refused with: at once, or at its end if a busy hub had answered by then."""
        api = self.api()
        try:
            await api.start(self.owner, server, options)
        except BinderError as error:
            return "it did not come as a value" if type(error) is LaunchError else str(error)
        last = [event async for event in api.progress(self.owner, server)][-1]
        assert last.get("failed"), self.log
        return str(last["message"])

    async def signed_in(self) -> httpx.AsyncClient:
        """The owner's browser, signed in at the hub."""
        client = browser(self.origin)
        answer = await client.get(new_link(self.settings, "/hub/home"))
        assert answer.status_code == 302, answer.text
        return client

    def _start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._become, self.python, "-m", "jupyterhub", "--config", str(self.config)],
                cwd=self.state,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def start_again(self) -> None:
        """After `stop`: the same hub once more."""
        self.log_path.write_text("")
        await self.__aenter__()

    async def __aenter__(self) -> RunningHub:
        self._start()
        try:
            await until(self._is_up)
        except BaseException:
            await self.stop()
            print(self.log)
            raise
        return self

    async def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the hub ended:\n{self.log}"
        return "JupyterHub is now running" in self.log

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        engine = Engine(instance_id(self.settings))
        try:
            left = [each.name for each in await engine.containers() if engine.is_ours(each.labels)]
            for name in left:
                await engine.remove(name)
            await engine.remove_network()
        finally:
            await engine.close()
        assert not left, f"containers left behind by the hub: {left}"

    async def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            await asyncio.to_thread(self.process.wait, LONG_S)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
