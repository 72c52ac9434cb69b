"""The administrator's table of images: searched, filtered, sorted and cut into pages, all from memory.

Comes in: one small value an image, ours or somebody else's. Goes out: those of one page. Pure, so that a
thousand images cost milliseconds and Docker is asked nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, Protocol, cast, get_args
from urllib.parse import urlencode

from ..errors import InvalidRequest
from ..wire import ImageView

PER_PAGE = 50

Sort = Literal["title", "built", "took", "launches", "used", "servers", "size", "frees"]
Badge = Literal[
    "ready",
    "in-use",
    "pinned",
    "building",
    "failed",
    "newer",
    "older",
    "retired",
    "private",
    "adopted",
    "not-ours",
    "could-go",
    "goes",
]
# Numbers and times begin with the greatest, texts with the first.
_RISING: frozenset[Sort] = frozenset({"title"})
_LONGEST_TEXT = 200


class Verdict(Protocol):
    """What retention makes of an image, see `Listed`."""

    @property
    def keep(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def goes(self) -> bool: ...


@dataclass(frozen=True)
class Listed:
    """An image as the table knows it. Sizes in bytes, times in UTC as ISO 8601.

    `own_bytes` is what erasing it alone would free (`None`: not known on this engine), `keep` the code of the
    rule by which retention keeps it (empty: it could be taken), `verdict` the same for people, `goes` whether
    retention would take it now. `newer_commit` is where the asked ref points meanwhile, `last_build` the
    newest build of the same repository and commit, of which `building` and `failed` speak. Of images that
    are not ours (`ours` false) only what Docker says is known.
    """

    id: str
    name: str
    title: str
    repository: str = ""
    commit: str = ""
    asked_ref: str = ""
    spec: str = ""
    icon: str = ""
    built_by: str = ""
    created: str = ""
    build_seconds: float | None = None
    launches: int = 0
    last_used: str = ""
    last_used_by: str = ""
    users: tuple[str, ...] = ()
    containers: int = 0
    size: int = 0
    own_bytes: int | None = None
    pinned: bool = False
    pin_reason: str = ""
    pinned_until: str = ""
    retired: bool = False
    adopted: bool = False
    older_recipe: bool = False
    building: bool = False
    failed: bool = False
    last_build: str = ""
    newer_commit: str = ""
    private: bool = False
    ours: bool = True
    keep: str = ""
    verdict: str = ""
    goes: bool = False

    @property
    def in_use(self) -> bool:
        """Whether a container, running or not, is made of it."""
        return self.containers > 0

    @cached_property
    def badges(self) -> frozenset[Badge]:
        """What is to be said of it, and by what it is filtered."""
        said: dict[Badge, bool] = {
            "ready": self.ours and not self.retired,
            "in-use": self.in_use,
            "pinned": self.pinned,
            "building": self.building,
            "failed": self.failed,
            "newer": bool(self.newer_commit),
            "older": self.older_recipe,
            "retired": self.retired,
            "private": self.private,
            "adopted": self.adopted,
            "not-ours": not self.ours,
            "could-go": self.ours and not self.keep,
            "goes": self.goes,
        }
        return frozenset(badge for badge, holds in said.items() if holds)

    @cached_property
    def sought(self) -> str:
        """The text in which a search looks."""
        parts = (
            self.title,
            self.repository,
            self.name,
            self.asked_ref,
            self.commit,
            self.built_by,
            self.last_used_by,
            self.pin_reason,
            self.id,
            *self.users,
        )
        return "\n".join(parts).casefold()


@dataclass(frozen=True)
class Query:
    """What is asked of the table: words that must all occur, a badge or none, an order, a page from 1."""

    text: str = ""
    badge: Badge | None = None
    sort: Sort = "used"
    turned: bool = False  # the other way round
    page: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Query:
        """From the fields of the page's form. Raises `InvalidRequest` naming the field and its value."""
        badge, sort, page = given.get("show", ""), given.get("sort", ""), given.get("page", "") or "1"
        if badge and badge not in get_args(Badge):
            raise _refused("show", badge, get_args(Badge))
        if sort and sort.removeprefix("-") not in get_args(Sort):
            raise _refused("sort", sort, get_args(Sort))
        if not (page.isascii() and page.isdecimal() and len(page) < 8 and int(page) > 0):
            raise InvalidRequest(f"`page` has the value {page[:40]!r}.", "Pages are numbered from 1.")
        return cls(
            text=given.get("q", "").strip()[:_LONGEST_TEXT],
            badge=cast(Badge, badge) if badge else None,
            sort=cast(Sort, sort.removeprefix("-") or "used"),
            turned=sort.startswith("-"),
            page=int(page),
        )

    @property
    def plain(self) -> bool:
        """Whether all images are asked for."""
        return not self.text and self.badge is None

    @property
    def rising(self) -> bool:
        """Whether the least comes first."""
        return (self.sort in _RISING) != self.turned

    def fields(self) -> dict[str, str]:
        """What `of` reads, without what goes without saying."""
        sort = ("-" if self.turned else "") + self.sort
        said = {
            "q": self.text,
            "show": self.badge or "",
            "sort": "" if sort == "used" else sort,
            "page": "" if self.page == 1 else str(self.page),
        }
        return {key: value for key, value in said.items() if value}

    def to_page(self, number: int) -> str:
        """The query of another page of the same table, with its question mark."""
        return _address(replace(self, page=number))

    def sorted_by(self, sort: Sort) -> str:
        """The query of the table in another order; the other way round if it is in this one."""
        turned = self.sort == sort and not self.turned
        return _address(replace(self, sort=sort, turned=turned, page=1))


