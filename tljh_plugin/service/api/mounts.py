"""`GET mounts`."""

from __future__ import annotations

from ..handler import ApiHandler


class MountList(ApiHandler):
    async def get(self) -> None:
        self.answer(list(await self.context.folders.mounts(self.person)))
