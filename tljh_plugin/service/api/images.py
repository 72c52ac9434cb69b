"""`GET|DELETE images`, `GET|PATCH images/{id}`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from ...cache.plan import Mode
from ...cache.views import plan_view, run_view
from ...errors import ImageNotFound, InvalidRequest
from ...wire import DeletedView, ImageChange, ImageView
from ..handler import ApiHandler, Handler

# How long an answer waits for the end of a run, which goes on without it.
_WAIT_S = 20.0
_MOST_IDS = 500


class Images(ApiHandler):
    async def get(self) -> None:
        self.answer(self.context.inventory.images(self.person))

    async def delete(self) -> None:
        """The plan for the images `id`, or its execution."""
        sweep = self.context.sweep
        plan = await sweep.plan(asked_ids(self.get_query_arguments("id")), asked_mode(self), self.person)
        run = None
        if plan.take and not self.flag("dry_run"):
            run = await sweep.begin(plan, self.person)
            run = await sweep.wait(run.id, _WAIT_S)
        self.answer(DeletedView(plan=plan_view(plan), run=run_view(run) if run else None))


class OneImage(ApiHandler):
    async def get(self, image_id: str) -> None:
        self.answer(image_of(self, image_id))

    async def patch(self, image_id: str) -> None:
        image_of(self, image_id)
        await self.context.describing.change(image_id, self.person, self.body(ImageChange))
        self.answer(image_of(self, image_id))


def image_of(handler: Handler, image_id: str) -> ImageView:
    """The image that the person may see; raises `ImageNotFound`."""
    image = handler.context.inventory.image(image_id, handler.person)
    if image is None:
        raise ImageNotFound(f"There is no image {image_id[:80]!r}.", "Look at the list of images.")
    return image


def asked_ids(given: Sequence[str]) -> list[str]:
    """The images of a selection, each once. Raises `InvalidRequest` for none or too many."""
    ids = list(dict.fromkeys(given))
    if not 0 < len(ids) <= _MOST_IDS:
        raise InvalidRequest(f"{len(ids)} images were chosen.", f"Choose between 1 and {_MOST_IDS}.")
    return ids


def asked_mode(handler: Handler) -> Mode:
    """How they are to be deleted, `erase` unless said. Raises `InvalidRequest`."""
    mode = handler.get_argument("mode", "erase")
    if mode not in get_args(Mode):
        raise InvalidRequest(f"`mode` has the value {mode:.40}.", "Choose `evict` or `erase`.")
    return cast(Mode, mode)
