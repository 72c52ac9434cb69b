"""`GET profiles`: what a person may choose, and what is free."""

from __future__ import annotations

from ..handler import ApiHandler


class ProfileList(ApiHandler):
    async def get(self) -> None:
        """The profiles that the person may choose, each with the reason why it does not fit now, and what is
        free. Answers `ProfilesView`.
        """
        self.answer(await self.context.room.profiles(self.person))
