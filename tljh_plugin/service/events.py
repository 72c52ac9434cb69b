"""Server-sent events (HTML standard, section 9.2) to one reader, from a source that replays, then goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from tornado.iostream import StreamClosedError

from ..errors import InvalidRequest, TooManyStreams
from .handler import ApiHandler

KEEP_ALIVE_S = 15.0
# Of one person at the public door: each holds a connection here and, of a start, one at the hub.
MOST_STREAMS = 20

_RETRY_MS = 1000
# A source that ends, or fails, within this time gets a plain status instead of a stream.
_FIRST_S = 0.5
_FLUSH_BYTES = 64 * 1024


@dataclass(frozen=True)
class Event:
    """One event; `data` is JSON without line breaks, `id` what a reader sends to go on after it."""

    data: str
    type: str = ""
    id: str = ""

    def encode(self) -> str:
        """As it goes over the wire."""
        head = (f"id: {self.id}\n" if self.id else "") + (f"event: {self.type}\n" if self.type else "")
        return f"{head}data: {self.data}\n\n"


class StreamHandler(ApiHandler):
    """A handler that streams events until their source ends or the reader goes away."""

    is_waited_for = False

    def initialize(self) -> None:
        super().initialize()
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_connection_close(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)

    @property
    def last_seen(self) -> str:
        """The id after which the reader wants to go on; `?after=` is for readers that cannot set headers."""
        return self.request.headers.get("Last-Event-ID") or self.get_query_argument("after", "")

    @property
    def last_number(self) -> int:
        """The same as a number, 0 for the beginning; raises `InvalidRequest` for anything else."""
        text = self.last_seen or "0"
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise InvalidRequest(
                f"Events are numbered, {text[:40]!r} is not a number.", "Send the last id that you saw."
            )
        return int(text)

    async def stream(self, events: AsyncGenerator[Event, None]) -> None:
        """Send `events`. Without any the answer is 204, which also ends a browser's own reconnecting.

        Each reader is sent to at its own speed: the source is asked for more when the last was taken. Raises
        `TooManyStreams`.
        """
        async with contextlib.aclosing(events), self._one_more():
            upcoming = asyncio.ensure_future(anext(events))
            try:
                await self._wait(upcoming, _FIRST_S)
                if upcoming.done() and isinstance(upcoming.exception(), StopAsyncIteration):
                    self.set_status(204)
                    return
                if upcoming.done():
                    upcoming.result()  # an error becomes a plain answer
                self.set_header("Content-Type", "text/event-stream; charset=utf-8")
                self.set_header("X-Accel-Buffering", "no")
                self.write(f"retry: {_RETRY_MS}\n\n")
                unsent = 1
                while not self._gone.done():
                    await self._wait(upcoming, 0 if unsent else KEEP_ALIVE_S)
                    if upcoming.done():
                        event = upcoming.result().encode()
                        self.write(event)
                        unsent += len(event)
                        upcoming = asyncio.ensure_future(anext(events))
                        if unsent < _FLUSH_BYTES:
                            continue
                    elif not unsent:
                        self.write(": still here\n\n")
                    await self.flush()
                    unsent = 0
            except (StopAsyncIteration, StreamClosedError):
                return
            finally:
                upcoming.cancel()
                await asyncio.wait({upcoming})
                if not upcoming.cancelled():
                    upcoming.exception()

    @contextlib.asynccontextmanager
    async def _one_more(self) -> AsyncIterator[None]:
        streams: Counter[str] = self.settings["streams"]
        name = self.person.name
        if streams[name] >= MOST_STREAMS and not self.door.own:
            raise TooManyStreams(
                f"{name} follows {streams[name]} builds and starts already.",
                "Close pages or programs that follow some, and try again.",
            )
        streams[name] += 1
        readers = self.context.metrics.readers.of("socket" if self.door.own else "public")
        readers.inc()
        try:
            yield
        finally:
            readers.dec()
            streams[name] -= 1
            if not streams[name]:
                del streams[name]

    async def _wait(self, upcoming: asyncio.Future[Event], seconds: float) -> None:
        either: set[asyncio.Future[Any]] = {upcoming, self._gone}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
