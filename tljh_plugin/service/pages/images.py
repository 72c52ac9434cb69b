"""The administrator's list of images, deleting one, and who may use one."""

from __future__ import annotations

from typing import cast, get_args

from ...errors import BinderError, InvalidRequest
from ...wire import ErrorView, ImageView, Visibility
from ..api.images import image_of, refusal
from .page import Page


class ImagesPage(Page):
    tab = "images"

    async def get(self) -> None:
        self.only_administrators()
        self.show(
            "images.html",
            images=self.context.inventory.images(self.person),
            title=lambda image: title_of(self, image),
            problem=await self.context.engine_health.problem(),
        )


class DeleteImage(Page):
    """GET asks, POST deletes."""

    tab = "images"

    async def get(self, image_id: str) -> None:
        self.only_administrators()
        image = image_of(self, image_id)
        self.show(
            "delete.html", image=image, title=title_of(self, image), refused=await refusal(self, image_id)
        )

    async def post(self, image_id: str) -> None:
        self.only_administrators()
        image = image_of(self, image_id)
        try:
            await self.context.sweep.delete(image_id, self.person)
        except BinderError as error:
            refused = ErrorView(**error.to_dict())
            title = title_of(self, image)
            self.show("delete.html", status=error.http_status, image=image, title=title, refused=refused)
            return
        self.redirect(f"{self.prefix}images", status=303)


class ShareImage(Page):
    """The form on a build's page: who may use the image."""

    tab = "builds"

    async def post(self, image_id: str) -> None:
        image = image_of(self, image_id)
        visibility = self.get_body_argument("visibility", "")
        if visibility not in get_args(Visibility):
            raise InvalidRequest(
                f"`visibility` has the value {visibility[:40]!r}.", "Choose one on the page."
            )
        groups = self.get_body_arguments("group") if visibility == "group" else []
        await self.context.sharing.share(image_id, self.person, cast(Visibility, visibility), groups)
        self.redirect(f"{self.prefix}builds/{image.build_id}" if image.build_id else self.prefix, status=303)


def title_of(page: Page, image: ImageView) -> str:
    """What an image's repository is called on pages."""
    return page.context.offers.title_of(image.spec)
