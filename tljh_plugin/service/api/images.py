"""`GET|DELETE images`, `GET|PATCH images/{id}`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from ...access import is_admin
from ...cache.listing import PER_PAGE, Query, as_seen, page_of
from ...cache.plan import Mode
from ...cache.views import plan_view, run_view
from ...errors import ImageNotFound, InvalidRequest
from ...wire import DeletedView, ImageChange, ImageView
from ..handler import ApiHandler, Handler

# How long an answer waits for the end of a run, which goes on without it.
_WAIT_S = 20.0
_MOST_IDS = 500
_MOST_A_PAGE = 1000
_ASKED = ("q", "show", "sort", "page", "limit")


class Images(ApiHandler):
    async def get(self) -> None:
        """`?q=&show=&sort=&page=&limit=`: the images that the person may use, [found and
        ordered](api.md#search-images). For whom one was built, how often it was launched, why it is pinned
        and who last used it is told to that person and administrators alone. Answers a list of `ImageView`.
        """
        asked = self._asked()
        # Newest first unless said, and all of them: programs that know nothing of pages miss none.
        query = Query.of({"sort": "built", **asked})
        views = {each.id: each for each in self.context.inventory.images(self.person)}
        listed = self.context.inventory.listed() if is_admin(self.person) else ()
        known = {each.id: each for each in listed}
        rows = [known.get(view.id) or as_seen(view) for view in views.values()]
        whole = not {"page", "limit"} & set(asked)
        page = page_of(rows, query, max(len(rows), 1) if whole else _per_page(asked.get("limit", "")))
        self.set_header("X-Total-Count", str(page.found))
        # A page beyond the last one is empty here, so that who counts up comes to an end.
        self.answer([views[each.id] for each in page.rows] if query.page <= page.last else [])

    def _asked(self) -> dict[str, str]:
        """The fields of the query that say something. Raises `InvalidRequest` for one that nothing reads."""
        given = self.request.query_arguments
        unknown = sorted(set(given) - set(_ASKED))
        if unknown:
            raise InvalidRequest(
                f"The query has `{unknown[0]:.40}={self.get_query_argument(unknown[0]):.40}`.",
                f"It can have {', '.join(_ASKED)}.",
            )
        asked = {name: self.get_query_argument(name, "").strip() for name in _ASKED}
        return {name: value for name, value in asked.items() if value}

    async def delete(self) -> None:
        """`?id=&mode=&dry_run=1`: evict or erase (`mode`; `erase` if it is not said) the images `id`, which
        may be repeated; administrators, and the owner of one that is not for everyone and about which no
        administrator has decided. With `dry_run` only the plan; a run that takes longer than 20 s is not
        `finished` in the answer. Answers `DeletedView`.
        """
        sweep = self.context.sweep
        plan = await sweep.plan(asked_ids(self.get_query_arguments("id")), asked_mode(self), self.person)
        run = None
        if plan.take and not self.flag("dry_run"):
            run = await sweep.begin(plan, self.person)
            run = await sweep.wait(run.id, _WAIT_S)
        self.answer(DeletedView(plan=plan_view(plan), run=run_view(run) if run else None))


class OneImage(ApiHandler):
    async def get(self, image_id: str) -> None:
        """One image. Answers `ImageView`."""
        self.answer(image_of(self, image_id))

    async def patch(self, image_id: str) -> None:
        """What is said of it, its defaults, its pin, [who may use it](api.md#what-is-said-of-an-image),
        whether it is started. Answers `ImageView`.
        """
        image_of(self, image_id)
        await self.context.describing.change(image_id, self.person, self.body(ImageChange))
        self.answer(image_of(self, image_id))


def _per_page(given: str) -> int:
    """How many images a page has. Raises `InvalidRequest`."""
    if not given:
        return PER_PAGE
    if not (given.isascii() and given.isdecimal() and len(given) < 5 and 0 < int(given) <= _MOST_A_PAGE):
        raise InvalidRequest(
            f"`limit` has the value {given[:40]!r}.", f"Send a number from 1 to {_MOST_A_PAGE}."
        )
    return int(given)


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
