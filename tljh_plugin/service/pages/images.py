"""The administrator's list of images, and deleting one."""

from __future__ import annotations

from ...errors import BinderError
from ...wire import ErrorView
from ..api.images import image_of, refusal
from .page import Page


class ImagesPage(Page):
    tab = "images"

    async def get(self) -> None:
        self.only_administrators()
        self.show(
            "images.html",
            images=self.context.inventory.images(self.person),
            problem=await self.context.engine_health.problem(),
        )


class DeleteImage(Page):
    """GET asks, POST deletes."""

    tab = "images"

    async def get(self, image_id: str) -> None:
        self.only_administrators()
        image = image_of(self, image_id)
        self.show("delete.html", image=image, refused=await refusal(self, image_id))

    async def post(self, image_id: str) -> None:
        self.only_administrators()
        image = image_of(self, image_id)
        try:
            await self.context.sweep.delete(image_id, self.person)
        except BinderError as error:
            refused = ErrorView(**error.to_dict())
            self.show("delete.html", status=error.http_status, image=image, refused=refused)
            return
        self.redirect(f"{self.prefix}images", status=303)
