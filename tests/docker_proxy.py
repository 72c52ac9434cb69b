"""Stands between us and Docker, keeps a list of what is asked, and lets a chosen call go wrong.

Each connection carries one request: `Connection: close` is put into it, which docker-py and the `docker`
command both follow. What Docker says afterwards, be it a stream or an upgraded connection, is passed as it
comes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

# What happens to a call: an answer with that status; the connection is cut before Docker was asked; Docker
# was asked and its answer is lost; half of it comes; no answer comes, before or after Docker was asked; the
# answer comes late, within the time that Docker is given or after it.
Fault = Literal["500", "404", "409", "cut", "lost", "half", "hang", "hung", "late", "too late"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
# What they come to for who asks.
MANNERS: dict[str, tuple[Fault, ...]] = {
    "an error": ("500", "404", "409"),
    "missing": ("cut", "lost", "half", "hang", "hung"),
    "late": ("late", "too late"),
}

_VERSION = re.compile(r"^/v1\.\d+")
_NAMES = re.compile(
    r"(?<=/)(sha256(:|%3A)[0-9a-f]+|[0-9a-f]{12,64}|littlest-binder[^/]*(/[^/]*(?=/json|/tag|$))?)"
)


@dataclass(frozen=True)
class Call:
    """What is asked, with ids taken out, and the how manieth of its kind it is."""

    what: str
    number: int

    def __str__(self) -> str:
        return f"{self.what} #{self.number}"


def plain(method: str, target: str) -> str:
    """`POST /containers/*/start` for a request of that kind."""
    path = _VERSION.sub("", target.partition("?")[0])
    return f"{method} {_NAMES.sub('*', path)}"


class DockerProxy:
    """Use as an async context manager; `host` is for `DOCKER_HOST`.

    `late_s` are the seconds that an answer is late, and those that it is too late.
    """

    def __init__(
        self,
        path: Path,
        docker: Path = Path("/var/run/docker.sock"),
        late_s: tuple[float, float] = (2.0, 10.0),
    ) -> None:
        self.path = path
        self._docker = docker
        self._late_s: dict[Fault | None, float] = {"late": late_s[0], "too late": late_s[1]}
        self.calls: list[Call] = []
        self.failed: list[Call] = []
        self._counts: Counter[str] = Counter()
        self._plan: tuple[Call, Fault] | None = None
        # What to make of the JSON that comes with a request, by `plain`.
        self.rewrite: dict[str, Callable[[dict[str, Any]], object]] = {}
        # What to make of the JSON that Docker answers, by `plain`.
        self.answer: dict[str, Callable[[dict[str, Any]], object]] = {}
        self._open: set[asyncio.Task[None]] = set()

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    async def __aenter__(self) -> DockerProxy:
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.path.unlink(missing_ok=True)
        self.let_go()

    def begin(self, call: Call | None = None, fault: Fault = "500") -> None:
        """Count from here on, and let `call` go wrong."""
        self.calls, self.failed = [], []
        self._counts.clear()
        self._plan = (call, fault) if call is not None else None

    def let_go(self) -> None:
        """End all connections that are open, those that hang among them."""
        for task in list(self._open):
            task.cancel()

    # -- one connection -------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        what = plain(method, target)
        self._counts[what] += 1
        call = Call(what, self._counts[what])
        self.calls.append(call)
        fault: Fault | None = None
        if self._plan is not None and self._plan[0] == call:
            fault = self._plan[1]
            self.failed.append(call)
        if fault == "cut":
            return
        if fault == "hang":
            await reader.read()  # until the other side gives up
            return
        if fault in ("500", "404", "409"):
            await self._refuse(reader, head, writer, fault)
            return
        body = b""
        if what in self.rewrite:
            head, body = await self._rewritten(reader, head, self.rewrite[what])
        if what in self.answer:
            await self._answered(head, writer, self.answer[what])
            return
        await self._pass(reader, head, writer, fault, body)

    async def _answered(
        self, head: bytes, writer: asyncio.StreamWriter, change: Callable[[dict[str, Any]], object]
    ) -> None:
        """A request without a body, whose answer is not as Docker gave it."""
        asked = head.split(b"\r\n", 1)[0].rsplit(b" ", 1)[0]
        from_docker, to_docker = await asyncio.open_unix_connection(self._docker)
        to_docker.write(asked + b" HTTP/1.0\r\nHost: docker\r\n\r\n")
        _, _, text = (await from_docker.read()).partition(b"\r\n\r\n")
        to_docker.transport.abort()
        said = json.loads(text)
        change(said)
        body = json.dumps(said).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
        writer.write_eof()

    async def _rewritten(
        self, reader: asyncio.StreamReader, head: bytes, change: Callable[[dict[str, Any]], object]
    ) -> tuple[bytes, bytes]:
        found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        assert found, head
        asked = json.loads(await reader.readexactly(int(found[1])))
        change(asked)
        body = json.dumps(asked).encode()
        return head.replace(found[0], b"\r\nContent-Length: %d" % len(body)), body

    async def _refuse(
        self, reader: asyncio.StreamReader, head: bytes, writer: asyncio.StreamWriter, status: str
    ) -> None:
        found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if found:
            await reader.readexactly(int(found[1]))
        body = json.dumps({"message": f"a fault of the tests: {status}"}).encode()
        writer.write(
            f"HTTP/1.1 {status} Fault\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.write_eof()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        head: bytes,
        writer: asyncio.StreamWriter,
        fault: Fault | None,
        body: bytes,
    ) -> None:
        if not re.search(rb"(?i)\r\nupgrade:", head):
            head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)
            head = head[:-2] + b"Connection: close\r\n\r\n"
        from_docker, to_docker = await asyncio.open_unix_connection(self._docker)
        to_docker.write(head + body)
        asking = asyncio.ensure_future(_copy(reader, to_docker))
        try:
            if fault is None:
                await _copy(from_docker, writer)
                return
            first = await from_docker.read(65536)
            if fault in self._late_s:
                await asyncio.sleep(self._late_s[fault])
                writer.write(first)
                await _copy(from_docker, writer)
            elif fault == "half":
                writer.write(first[: max(1, len(first) // 2)])
                await writer.drain()
            elif fault == "hung":
                await asyncio.wait({asking})  # until the other side gives up
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            to_docker.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    with suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()
