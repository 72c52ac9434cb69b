"""`GET profiles`: what a person may choose, and what is free."""

from __future__ import annotations

from ..handler import ApiHandler


class ProfileList(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.context.room.profiles(self.person))
