"""`POST images/{id}/rebuild`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ..handler import ApiHandler
from .builds import status_of


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RebuildRequest(_Body):
    """`POST images/{id}/rebuild`."""

    no_cache: bool = False


class RebuildImage(ApiHandler):
    async def post(self, image_id: str) -> None:
        asked = self.body(RebuildRequest)
        build = await self.context.again.rebuild(self.person, image_id, no_cache=asked.no_cache)
        self.answer(build, status=status_of(build))
