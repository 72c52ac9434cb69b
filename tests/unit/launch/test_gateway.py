"""The servers' way to the hub passes the hub's API and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from desktop import free_port
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from waiting import LONG_S, until

from tljh_plugin.errors import SettingsError
from tljh_plugin.launch.gateway import Gateway, is_api_path


class Hub(RequestHandler):
    """Says what it was asked."""

    def get(self, **_: Any) -> None:
        if self.request.path.endswith("/large"):
            self.write(b"x" * (17 * 1024 * 1024))
            return
        self.set_status(201)
        self.set_header("X-JupyterHub-Version", "6")
        self.set_header("Set-Cookie", "hub=secret")
        headers = dict(self.request.headers.get_all())
        said = {"uri": self.request.uri, "headers": headers, "body": self.request.body.decode()}
        self.finish(json.dumps({"method": self.request.method, **said}))

    post = put = patch = delete = get

    def check_xsrf_cookie(self) -> None: ...


@asynccontextmanager
async def hub() -> AsyncIterator[str]:
    (listener,) = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([(r".*", Hub)]), max_body_size=100 * 1024 * 1024)
    server.add_socket(listener)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.fixture
async def way(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    gateway = Gateway(0, tmp_path / "port")
    async with hub() as address:
        url = await gateway.open("127.0.0.1", address, "/hub/")
        async with httpx.AsyncClient(base_url=url, timeout=LONG_S) as client:
            yield client
        await gateway.close()


async def test_the_api_passes_with_its_token_and_without_cookies(way: httpx.AsyncClient) -> None:
    answer = await way.post(
        "/hub/api/users/a%20b/activity?x=%2F",
        headers={"Authorization": "token t", "Cookie": "a=b", "X-Forwarded-For": "1.2.3.4"},
        content=b'{"a": 1}',
    )
    said = answer.json()
    assert answer.status_code == 201
    assert answer.headers["X-JupyterHub-Version"] == "6"
    assert "Set-Cookie" not in answer.headers
    assert (said["method"], said["uri"]) == ("POST", "/hub/api/users/a%20b/activity?x=%2F")
    assert said["body"] == '{"a": 1}'
    assert said["headers"]["Authorization"] == "token t"
    assert not {"Cookie", "X-Forwarded-For"} & set(said["headers"])


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_all_methods_of_the_api_pass(way: httpx.AsyncClient, method: str) -> None:
    assert (await way.request(method, "/hub/api")).json()["method"] == method


@pytest.mark.parametrize(
    "path", ["/", "/hub/", "/hub/login", "/hub/apix", "/services/binder/", "/hub/admin", "/user/ada/api"]
)
async def test_nothing_else_passes(way: httpx.AsyncClient, path: str) -> None:
    assert (await way.get(path)).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/hub/api/../login",
        "/hub/api/%2e%2e/login",
        "/hub/api/..%2flogin",
        "/hub/api/%2E./x",
        "/hub/api\\..\\x",
        "/hub/api/..",
        "//hub/api/",
        "/hub//api/x",
    ],
)
def test_there_is_no_way_round(path: str) -> None:
    assert not is_api_path(path, "/hub")


async def test_sizes_are_bounded_in_both_directions(way: httpx.AsyncClient) -> None:
    try:
        refused = (await way.post("/hub/api/x", content=b"x" * (2 * 1024 * 1024))).is_error
    except httpx.TransportError:  # the connection is closed while the rest is still being sent
        refused = True
    assert refused
    assert (await way.get("/hub/api/large")).status_code == 502


async def test_one_server_cannot_take_all_connections(way: httpx.AsyncClient) -> None:
    """Others still get through, and so does it itself once it closes some."""
    host, port = way.base_url.host, way.base_url.port
    opened = [await asyncio.open_connection(host, port) for _ in range(40)]
    await until(lambda: _closed(opened) == 8)
    other = httpx.AsyncHTTPTransport(local_address="127.0.0.3")
    async with httpx.AsyncClient(base_url=way.base_url, transport=other, timeout=LONG_S) as client:
        assert (await client.get("/hub/api")).status_code == 201
    assert _closed(opened) == 8
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()
    assert (await way.get("/hub/api")).status_code == 201


def _closed(opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> int:
    """How many the other side closed; on those that are kept it says nothing."""
    return sum(reader.at_eof() or reader.exception() is not None for reader, _ in opened)


async def test_a_hub_that_does_not_answer_is_told(tmp_path: Path) -> None:
    gateway = Gateway(0, tmp_path / "port")
    url = await gateway.open("127.0.0.1", f"http://127.0.0.1:{free_port()}", "/hub/")
    async with httpx.AsyncClient(timeout=LONG_S) as client:
        answer = await client.get(f"{url}/hub/api")
    assert answer.status_code == 502
    assert "did not answer" in answer.json()["message"]
    await gateway.close()


async def test_a_restarted_hub_listens_at_the_same_port(tmp_path: Path) -> None:
    async with hub() as address:
        urls = []
        for _ in range(2):
            gateway = Gateway(0, tmp_path / "port")
            urls.append(await gateway.open("127.0.0.1", address, "/hub/"))
            await gateway.close()
            assert gateway.url == ""
    assert urls[0] == urls[1]


async def test_it_moves_with_the_network(tmp_path: Path) -> None:
    async with hub() as address:
        gateway = Gateway(0, tmp_path / "port")
        assert (await gateway.open("127.0.0.1", address, "/hub/")).startswith("http://127.0.0.1:")
        assert (await gateway.open("127.0.0.2", address, "/hub/")).startswith("http://127.0.0.2:")
        await gateway.close()


async def test_a_taken_port_names_the_setting(tmp_path: Path) -> None:
    (taken,) = bind_sockets(0, "127.0.0.1")
    gateway = Gateway(taken.getsockname()[1], tmp_path / "port")
    with pytest.raises(SettingsError, match=r"binder\.network\.gateway_port"):
        await gateway.open("127.0.0.1", "http://127.0.0.1:1", "/hub/")
    taken.close()
