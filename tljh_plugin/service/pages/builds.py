"""The list of builds, and one build with its live log."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ...access import is_admin, may
from ...source.spec import LaunchLink, RepoSpec, parse_link
from ...wire import BuildView, ImageView
from ..api.builds import log_so_far
from ..templates import duration
from .page import Page

_LATEST = 100
_TAIL_LINES = 200


@dataclass(frozen=True)
class ShownBuild:
    """A build as a row of the list."""

    view: BuildView
    shown: str
    took: str


class BuildsPage(Page):
    tab = "builds"

    async def get(self) -> None:
        everyone = is_admin(self.person) and self.get_query_argument("everyone", "") == "1"
        builds = await self.context.queue.list(
            self.person, asked_by="" if everyone else self.person.name, limit=_LATEST
        )
        self.show(
            "builds.html",
            everyone=everyone,
            builds=[
                ShownBuild(
                    each,
                    self.context.offers.title_of(each.spec),
                    duration(each.started, each.finished),
                )
                for each in builds
            ],
        )


class BuildPage(Page):
    tab = "builds"

    async def get(self, build_id: str) -> None:
        build = await self.context.queue.get(build_id, self.person)
        spec = parse_link(build.spec)
        active = build.state in ("queued", "running")
        api = f"{self.prefix}api/v1/builds/{build.id}"
        self.show(
            "build.html",
            build=build,
            shown=self.context.offers.title(spec),
            took=duration(build.started, build.finished),
            active=active,
            may_cancel=active and (is_admin(self.person) or build.requested_by == self.person.name),
            events=f"{api}/events",
            log=f"{api}/log?text=1",
            tail=await self._tail(build),
            launch=LaunchLink(_to_launch(spec, build)).to_url(self.prefix),
            page=f"{self.prefix}builds/{build.id}",
            image=self._image_to_share(build),
            groups=sorted({*self.person.groups, *build.groups}),
        )

    def _image_to_share(self, build: BuildView) -> ImageView | None:
        """The image of the build, if it is there and the person decides who may use it."""
        image = self.context.inventory.image(build.image_id, self.person) if build.image_id else None
        return image if image is not None and may(self.person, "change", image) else None

    async def _tail(self, build: BuildView) -> str:
        last: deque[str] = deque(maxlen=_TAIL_LINES)
        async for line in log_so_far(self.context.settings, build.id):
            last.append(line.text)
        return "\n".join(last)


class CancelBuild(Page):
    tab = "builds"

    async def post(self, build_id: str) -> None:
        await self.context.queue.cancel(build_id, self.person)
        self.redirect(f"{self.prefix}builds/{build_id}", status=303)


def _to_launch(spec: RepoSpec, build: BuildView) -> RepoSpec:
    """What was built is launched as it is; what failed is tried again where its ref points to now."""
    return spec.with_ref(build.commit) if build.state == "built" else spec