@dataclass(frozen=True)
class Page:
    """One page: its images, its number, how many pages there are, how many images were found, and of how
    many."""

    rows: tuple[Listed, ...]
    number: int
    last: int
    found: int
    of_all: int
    per_page: int = PER_PAGE

    @property
    def first_place(self) -> int:
        """The place of its first image among those found, from 1; 0 if none was."""
        return (self.number - 1) * self.per_page + 1 if self.rows else 0

    @property
    def last_place(self) -> int:
        return self.first_place + len(self.rows) - 1 if self.rows else 0


def found(images: Iterable[Listed], query: Query) -> list[Listed]:
    """All images that a query means, in its order; equal ones by title and id, so that pages are stable."""
    words = query.text.casefold().split()
    chosen = [
        each
        for each in images
        if (query.badge is None or query.badge in each.badges) and all(word in each.sought for word in words)
    ]
    chosen.sort(key=lambda each: (each.title.casefold(), each.id))
    value = _VALUES[query.sort]
    known = [each for each in chosen if value(each) is not None]
    known.sort(key=value, reverse=not query.rising)
    # What is not known comes last in either direction.
    return known + [each for each in chosen if value(each) is None]


def page_of(images: Collection[Listed], query: Query, per_page: int = PER_PAGE) -> Page:
    """The page that was asked for, or the last one where there are fewer."""
    matching = found(images, query)
    last = max(1, -(-len(matching) // per_page))
    number = min(query.page, last)
    rows = matching[(number - 1) * per_page : number * per_page]
    return Page(tuple(rows), number, last, len(matching), len(images), per_page)


def as_seen(image: ImageView) -> Listed:
    """An image as somebody sees it who is told less than an administrator: by what they may not read nothing
    is found."""
    known: dict[str, Any] = {name: getattr(image, name) for name in _SEEN}
    return Listed(
        **known,
        containers=len(image.users),
        last_build=image.build_id,
        private=image.visibility != "everyone",
    )


def counts(images: Iterable[Listed]) -> dict[Badge, int]:
    """How many images have each badge."""
    numbers: dict[Badge, int] = dict.fromkeys(get_args(Badge), 0)
    for each in images:
        for badge in each.badges:
            numbers[badge] += 1
    return numbers


_SEEN = sorted({each.name for each in fields(Listed)} & set(ImageView.model_fields))

_VALUES: dict[Sort, Callable[[Listed], Any]] = {
    "title": lambda each: each.title.casefold(),
    "built": lambda each: each.created or None,
    "took": lambda each: each.build_seconds,
    # Of others' images neither is known; of ours, never used is the least.
    "launches": lambda each: each.launches if each.ours else None,
    "used": lambda each: each.last_used if each.ours else None,
    "servers": lambda each: each.containers,
    "size": lambda each: each.size,
    "frees": lambda each: each.own_bytes,
}


def _address(query: Query) -> str:
    fields = query.fields()
    return f"?{urlencode(fields)}" if fields else "?"


def _refused(field: str, value: str, known: Sequence[str]) -> InvalidRequest:
    return InvalidRequest(
        f"`{field}` has the value {value[:40]!r}.", f"It can be one of {', '.join(known)}, or be left out."
    )
