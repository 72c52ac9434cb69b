"""`POST prepare` and `POST release`: the hub's alone, behind our own socket."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, ConfigDict

from ...wire import Prepared, PrepareRequest
from ..handler import ApiHandler


class ReleaseRequest(BaseModel):
    """`POST release`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lease: str  #: as `POST prepare` gave it
    ok: bool  #: whether the server came up


class Prepare(ApiHandler):
    def initialize(self) -> None:
        super().initialize()
        self._work: asyncio.Future[Prepared] | None = None

    def on_connection_close(self) -> None:
        # The hub gave the start up: a lease that nobody will give back must not be taken.
        if self._work is not None:
            self._work.cancel()

    async def post(self) -> None:
        """The project folder, and a lease on the image. Answers `Prepared`."""
        request = self.body(PrepareRequest)
        work = asyncio.ensure_future(self.context.preparations.prepare(self.person, request))
        self._work = work
        try:
            self.answer(await work)
        except asyncio.CancelledError:
            if not work.cancelled():
                raise


class Release(ApiHandler):
    async def post(self) -> None:
        """The end of the lease; 204."""
        asked = self.body(ReleaseRequest)
        await self.context.preparations.release(asked.lease, asked.ok)
        self.set_status(204)
