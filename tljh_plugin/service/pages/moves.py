"""What the buttons of builds' and images' pages do: build again."""

from __future__ import annotations

from .page import Page


class RetryBuildPage(Page):
    tab = "builds"

    async def post(self, build_id: str) -> None:
        build = await self.context.again.retry(self.person, build_id)
        self.redirect(f"{self.prefix}builds/{build.id}", status=303)


class RebuildImagePage(Page):
    tab = "images"

    async def post(self, image_id: str) -> None:
        no_cache = self.get_body_argument("no_cache", "") == "1"
        build = await self.context.again.rebuild(self.person, image_id, no_cache=no_cache)
        self.redirect(f"{self.prefix}builds/{build.id}", status=303)
