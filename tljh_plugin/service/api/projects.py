"""`GET projects`: a person's kept files."""

from __future__ import annotations

from ..handler import ApiHandler


class ProjectList(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.context.projects.list(self.person))
