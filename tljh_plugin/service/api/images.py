"""`GET images`, `GET|PATCH|DELETE images/{id}`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ...errors import BinderError, ImageNotFound
from ...wire import DeletionView, ErrorView, ImageView, Visibility
from ..handler import ApiHandler, Handler


class ImageChange(BaseModel):
    """`PATCH images/{id}`: who may use it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    visibility: Visibility
    groups: tuple[str, ...] = ()


class Images(ApiHandler):
    async def get(self) -> None:
        self.answer(self.context.inventory.images(self.person))


class OneImage(ApiHandler):
    async def get(self, image_id: str) -> None:
        self.answer(image_of(self, image_id))

    async def patch(self, image_id: str) -> None:
        image_of(self, image_id)
        asked = self.body(ImageChange)
        await self.context.sharing.share(image_id, self.person, asked.visibility, asked.groups)
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
