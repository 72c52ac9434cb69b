"""`GET images`, `GET|PATCH|DELETE images/{id}`."""

from __future__ import annotations

from ...errors import BinderError, ImageNotFound
from ...wire import DeletionView, ErrorView, ImageChange, ImageView
from ..handler import ApiHandler, Handler


class Images(ApiHandler):
    async def get(self) -> None:
        self.answer(self.context.inventory.images(self.person))


class OneImage(ApiHandler):
    async def get(self, image_id: str) -> None:
        self.answer(image_of(self, image_id))

    async def patch(self, image_id: str) -> None:
        image_of(self, image_id)
        await self.context.describing.change(image_id, self.person, self.body(ImageChange))
        self.answer(image_of(self, image_id))

    async def delete(self, image_id: str) -> None:
        image = image_of(self, image_id)
        if self.flag("dry_run"):
            self.answer(DeletionView(image=image, refused=await refusal(self, image_id)))
            return
        done = await self.context.sweep.delete(image_id, self.person)
        self.answer(DeletionView(image=image, deleted=True, gained_bytes=done.gained_bytes))


def image_of(handler: Handler, image_id: str) -> ImageView:
    """The image that the person may see; raises `ImageNotFound`."""
    image = handler.context.inventory.image(image_id, handler.person)
    if image is None:
        raise ImageNotFound(f"There is no image {image_id[:80]!r}.", "Look at the list of images.")
    return image


async def refusal(handler: Handler, image_id: str) -> ErrorView | None:
    """Why the person could not delete the image now, if they could not."""
    try:
        plan = await handler.context.sweep.plan(image_id, handler.person)
    except BinderError as error:
        return ErrorView(**error.to_dict())
    return ErrorView(**plan.refusal.to_dict()) if plan.refusal else None
