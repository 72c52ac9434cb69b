"""Addresses that BinderHub has and people may have kept."""

from __future__ import annotations

from .page import Page, Static


class OldRepoLink(Page):
    """`/repo/owner/name` of the first Binder."""

    open_to_all = True

    def get(self, owner: str, name: str) -> None:
        rest = self.request.path.removeprefix(f"{self.prefix}repo/").strip("/")
        self.redirect(f"{self.prefix}v2/gh/{rest}/HEAD")


class Badge(Static):
    """The badge that links carry, at an address that never changes."""

    def set_extra_headers(self, path: str) -> None:
        super().set_extra_headers(path)
        self.set_header("Cache-Control", "public, max-age=3600")

    async def get(self, path: str = "badge.svg", include_body: bool = True) -> None:
        await super().get("badge.svg", include_body)
