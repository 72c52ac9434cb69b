"""`GET mounts`."""

from __future__ import annotations

from ..handler import ApiHandler


class MountList(ApiHandler):
    async def get(self) -> None:
        """The folders of this machine that the person may have, each with the reason if it cannot be had now.
        Answers a list of `MountView`.
        """
        self.answer(list(await self.context.folders.mounts(self.person)))
