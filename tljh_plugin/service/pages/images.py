"""The administrator's table of images, building one without starting it, and who may use one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import cast, get_args

from ...cache.inventory import Inventory
from ...cache.listing import Badge, Listed, Query, Sort, counts, page_of
from ...errors import BinderError, InvalidRequest
from ...wire import ImageView, Visibility
from ..api.images import image_of
from ..links import from_form
from ..texts import _
from .page import Page

# The list is made anew at least once a minute: one that is older could not be.
_OLD_S = 90.0

BADGES: dict[Badge, str] = {
    "ready": _("ready to start"),
    "in-use": _("in use"),
    "pinned": _("pinned"),
    "building": _("building"),
    "failed": _("last build failed"),
    "newer": _("newer commit"),
    "older": _("older recipe"),
    "retired": _("retired"),
    "private": _("not for everyone"),
    "adopted": _("adopted"),
    "not-ours": _("not built here"),
    "could-go": _("retention may take"),
    "goes": _("retention takes next"),
}
# What the table says of these in a word or two: its other columns tell the rest.
_SHORT = {
    "in-use": _("in use"),
    "building": _("being built"),
    "young": _("too young"),
    "ready": _("always offered"),
    "not-needed": _("could go"),
}
_COLUMNS: tuple[tuple[Sort, str], ...] = (
    ("title", _("Image")),
    ("built", _("Built")),
    ("used", _("Last used")),
    ("servers", _("Servers")),
    ("size", _("Size")),
    ("frees", _("Frees alone")),
)
_ORDERS = (
    ("used", _("used last")),
    ("-used", _("unused for longest")),
    ("title", _("by title")),
    ("built", _("newest")),
    ("-built", _("oldest")),
    ("size", _("largest")),
    ("frees", _("frees most")),
    ("launches", _("most launches")),
    ("took", _("longest build")),
)


@dataclass(frozen=True)
class Stale:
    """Figures that are old: when they were read, and why they could not be read again."""

    looked: str
    problem: BinderError | None


def stale(inventory: Inventory, now: datetime | None = None) -> Stale | None:
    """Whether, and since when, the list of images is not what Docker holds; None if it is."""
    age = (now or datetime.now(timezone.utc)) - _moment(inventory.looked)
    if inventory.problem is None and age.total_seconds() < _OLD_S:
        return None
    return Stale(inventory.looked, inventory.problem)


def _moment(looked: str) -> datetime:
    return datetime.fromisoformat(looked) if looked else datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class LookedForNewer:
    """What the last look for newer commits found: its time, and how many images were looked at, have a newer
    commit, could not be looked at."""

    time: str
    images: int
    newer: int
    problems: int


def looked_for_newer(images: Collection[ImageView]) -> LookedForNewer:
    """By what is noted with each image; those that were asked for by their commit are never looked at."""
    seen = [each for each in images if each.newer_looked]
    return LookedForNewer(
        time=max((each.newer_looked for each in seen), default=""),
        images=len(seen),
        newer=sum(bool(each.newer_commit) for each in seen),
        problems=sum(bool(each.newer_problem) for each in seen),
    )


class OfImages(Page):
    """A page about images, for administrators."""

    tab = "images"

    async def prepare(self) -> None:
        await super().prepare()
        if self.signed_in is not None:
            self.only_administrators()

    def fields(self) -> dict[str, str]:
        """The query's fields, the last one of each name."""
        return {name: self.get_query_argument(name, "") for name in self.request.query_arguments}

    def listed(self) -> tuple[Listed, ...]:
        """All images as the table knows them, from memory."""
        return self.context.inventory.listed()

    def stale(self) -> Stale | None:
        """Since when the figures are old, if they are."""
        return stale(self.context.inventory)


class ImagesPage(OfImages):
    async def get(self) -> None:
        query = Query.of(self.fields())
        images = self.listed()
        ours = sum(each.ours for each in images)
        order = ("-" if query.turned else "") + query.sort
        self.show(
            "images.html",
            query=query,
            page=page_of(images, query),
            ours=ours,
            others=len(images) - ours,
            numbers=counts(images),
            names=BADGES,
            badge_names=BADGES,
            short_rules=_SHORT,
            columns=_COLUMNS,
            orders=_ORDERS if order in dict(_ORDERS) else ((order, _("as in the table")), *_ORDERS),
            order=order,
            looked=self.context.inventory.looked,
            looked_for_newer=self._looked_for_newer(),
            stale=self.stale(),
        )

    def _looked_for_newer(self) -> LookedForNewer | None:
        """After the button was pressed."""
        if self.get_query_argument("looked", "") != "newer":
            return None
        return looked_for_newer(self.context.inventory.images())


class NewImage(OfImages):
    """GET asks for a repository, POST has it built."""

    async def get(self) -> None:
        self.show("new-image.html", typed="", ref="")

    async def post(self) -> None:
        typed, ref = self.get_body_argument("repository", ""), self.get_body_argument("ref", "")
        try:
            pinned = await self.context.lookups.pin_spec(self.person, from_form(typed, ref).spec)
            build = await self.context.queue.request(self.person, pinned)
        except BinderError as error:
            self.show("new-image.html", status=error.http_status, problem=error, typed=typed, ref=ref)
            return
        page = f"images/{build.image_id}" if build.hit else f"builds/{build.id}"
        self.redirect(f"{self.prefix}{page}", status=303)


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
