"""Opening the person's browser at a sign-in link without showing the link to other people of the machine.

The arguments of a process can be read by everybody, so the browser is given the address of a listener on
loopback that answers once, with a redirect to the link, and only to a process of the same person.
"""

from __future__ import annotations

import asyncio
import os
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..time_limit import within

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
HEAD_BYTES = 64 * 1024


async def open_browser(
    link: str, *, opener: Callable[[str], object] = webbrowser.open, timeout_s: float = 60.0
) -> bool:
    """Open `link` in the browser; whether the browser fetched it within `timeout_s` seconds."""
    fetched = asyncio.Event()
    taken = False

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            ours = not taken and same_person(writer)
            if ours:
                taken = True
                writer.write(
                    b"HTTP/1.1 302 Found\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n"
                    b"Content-Length: 0\r\nConnection: close\r\nLocation: " + link.encode() + b"\r\n\r\n"
                )
            writer.close()
            await writer.wait_closed()
            if ours:
                fetched.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=HEAD_BYTES)
    async with server:
        port = server.sockets[0].getsockname()[1]
        # In a daemon thread: a browser of the terminal returns when it is closed, and nobody waits for that.
        threading.Thread(target=opener, args=(f"http://127.0.0.1:{port}/",), daemon=True).start()
        with suppress(asyncio.TimeoutError):
            await within(timeout_s, fetched.wait())
    return fetched.is_set()


def same_person(writer: asyncio.StreamWriter) -> bool:
    """Whether a process of our own user is at the other end of a connection on loopback."""
    peer, here = writer.get_extra_info("peername")[1], writer.get_extra_info("sockname")[1]
    return _owner(peer, here) == os.getuid()


def _owner(port: int, remote_port: int) -> int | None:
    """The user of the connection from `port` to `remote_port` on loopback; see proc(5), `net/tcp`."""
    for table in _TABLES:
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                ends = [int(fields[number].rpartition(":")[2], 16) for number in (1, 2)]
                if ends == [port, remote_port]:
                    return int(fields[7])
    return None
