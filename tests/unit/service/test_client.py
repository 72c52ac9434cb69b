"""The client against servers that go away, lie, or come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from house import line

from tljh_plugin import client as client_module
from tljh_plugin.client import ServiceClient
from tljh_plugin.errors import NotFound, ServiceDown
from tljh_plugin.wire import LogLine, Person

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

EVENTS = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 1000\n\n"


def event(each: LogLine) -> str:
    return f"id: {each.n}\ndata: {each.model_dump_json()}\n\n"


@asynccontextmanager
async def a_service(socket: Path, *answers: str) -> AsyncIterator[list[str]]:
    """A server that gives one answer a connection, the last one for ever; yields the requests' heads."""
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        answer = answers[min(len(heads), len(answers) - 1)]
        heads.append(head)
        writer.write(answer.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, socket)
    try:
        yield heads
    finally:
        server.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(client_module, "_LONGEST_PAUSE_S", 0.02)


def own(socket: Path) -> ServiceClient:
    return ServiceClient(socket=socket, person=Person(name="ada"))


async def test_a_service_that_is_not_there_is_down_at_once(tmp_path: Path) -> None:
    async with own(tmp_path / "none.sock") as client:
        with pytest.raises(ServiceDown) as caught:
            await client.health()
    assert "none.sock" in caught.value.message
    assert "littlest-binder up" in caught.value.next_step


async def test_a_socket_that_nobody_listens_at_is_down_as_well(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    async with a_service(socket, EVENTS):
        pass
    async with own(socket) as client:
        with pytest.raises(ServiceDown):
            await client.builds()


async def test_a_service_that_does_not_answer_is_down_after_a_while(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(silent, tmp_path / "s")
    async with server, ServiceClient(socket=tmp_path / "s", timeout_s=0.05) as client:
        with pytest.raises(ServiceDown, match="in time"):
            await client.health()


@pytest.mark.parametrize(
    "body", ["<html>Service Unavailable</html>", '{"message": "no code"}', "[]", '"x"', ""]
)
async def test_a_proxys_own_page_is_no_answer_of_ours(tmp_path: Path, body: str) -> None:
    answer = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    async with a_service(tmp_path / "s", answer), own(tmp_path / "s") as client:
        with pytest.raises(ServiceDown, match="503"):
            await client.health()


async def test_an_answer_of_another_version_is_said_to_be_one(tmp_path: Path) -> None:
    answer = 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a": "b"}'[:-1]
    async with a_service(tmp_path / "s", answer), own(tmp_path / "s") as client:
        with pytest.raises(ServiceDown, match="does not understand"):
            await client.get_build("b-1")


@pytest.mark.usefixtures("quick")
async def test_events_go_on_after_the_last_line_when_the_connection_breaks(tmp_path: Path) -> None:
    answers = (
        EVENTS + event(line(1)) + event(line(2)),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        EVENTS + event(line(3)) + "data: {half",
        EVENTS + event(line(4, "built")),
    )
    async with a_service(tmp_path / "s", *answers) as heads, own(tmp_path / "s") as client:
        seen = [each.n async for each in client.events("b-1")]
    assert seen == [1, 2, 3, 4]
    resumed = [
        [text for text in head.splitlines() if text.lower().startswith("last-event-id")] for head in heads
    ]
    assert resumed == [[], ["Last-Event-ID: 2"], ["Last-Event-ID: 2"], ["Last-Event-ID: 3"]]


@pytest.mark.usefixtures("quick")
async def test_events_give_up_when_patience_ends(tmp_path: Path) -> None:
    async with own(tmp_path / "none") as client:
        with pytest.raises(ServiceDown):
            await anext(client.events("b-1", patience_s=0.05))


@pytest.mark.usefixtures("quick")
async def test_an_answer_that_will_not_change_is_not_asked_for_again(tmp_path: Path) -> None:
    body = '{"code": "not-found", "message": "no build b-1", "next": "look"}'
    answer = f"HTTP/1.1 404 Not Found\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    async with a_service(tmp_path / "s", answer) as heads, own(tmp_path / "s") as client:
        with pytest.raises(NotFound):
            await anext(client.events("b-1"))
    assert len(heads) == 1


def test_a_client_needs_exactly_one_way_to_the_service() -> None:
    with pytest.raises(ValueError, match="either"):
        ServiceClient()
    with pytest.raises(ValueError, match="either"):
        ServiceClient(socket=Path("/s"), url="http://x/")
