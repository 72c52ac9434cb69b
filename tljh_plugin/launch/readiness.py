"""Waiting for a server's first answer, often and cheaply, and noticing at once when it dies instead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..errors import ServerNotReady
from ..source.providers import printable
from ..time_limit import within

# JupyterHub's own wait backs off up to 5 s, and a server is then ready for seconds before anybody looks.
POLL_S = 0.05
# A look at the container is a call to Docker.
_LOOK_S = 0.5
_ANSWER_S = 5.0
_LAST_LINES, _LINE_CHARACTERS = 20, 500


async def wait_until_ready(
    host: str,
    port: int,
    path: str,
    *,
    timeout_s: float,
    ended: Callable[[], Awaitable[str]],
    log: Callable[[], Awaitable[str]],
) -> None:
    """Wait until `http://host:port<path>` gives an answer that is no server error.

    `ended` says how the container ended, or nothing while it runs; `log` gives what it printed. Raises
    `ServerNotReady` with the last lines of the log when it ended or when `timeout_s` seconds have passed.
    """
    clock = asyncio.get_running_loop().time
    begun = clock()
    looked = begun
    while not await _answers(host, port, path):
        now = clock()
        if now - begun > timeout_s:
            raise await not_ready(
                f"The server did not answer within {timeout_s:.0f} s.",
                log,
                "Start it again when the machine is less busy, or raise `binder.servers.start_timeout_s`.",
            )
        if now - looked > _LOOK_S:
            looked = now
            how = await ended()
            if how:
                raise await not_ready(f"The server ended before it answered ({how}).", log)
        await asyncio.sleep(POLL_S)


async def not_ready(
    what: str,
    log: Callable[[], Awaitable[str]],
    next_step: str = "Correct what they say in the repository, or build the image again.",
) -> ServerNotReady:
    """The error that says so, with the last lines of the log, each without control characters."""
    lines = [printable(line, _LINE_CHARACTERS) for line in (await log()).strip().splitlines()[-_LAST_LINES:]]
    said = " Its last lines:\n" + "\n".join(lines) + "\n" if lines else " It printed nothing."
    return ServerNotReady(what + said, next_step)


async def _answers(host: str, port: int, path: str) -> bool:
    """Whether a plain HTTP request gets an answer below 500, as JupyterHub asks afterwards."""
    try:
        return await within(_ANSWER_S, _status(host, port, path)) < 500
    except (OSError, ValueError, EOFError, asyncio.TimeoutError):
        return False


async def _status(host: str, port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        line = await reader.readline()
        return int(line.split(None, 2)[1]) if line.startswith(b"HTTP/") else 599
    except IndexError:
        return 599
    finally:
        writer.close()
