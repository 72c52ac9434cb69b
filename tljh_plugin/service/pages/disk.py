"""The disk: who occupies it, how that came, and the largest of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ...amounts import shown_bytes, shown_seconds
from ...cache.shares import ORDER
from ...errors import InvalidRequest
from ...wire import DiskItem, DiskPartId, DiskSample, DiskView, FilesystemView
from ..pictures import Area, Piece, split_bar, stacked
from ..texts import _
from .page import Page

# How far the picture goes back, in days.
SPANS: dict[str, str] = {"1": _("a day"), "7": _("a week"), "30": _("a month"), "365": _("a year")}

NAMES: dict[DiskPartId, str] = {
    "servers": _("Running servers"),
    "kept-images": _("Kept images"),
    "evictable-images": _("Images that could go"),
    "build-cache": _("Build cache"),
    "mirrors": _("Mirrors of repositories"),
    "projects": _("People's projects"),
    "other-docker": _("Other Docker data"),
    "else": _("Everything else"),
}
MEANINGS: dict[DiskPartId, str] = {
    "servers": _("what servers wrote outside of kept files, and their logs"),
    "kept-images": _("in use, pinned, being built, or kept by a rule of retention"),
    "evictable-images": _("images built here that nothing keeps"),
    "build-cache": _("layers that no image holds; they make the next build fast"),
    "mirrors": _("copies of repositories, so that a new commit fetches only what is new"),
    "projects": _("kept files, deleted projects that can be brought back, and my-files"),
    "other-docker": _("images, containers and volumes of others, and what Docker needs for itself"),
    "else": _("the system and all that is not of The Littlest Binder"),
}
PLACES = {
    "docker": _("images and servers"),
    "state": _("the service's state"),
    "projects": _("people's projects"),
}
_MOST_SAMPLES = 400  # points of the picture


@dataclass(frozen=True)
class ShownPart:
    """A part for people; `size` is empty where it cannot be told."""

    id: str
    name: str
    meaning: str
    size: str
    percent: str


@dataclass(frozen=True)
class ShownFilesystem:
    """A filesystem for people, with its pictures."""

    path: str
    holds: str
    percent: int
    total: str
    used: str
    free: str
    pieces: list[Piece]
    parts: list[ShownPart]
    unknown: bool
    outlook: str
    areas: list[Area]
    first: str
    last: str
    history: list[tuple[str, str, str]]


@dataclass(frozen=True)
class ShownItem:
    name: str
    size: str
    owner: str
    address: str


class DiskPage(Page):
    tab = "disk"

    async def get(self) -> None:
        self.only_administrators()
        await self.show_disk()

    async def show_disk(self, said: str = "") -> None:
        """The page, with a sentence about what was just done."""
        days = self.get_query_argument("days", "7")
        if days not in SPANS:
            raise InvalidRequest(f"The query has `days={days:.20}`.", "Choose one of the page's spans.")
        view = self.context.disk.view()
        since = datetime.now(timezone.utc) - timedelta(days=int(days))
        samples = await self.context.disk.history(since)
        self.show(
            "disk.html",
            view=view,
            said=said,
            days=days,
            spans=SPANS,
            filesystems=[
                shown_filesystem(each, [sample for sample in samples if sample.path == each.path])
                for each in view.filesystems
            ],
            largest=self._largest(view),
        )

    def _largest(self, view: DiskView) -> list[tuple[str, str, list[ShownItem]]]:
        """By part: its id, its name, its largest."""
        found: dict[DiskPartId, list[ShownItem]] = {}
        for item in view.largest:
            found.setdefault(item.part, []).append(
                ShownItem(item.title, at_least(item.bytes, item.whole), _by(item), self._address(item))
            )
        return [(part, NAMES[part], found[part]) for part in ORDER if part in found]

    def _address(self, item: DiskItem) -> str:
        """Where something can be done about it; empty if nowhere."""
        if item.part in ("kept-images", "evictable-images"):
            return f"{self.prefix}images/{item.id}"
        return (
            f"{self.context.environment.hub_home.removesuffix('home')}admin" if item.part == "servers" else ""
        )


class RemoveMirrors(DiskPage):
    """Stored copies of repositories of which there is no image go."""

    async def get(self) -> None:
        """Where a reload of the answer leads."""
        self.only_administrators()
        self.redirect(f"{self.prefix}disk", status=303)

    async def post(self) -> None:
        self.only_administrators()
        gone = await self.context.mirrors.remove(self.person.name)
        self.context.disk.wake()
        freed = shown_bytes(sum(each.bytes for each in gone))
        await self.show_disk(
            _("{n} stored repositories went, {freed}.").format(n=len(gone), freed=freed)
            if gone
            else _("Nothing went: of each stored repository there is an image, or it is just being read.")
        )


def _by(item: DiskItem) -> str:
    """Whose it is, where its name does not say so."""
    return item.owner if item.part in ("kept-images", "evictable-images") else ""


def at_least(count: int, whole: bool) -> str:
    """A size for people, which may be a lower bound."""
    return shown_bytes(count) if whole else _("at least {size}").format(size=shown_bytes(count))


def shown_filesystem(view: FilesystemView, samples: Sequence[DiskSample]) -> ShownFilesystem:
    """A filesystem with its pictures."""
    amounts = [(part.id, part.bytes or 0) for part in view.parts]
    names = [str(each) for each in ORDER]
    thinned = samples[:: len(samples) // _MOST_SAMPLES + 1]
    if samples and thinned[-1] is not samples[-1]:
        thinned = [*thinned, samples[-1]]
    top = max([view.total, *(each.total for each in thinned)])
    moments = [(datetime.fromisoformat(each.time), each.parts) for each in thinned]
    steps = thinned[:: len(thinned) // 12 + 1]
    return ShownFilesystem(
        path=view.path,
        holds=", ".join(PLACES[each] for each in view.holds),
        percent=round(view.percent),
        total=shown_bytes(view.total),
        used=shown_bytes(view.used),
        free=shown_bytes(view.free),
        pieces=split_bar(amounts, view.total),
        parts=[
            ShownPart(
                part.id,
                NAMES[part.id],
                MEANINGS[part.id],
                "" if part.bytes is None else at_least(part.bytes, part.whole),
                "" if part.bytes is None else f"{100 * part.bytes / (view.total or 1):.1f} %",
            )
            for part in view.parts
        ],
        unknown=any(part.bytes is None for part in view.parts),
        outlook=outlook(view),
        areas=stacked(names, moments, top),
        first=thinned[0].time if thinned else "",
        last=thinned[-1].time if thinned else "",
        history=[
            (each.time, shown_bytes(each.used), f"{100 * each.used / (each.total or 1):.0f} %")
            for each in reversed(steps)
        ],
    )


def outlook(view: FilesystemView) -> str:
    """How it grows, and when it would be full."""
    if view.growth is None:
        return _("It is not known yet how fast it fills up: that takes an hour.")
    if view.full_in_s is None:
        less = shown_bytes(round(-view.growth))
        return _("Over the last day it did not grow ({less} less a day).").format(less=less)
    more = shown_bytes(round(view.growth))
    if view.full_in_s > 365 * 86_400:
        return _("Over the last day it grew by {more} a day.").format(more=more)
    rest = shown_seconds(max(60.0, view.full_in_s))
    return _("At the rate of the last day, {more} a day, it is full in {rest}.").format(more=more, rest=rest)
