"""A kernel in a running server, used as its person uses it: code goes in, what it found comes out."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from typing import Any

import docker
import httpx
from running_hub import RunningHub
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL

_MARK = "the answer is "


def program(code: str, place: Mapping[str, Any] | None = None) -> str:
    """A Python program that runs `code`, which may use `place` and sets `got`, and prints `got` as JSON."""
    lines = [f"place = {dict(place or {})!r}", "got = None", code]
    return "\n".join([*lines, f"import json; print({_MARK!r} + json.dumps(got), flush=True)"])


def answer(output: str) -> Any:
    """What such a program found."""
    found = [line for line in output.splitlines() if line.startswith(_MARK)]
    assert found, f"it found nothing:\n{output}"
    return json.loads(found[-1].removeprefix(_MARK))


class Inside:
    """A running server of `person`; `open` starts a kernel in it."""

    def __init__(self, hub: RunningHub, person: str, server: str) -> None:
        self.hub = hub
        self.person = person
        self.server = server
        self.container: dict[str, Any] = {}
        self._token = ""
        self._kernel = ""

    @property
    def address(self) -> str:
        """In our network."""
        (network,) = self.container["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    @property
    def environment(self) -> dict[str, str]:
        """What the server was started with."""
        return dict(each.partition("=")[::2] for each in self.container["Config"]["Env"])

    @property
    def origin(self) -> str:
        """Where this machine reaches it."""
        return f"http://{self.address}:8888/user/{self.person}/{self.server}"

    async def open(self, client: docker.APIClient, options: Mapping[str, Any]) -> Inside:
        """Start the server, and a kernel in it."""
        self._token = await self.hub.person(self.person)
        api = self.hub.api()
        await api.start(self.person, self.server, dict(options))
        said = [event async for event in api.progress(self.person, self.server)]
        assert said[-1].get("ready"), f"{said[-1]}\n{self.hub.log}"
        labels = [
            f"{INSTANCE_LABEL}={instance_id(self.hub.settings)}",
            f"org.littlest-binder.person={self.person}",
            f"org.littlest-binder.server={self.server}",
        ]
        (row,) = client.containers(filters={"label": labels})
        self.container = client.inspect_container(row["Id"])
        async with httpx.AsyncClient(headers=self._headers, timeout=60) as http:
            made = await http.post(f"{self.origin}/api/kernels", json={"name": "python3"})
        made.raise_for_status()
        self._kernel = made.json()["id"]
        return self

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self._token}"}

    async def run(self, code: str, timeout_s: float = 120) -> str:
        """What `code` prints, errors included."""
        url = f"{self.origin.replace('http', 'ws', 1)}/api/kernels/{self._kernel}/channels"
        channel = await websocket_connect(HTTPRequest(url, headers=self._headers))
        try:
            identifier = secrets.token_hex(8)
            header = {"msg_id": identifier, "msg_type": "execute_request", "session": identifier}
            header |= {"username": "", "version": "5.3", "date": "2026-01-01T00:00:00Z"}
            content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
            content |= {"user_expressions": {}, "stop_on_error": False}
            request = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
            await channel.write_message(json.dumps({**request, "channel": "shell", "buffers": []}))
            return await asyncio.wait_for(_output(channel, identifier), timeout_s)
        finally:
            channel.close()

    async def value(self, code: str, place: Mapping[str, Any] | None = None, timeout_s: float = 120) -> Any:
        """What `code` sets `got` to."""
        return answer(await self.run(program(code, place), timeout_s))


async def _output(channel: Any, identifier: str) -> str:
    said = ""
    while True:
        text = await channel.read_message()
        assert text is not None, f"the server closed the connection after:\n{said}"
        message = json.loads(text)
        if message["parent_header"].get("msg_id") != identifier:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            said += content["text"]
        elif message["msg_type"] == "error":
            said += "\n".join(content["traceback"])
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            return said
