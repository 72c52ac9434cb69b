"""A page that shows how a start goes on, and then leads to the sign-in link or stays with the error.

For what has no terminal. Only browsers of the same person get it (see browser.py); it is on loopback, at a
port of its own, and gone when it was seen.
"""

from __future__ import annotations

import asyncio
import html
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from ..time_limit import within
from .browser import HEAD_BYTES, same_person

_HEADERS = (
    "Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\n"
    "Connection: close\r\n"
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>{again}
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>body{{font:1rem/1.5 sans-serif;max-width:44rem;margin:4rem auto;padding:0 1rem}}
pre{{white-space:pre-wrap;overflow-wrap:anywhere}}</style></head>
<body><main><h1>{title}</h1><pre role="status">{text}</pre></main></body></html>
"""
_LINES = 25


class WaitingPage:
    """What the page shows now: the last lines, then a link to go to or an error to read."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._link = ""
        self._error = ""
        self.opened = asyncio.Event()
        self.seen = asyncio.Event()
        self.last = False

    def say(self, line: str) -> None:
        self._lines = [*self._lines, line][-_LINES:]

    def arrive(self, link: str) -> None:
        """Lead to `link` from now on, once."""
        self._link = link

    def fail(self, text: str) -> None:
        """Show `text` from now on."""
        self._error = text

    def answer(self) -> bytes:
        """What is said to the browser; with `last` from then on, it was the last word."""
        if self._link:
            link, self._link = self._link, ""
            self.last = True
            return f"HTTP/1.1 302 Found\r\n{_HEADERS}Content-Length: 0\r\nLocation: {link}\r\n\r\n".encode()
        if self._error:
            self.last = True
            title, text, again = "The Littlest Binder did not start", self._error, ""
        else:
            title, text = "Starting The Littlest Binder", "\n".join(self._lines) or "One moment."
            again = '<meta http-equiv="refresh" content="1">'
        body = _PAGE.format(title=title, text=html.escape(text), again=again).encode()
        head = f"HTTP/1.1 200 OK\r\n{_HEADERS}Content-Length: {len(body)}\r\n\r\n".encode()
        return head + body


@asynccontextmanager
async def waiting_page(
    *, opener: Callable[[str], object] = webbrowser.open, patience_s: float = 60.0
) -> AsyncIterator[WaitingPage]:
    """The page, opened in the browser; at the end its last word has `patience_s` seconds to be seen."""
    page = WaitingPage()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            if same_person(writer):
                if head.startswith(b"GET / "):
                    page.opened.set()
                    writer.write(page.answer())
                else:
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()
            await writer.wait_closed()
        if page.last:
            page.seen.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=HEAD_BYTES)
    async with server:
        port = server.sockets[0].getsockname()[1]
        # In a daemon thread: a browser of the terminal returns when it is closed, and nobody waits for that.
        threading.Thread(target=opener, args=(f"http://127.0.0.1:{port}/",), daemon=True).start()
        yield page
        with suppress(asyncio.TimeoutError, TimeoutError):
            await within(patience_s, page.seen.wait())
