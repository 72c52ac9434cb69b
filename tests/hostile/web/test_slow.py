"""Requests without end against a whole hub: its proxy, and the hub's own pages before anybody signed in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from running_hub import RunningHub

from tljh_plugin.desktop import HOST
from tljh_plugin.time_limit import within

pytestmark = [pytest.mark.hub, pytest.mark.asyncio(loop_scope="module")]

MANY = 200
MIB = 1024**2
UNFINISHED = {
    "head": "POST {path} HTTP/1.1\r\nHost: {host}\r\nX-Slow: ",
    "body": "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n_xsrf=",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    async with RunningHub(tmp_path_factory.mktemp("hub")) as running:
        yield running


async def connection(hub: RunningHub) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", hub.port)


async def answers(hub: RunningHub) -> None:
    """Within a time in which a person does not ask what is the matter, also on a busy machine."""
    began = time.monotonic()
    async with httpx.AsyncClient(headers={"Host": f"{HOST}:{hub.port}"}, timeout=60) as http:
        for path in ("/hub/api/", "/hub/sign-in?code=wrong"):
            assert (await http.get(f"http://127.0.0.1:{hub.port}{path}")).status_code in (200, 403), path
    assert time.monotonic() - began < 40


@pytest.mark.attack("web: slow requests")
@pytest.mark.parametrize("part", UNFINISHED)
async def test_many_unfinished_requests_hold_nobody_up(hub: RunningHub, part: str) -> None:
    slow = [await connection(hub) for _ in range(MANY)]
    try:
        for number, (_, writer) in enumerate(slow):
            path = ("/hub/login", "/hub/sign-in", "/hub/spawn")[number % 3]
            writer.write(UNFINISHED[part].format(path=path, host=f"{HOST}:{hub.port}").encode())
            await writer.drain()
        await answers(hub)
        for _, writer in slow[::10]:
            writer.write(b"y")  # what keeps it slow instead of silent
        await answers(hub)
    finally:
        for _, writer in slow:
            writer.close()
    await answers(hub)


@pytest.mark.attack("web: slow requests")
@pytest.mark.parametrize("part", ["head", "body"])
async def test_a_request_without_end_is_answered_before_it_has_one(hub: RunningHub, part: str) -> None:
    """A head by the proxy after some kilobytes, a body by the hub after 100 MiB, which it holds meanwhile."""
    begin = f"POST /hub/login HTTP/1.1\r\nHost: {HOST}:{hub.port}\r\n"
    piece, most = b"X-More: " + b"y" * 1000 + b"\r\n", 10 * MIB
    if part == "body":
        begin += "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        piece, most = b"%x\r\n%s\r\n" % (MIB, bytes(MIB)), 400 * MIB
    reader, writer = await connection(hub)
    answer, sent = asyncio.ensure_future(reader.readline()), 0
    try:
        writer.write(begin.encode())
        while not answer.done() and sent < most:
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass  # broken off while we wrote
    try:
        said = await within(60, answer)
    except ConnectionError:
        said = b""
    finally:
        writer.close()
    assert said == b"" or said.split()[1][:1] in (b"4", b"5"), said
    await answers(hub)
