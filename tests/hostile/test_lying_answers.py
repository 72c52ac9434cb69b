"""A server that answers the hub's question "are you there?" with something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tljh_plugin.errors import ServerNotReady
from tljh_plugin.launch.readiness import wait_until_ready

pytestmark = pytest.mark.attack("lying")

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on loopback that answers so; its port, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        try:
            await answer(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield listening.sockets[0].getsockname()[1], asked
    finally:
        listening.close()


async def wait_for(port: int, timeout_s: float = 60.0) -> None:
    async def ended() -> str:
        return ""

    await wait_until_ready("127.0.0.1", port, "/user/ada/api", timeout_s=timeout_s, ended=ended, log=ended)


def says(text: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return answer


async def test_a_redirect_leads_the_hub_nowhere() -> None:
    """The hub is on this machine and could ask what a server may not."""
    async with server(says(b"HTTP/1.1 200 OK\r\n\r\n")) as (secret, asked):
        location = f"Location: http://127.0.0.1:{secret}/secret".encode()
        async with server(says(b"HTTP/1.1 302 Found\r\n" + location + b"\r\n\r\n")) as (port, _):
            await wait_for(port)
        assert asked == []


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1\r\n",
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"",
        b"HTTP/1.1 503 Not yet\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_not_taken_for_one(text: bytes) -> None:
    async with server(says(text)) as (port, _):
        with pytest.raises(ServerNotReady):
            await wait_for(port, 0.2)


async def test_a_line_without_end_takes_neither_time_nor_memory() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with server(flood) as (port, _):
        with pytest.raises(ServerNotReady):
            await wait_for(port, 0.5)
    # What the kernel buffers of each connection, and no more.
    assert sent < 200 * 1024**2


async def test_an_endless_body_is_not_read() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with server(flood) as (port, _):
        await wait_for(port)
    assert sent < 20 * 1024**2
