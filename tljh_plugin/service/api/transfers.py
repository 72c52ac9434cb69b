"""`GET images/{id}/export` and `POST images/import`: files as long as images, never whole in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast, get_args

from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from ...cache.moves import Wanted
from ...errors import BadImageFile, BinderError, InvalidRequest
from ...wire import Visibility
from ..handler import ApiHandler
from .images import image_of

_log = logging.getLogger("littlest_binder.service")

_MOST_BYTES = 1024**4
_PATIENCE_S = 24 * 3600.0
_WAITING = 16  # pieces of what a browser or client sends, 64 KiB each


class ExportImage(ApiHandler):
    is_waited_for = False  # gigabytes

    async def get(self, image_id: str) -> None:
        """Administrators: the image as a file for another machine, `application/x-tar`."""
        self.only_administrators()
        image = image_of(self, image_id)
        async with self.context.moves.export(self.person, image.id) as export:
            self.set_header("Content-Type", "application/x-tar")
            self.set_header("Content-Disposition", f'attachment; filename="{export.filename}"')
            try:
                async for piece in export.pieces:
                    self.write(piece)
                    await self.flush()
            except StreamClosedError:
                return
            except BinderError as error:
                if not self._headers_written:
                    raise
                # A proper end would make a whole file of it.
                _log.warning("The export of %s broke off: %s", image.name, error)
                connection: Any = self.request.connection
                connection.stream.close()
                return
        self.finish()


@stream_request_body
class ImportImage(ApiHandler):
    """The body is handed on as it comes; an import that has failed takes the rest and drops it, since who
    sends it reads the answer only then."""

    is_waited_for = False  # gigabytes
    SUPPORTED_METHODS = ("POST",)  # any other would begin an import, in `prepare`, that nobody ends

    _work: asyncio.Task[str] | None = None
    _pieces: asyncio.Queue[bytes | None]
    _gone = False

    async def prepare(self) -> None:
        connection: Any = self.request.connection
        connection.set_max_body_size(_MOST_BYTES)
        connection.set_body_timeout(_PATIENCE_S)
        await super().prepare()
        self.only_administrators()
        wanted = Wanted(
            trust=self.flag("trust"),
            title=self.get_query_argument("title", "")[:200],
            visibility=self._visibility(),
            groups=tuple(self.get_query_arguments("group")),
        )
        self._pieces = asyncio.Queue(_WAITING)
        self._work = asyncio.create_task(self._receive(wanted), name="import of an image")

    def _visibility(self) -> Visibility | None:
        said = self.get_query_argument("visibility", "")
        if said and said not in get_args(Visibility):
            raise InvalidRequest(
                f"`visibility` has the value {said[:40]!r}.",
                f"Send one of {', '.join(get_args(Visibility))}.",
            )
        return cast(Visibility, said) if said else None

    async def _receive(self, wanted: Wanted) -> str:
        async with aclosing(self._body()) as body:
            return await self.context.moves.receive(self.person, body, wanted)

    async def _body(self) -> AsyncGenerator[bytes, None]:
        while (piece := await self._pieces.get()) is not None:
            yield piece
        if self._gone:
            raise BadImageFile("The transfer broke off.", "Begin it again.")

    async def data_received(self, chunk: bytes) -> None:
        await self._hand_on(chunk)

    async def post(self) -> None:
        """`?trust=1&title=&visibility=&group=`: administrators: read such a file, which is the body; `trust`
        is the word for one of another installation. One that was there keeps its title and visibility, and to
        ask for others is refused. Answers `ImageView`.
        """
        await self._hand_on(None)
        if self._work is not None:
            self.answer(image_of(self, await self._work))

    def on_connection_close(self) -> None:
        self._gone = True
        if self._work is not None:
            self._work.cancel()

    async def _hand_on(self, piece: bytes | None) -> None:
        work = self._work
        if work is None or work.done():
            return
        putting = asyncio.ensure_future(self._pieces.put(piece))
        await asyncio.wait({putting, work}, return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()
