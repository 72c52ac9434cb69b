"""Images that are built anew, found again, or come from elsewhere: `POST images/{id}/rebuild`,
`POST images/rescan`, `GET images/adoptable`, `POST images/adopt`, `POST images/newer`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ...wire import Visibility
from ..handler import ApiHandler
from .builds import status_of
from .images import image_of


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RebuildRequest(_Body):
    """`POST images/{id}/rebuild`."""

    no_cache: bool = False


class AdoptRequest(_Body):
    """`POST images/adopt`: an image's name or id, what people read, and who may use it."""

    image: str
    title: str = Field("", max_length=200)
    visibility: Visibility = "everyone"
    groups: tuple[str, ...] = ()


class NewerRequest(_Body):
    """`POST images/newer`: which images, none for all, and whether what is newer is built."""

    images: tuple[str, ...] = ()
    build: bool = False


class LookForNewer(ApiHandler):
    async def post(self) -> None:
        self.only_administrators()
        asked = self.body(NewerRequest)
        self.answer(list(await self.context.newer.look(self.person, asked.images, build=asked.build)))


class RebuildImage(ApiHandler):
    async def post(self, image_id: str) -> None:
        asked = self.body(RebuildRequest)
        build = await self.context.again.rebuild(self.person, image_id, no_cache=asked.no_cache)
        self.answer(build, status=status_of(build))


class RescanImages(ApiHandler):
    async def post(self) -> None:
        self.only_administrators()
        self.answer(await self.context.rescan.run(self.person))


class Adoptable(ApiHandler):
    def get(self) -> None:
        self.only_administrators()
        self.answer(self.context.rescan.proposals())


class AdoptImage(ApiHandler):
    async def post(self) -> None:
        self.only_administrators()
        asked = self.body(AdoptRequest)
        image_id = await self.context.adoption.adopt(
            self.person,
            asked.image,
            title=asked.title,
            visibility=asked.visibility,
            groups=asked.groups,
        )
        self.answer(image_of(self, image_id))
