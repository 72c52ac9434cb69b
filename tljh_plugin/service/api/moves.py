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
    """`POST images/{image}/rebuild`."""

    no_cache: bool = False  #: run every step again


class AdoptRequest(_Body):
    """`POST images/adopt`."""

    image: str  #: its name or id in Docker
    title: str = Field("", max_length=200)  #: what people read, at most 200 characters; empty: its name
    visibility: Visibility = "everyone"  #: who may use it
    groups: tuple[str, ...] = ()  #: names of groups, with visibility `group`


class NewerRequest(_Body):
    """`POST images/newer`."""

    images: tuple[str, ...] = ()  #: ids; none: all
    build: bool = False  #: build what is newer


class LookForNewer(ApiHandler):
    async def post(self) -> None:
        """Administrators: ask where the refs of these images, or of all, point now; with `build` what is
        newer is built, one at once, several one after the other. Answers a list of `NewerView`.
        """
        self.only_administrators()
        asked = self.body(NewerRequest)
        self.answer(list(await self.context.newer.look(self.person, asked.images, build=asked.build)))


class RebuildImage(ApiHandler):
    async def post(self, image_id: str) -> None:
        """Build its commit anew; who may see it and may build. Answers `BuildView`."""
        asked = self.body(RebuildRequest)
        build = await self.context.again.rebuild(self.person, image_id, no_cache=asked.no_cache)
        self.answer(build, status=status_of(build))


class RescanImages(ApiHandler):
    async def post(self) -> None:
        """Administrators: find images with our signature again that are not in the list. Answers
        `RescanView`.
        """
        self.only_administrators()
        self.answer(await self.context.rescan.run(self.person))


class Adoptable(ApiHandler):
    def get(self) -> None:
        """Administrators: the images of Docker that could be adopted, from memory. Answers a list of
        `ProposalView`.
        """
        self.only_administrators()
        self.answer(self.context.rescan.proposals())


class AdoptImage(ApiHandler):
    async def post(self) -> None:
        """Administrators: take an image by its name or id into the list, after the start check. Answers
        `ImageView`.
        """
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
