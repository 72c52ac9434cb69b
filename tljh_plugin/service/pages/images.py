"""The administrator's list of images, and deleting one."""

from __future__ import annotations

from ...errors import BinderError
from ...wire import ErrorView, ImageView
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


def title_of(page: Page, image: ImageView) -> str:
    """What an image's repository is called on pages."""
    return page.context.offers.title_of(image.spec)
