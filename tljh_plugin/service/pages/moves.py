"""What the buttons of builds' and images' pages do: build again, find again, adopt, look for newer
commits."""

from __future__ import annotations

from ...errors import BinderError
from ...wire import ErrorView, RescanView
from ..api.images import image_of
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


class NewerPage(Page):
    """Looks for newer commits of all images; with `build` they are built."""

    tab = "images"

    async def post(self) -> None:
        self.only_administrators()
        await self.context.newer.look(self.person, build=self.get_body_argument("build", "") == "1")
        self.redirect(f"{self.prefix}images?looked=newer", status=303)


class NewerImagePage(Page):
    """The same for one image; with `build` on to the build."""

    tab = "images"

    async def post(self, image_id: str) -> None:
        self.only_administrators()
        image_of(self, image_id)
        if self.get_body_argument("build", "") == "1":
            build = await self.context.newer.build(self.person, image_id)
            where = f"builds/{build.id}" if build.id else f"images/{build.image_id}"
        else:
            await self.context.newer.look(self.person, [image_id])
            where = f"images/{image_id}"
        self.redirect(f"{self.prefix}{where}", status=303)


class ProposalsPage(Page):
    """What could be adopted."""

    tab = "images"

    def show_proposals(self, error: BinderError | None = None, found: RescanView | None = None) -> None:
        """With what went wrong, or what was found again, above the list."""
        self.show(
            "adopt.html",
            status=error.http_status if error else 200,
            failed=ErrorView(**error.to_dict()) if error else None,
            found=found,
            proposals=self.context.rescan.proposals(),
        )


class RescanPage(ProposalsPage):
    async def post(self) -> None:
        self.only_administrators()
        self.show_proposals(found=await self.context.rescan.run(self.person))


class AdoptPage(ProposalsPage):
    """GET lists what could be adopted, POST adopts one."""

    def get(self) -> None:
        self.only_administrators()
        self.show_proposals()

    async def post(self) -> None:
        self.only_administrators()
        private = self.get_body_argument("visibility", "everyone") == "private"
        try:
            image_id = await self.context.adoption.adopt(
                self.person,
                self.get_body_argument("image", ""),
                title=self.get_body_argument("title", "")[:200],
                visibility="private" if private else "everyone",
            )
        except BinderError as error:
            self.show_proposals(error)
            return
        self.redirect(f"{self.prefix}images/{image_id}", status=303)
