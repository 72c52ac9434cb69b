"""Waiting for a server's first answer, with real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from desktop import free_port

from tljh_plugin.errors import ServerNotReady
from tljh_plugin.launch.readiness import not_ready, wait_until_ready


async def runs() -> str:
    return ""


async def prints() -> str:
    return "first\nlast"


async def serve(*answers: bytes) -> tuple[asyncio.Server, int, list[str]]:
    """A server that gives one answer after the other and repeats the last; with what it was asked."""
    asked: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(answers[min(len(asked), len(answers)) - 1])
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1], asked


async def wait(port: int, timeout_s: float = 60.0, ended: Callable[[], Awaitable[str]] = runs) -> None:
    await wait_until_ready("127.0.0.1", port, "/user/a/api", timeout_s=timeout_s, ended=ended, log=prints)


async def test_it_waits_until_the_answer_is_no_server_error() -> None:
    server, port, asked = await serve(
        b"", b"nonsense\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"
    )
    async with server:
        await wait(port)
    assert len(asked) == 5
    assert asked[0].startswith(f"GET /user/a/api HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n")


async def test_nobody_listening_is_waited_for() -> None:
    server: asyncio.Server | None = None
    port, looks = free_port(), 0

    async def then_listens() -> str:
        nonlocal server, looks
        looks += 1
        if looks == 1:
            server = await asyncio.start_server(
                lambda r, w: (w.write(b"HTTP/1.1 302 Found\r\n\r\n"), w.close()), "127.0.0.1", port
            )
        return ""

    await wait(port, ended=then_listens)
    assert looks >= 1
    assert server is not None
    server.close()


async def test_a_server_that_ended_is_told_with_its_last_lines() -> None:
    async def ended() -> str:
        return "exit code 3"

    with pytest.raises(ServerNotReady, match=r"ended before it answered \(exit code 3\).*\n*last") as caught:
        await wait(1, ended=ended)
    assert "first" in str(caught.value)


async def test_what_it_printed_is_told_without_control_characters() -> None:
    async def log() -> str:
        return "\x1b]0;title\x07\x1b[2Jgone\nNaïve ✓\n" + "x" * 100_000 + "\x00\u202e\n"

    said = str(await not_ready("It ended.", log))
    assert "Its last lines:\n\\x1b]0;title\\x07\\x1b[2Jgone\nNaïve ✓\nxxx" in said
    assert said.replace("\n", "").isprintable()
    assert len(said) < 1000


async def test_time_is_bounded_also_for_one_that_only_listens() -> None:
    accepted = []
    server = await asyncio.start_server(lambda r, w: accepted.append(w), "127.0.0.1", 0)
    with pytest.raises(ServerNotReady, match=r"did not answer within 0"):
        await wait(server.sockets[0].getsockname()[1], timeout_s=0.1)
    for writer in accepted:
        writer.close()
    server.close()
