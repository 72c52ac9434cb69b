"""Newer commits: whether the ref of an image points further now, and images of what it points to.

The old image stays, and servers go on with it; retention takes it in its time. What was decided about it
(title, pin, who may use it) goes to the new one. Deciding (`heads`, `chosen`, `is_due`) is pure.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, time, timedelta
from typing import Any

from ..build.queue import Queue
from ..cache.inventory import Inventory
from ..errors import BinderError, ImageNotFound, NotFound
from ..settings import Settings, fresh
from ..source.credentials import Credentials, Login
from ..source.resolve import PinnedRepo, Resolver
from ..source.spec import parse_link
from ..store import NewerRow, Store, utc_now
from ..wire import BuildView, ErrorView, ImageView, NewerView, Person
from .again import asked_spec

_log = logging.getLogger("littlest_binder.newer")

SYSTEM = Person(name="system", admin=True)

_FULL_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_AT_ONCE = 4  # hosts that are asked at the same time
_PERIOD_S = 30.0
_NOTE = "nightly"
# A machine that was off at that time leaves the night out: people may be at work when it comes up.
_WINDOW = timedelta(hours=1)

Key = tuple[str, str, str]


# -- deciding -----------------------------------------------------------------------------------------


def key_of(image: ImageView) -> Key:
    """Images of one repository, folder and asked ref follow each other."""
    return image.repository, parse_link(image.spec).subdir, image.asked_ref


def is_fixed(image: ImageView) -> bool:
    """Whether the image was asked for by its commit, or is no repository's: nothing newer can come."""
    return image.adopted or bool(_FULL_COMMIT.fullmatch(image.asked_ref.lower()))


def heads(images: Iterable[ImageView]) -> list[ImageView]:
    """Of each line of images the one whose place a newer one would take: a pinned one, else the newest."""
    found: dict[Key, ImageView] = {}
    for image in sorted(images, key=lambda each: (each.pinned, each.created)):
        if not (image.retired or is_fixed(image)):
            found[key_of(image)] = image
    return list(found.values())


def chosen(images: Sequence[ImageView], rule: str) -> list[ImageView]:
    """Those that `updates.rebuild` names: none, the pinned ones, those of the front page, all."""
    if rule == "none":
        return []
    candidates = heads(images)
    if rule == "pinned":
        return [image for image in candidates if image.pinned]
    if rule == "ready":
        newest: dict[tuple[str, str], str] = {}
        for image in sorted(images, key=lambda each: each.created):
            if image.visibility == "everyone" and not image.retired:
                newest[key_of(image)[:2]] = image.id
        lines = {key_of(image) for image in images if image.id in newest.values()}
        return [image for image in candidates if key_of(image) in lines]
    return candidates


def is_due(now: datetime, at: str, last: str) -> bool:
    """Whether the nightly look is to be made: in the hour after `at` (`03:30`, local), once a day."""
    if not at:
        return False
    hours, minutes = at.split(":")
    begin = datetime.combine(now.date(), time(int(hours), int(minutes)), now.tzinfo)
    if begin > now:
        begin -= timedelta(days=1)
    return now - begin < _WINDOW and last < begin.isoformat()


# -- doing --------------------------------------------------------------------------------------------


class Newer:
    """`start()` … `await stop()`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        inventory: Inventory,
        queue: Queue,
        resolver: Resolver,
        credentials: Credentials,
    ) -> None:
        self._settings = settings
        self._store = store
        self._inventory = inventory
        self._queue = queue
        self._resolver = resolver
        self._credentials = credentials
        self._asking = asyncio.Semaphore(_AT_ONCE)
        self._backlog: asyncio.Queue[tuple[Person, str]] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take up what was begun, build what is asked for one by one, and look every night."""
        for work in (self._take_up(), self._work_off(), self._nights()):
            self._spawn(work)

    async def stop(self) -> None:
        """What builds is the queue's; what it is to stand in for is in the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look(
        self, person: Person, image_ids: Collection[str] = (), *, build: bool = False
    ) -> list[NewerView]:
        """Ask the git hosts where the refs of these images, or of all, point now.

        With `build` what is newer is built: one image at once, several one after the other in the background.
        Raises `StoreError`; what goes wrong with one image is said with it.
        """
        images = self._inventory.images(person)
        known = {image.id: image for image in images}
        wanted = [known[each] for each in image_ids if each in known] if image_ids else heads(images)
        views = await asyncio.gather(*(self._look_at(image) for image in wanted))
        gone = [NewerView(image_id=each, state="gone") for each in image_ids if each not in known]
        await self._remember(views)
        newer = [view for view in views if view.state == "newer"]
        await self._store.audit(
            person.name, "image.look", "images", f"{len(views)} looked at, {len(newer)} newer"
        )
        if build and len(newer) == 1:
            begun = await self._build_quietly(person, known[newer[0].image_id], newer[0])
            return [begun if view is newer[0] else view for view in views] + gone
        if build:
            for view in newer:
                self._put(person, view.image_id)
        return [*views, *gone]

    async def build(self, person: Person, image_id: str) -> BuildView:
        """Look, and build what the image's ref points to now; a hit if that is there. The image stays.

        Raises `ImageNotFound`, `NotOurs`, and what looking and requesting a build raise.
        """
        image = self._inventory.image(image_id, person)
        if image is None:
            raise ImageNotFound(f"There is no image {image_id[:80]!r}.", "Look at the list of images.")
        pinned = await self._resolve(image)
        await self._remember([_view(image, pinned.commit)])
        return await self._request(person, image, pinned)

    # -- looking --------------------------------------------------------------------------------------

    async def _look_at(self, image: ImageView) -> NewerView:
        if is_fixed(image):
            return _view(image, image.commit, fixed=True)
        try:
            async with self._asking:
                return _view(image, (await self._resolve(image)).commit)
        except BinderError as error:
            said = ErrorView(**error.to_dict())
            return _view(image, "").model_copy(update={"state": "failed", "error": said})

    async def _resolve(self, image: ImageView) -> PinnedRepo:
        spec = asked_spec(image)
        login: Login | None = None
        if image.visibility != "everyone" and image.built_by:
            # Of groups nothing is known here: a credential that is for a group is found when they build.
            login = await self._credentials.find(Person(name=image.built_by), spec.clone_url)
        return await self._resolver.resolve(spec, login=login)

    async def _remember(self, views: Iterable[NewerView]) -> None:
        before, now = await self._store.newer(), utc_now()
        rows = []
        for view in views:
            if view.state == "failed" and view.error is not None:
                last = before[view.image_id].commit if view.image_id in before else view.commit
                rows.append(NewerRow(view.image_id, last, now, view.error.message))
            elif view.state in ("same", "newer"):
                rows.append(NewerRow(view.image_id, view.newer_commit or view.commit, now))
        await self._store.set_newer(rows)
        await self._inventory.look_again()

    # -- building -------------------------------------------------------------------------------------

    async def _request(self, person: Person, image: ImageView, pinned: PinnedRepo) -> BuildView:
        # What needed a credential stays its owner's, whoever asks for the newer one.
        asking = Person(name=image.built_by) if pinned.login is not None else person
        build = await self._queue.request(asking, pinned, what="build.update")
        # A hit is an image about which others may have decided something already.
        if build.id and not build.hit and pinned.commit != image.commit:
            await self._store.add_successor(build.id, image.id)
            self._spawn(self._succeed(build.id))
        return build

    async def _build_quietly(self, person: Person, image: ImageView, view: NewerView) -> NewerView:
        try:
            build = await self._request(person, image, await self._resolve(image))
        except BinderError as error:
            return view.model_copy(update={"error": ErrorView(**error.to_dict())})
        return view.model_copy(update={"build_id": build.id})

    def _put(self, person: Person, image_id: str) -> None:
        if image_id not in self._waiting:
            self._waiting.add(image_id)
            self._backlog.put_nowait((person, image_id))

    async def _work_off(self) -> None:
        """One by one, so that people's own builds find a free place."""
        while True:
            person, image_id = await self._backlog.get()
            try:
                build = await self.build(person, image_id)
                if build.id:
                    await self._queue.finished(build.id)
            except BinderError as error:
                _log.warning("A newer commit of %s was not built: %s", image_id, error)
            finally:
                self._waiting.discard(image_id)

    async def _succeed(self, build_id: str) -> None:
        """Once it is built, the new image takes the place of the old one."""
        try:
            build = await self._queue.finished(build_id)
        except NotFound:
            build = None
        if build is None or build.state not in ("queued", "running"):
            with suppress(BinderError):
                if await self._store.succeed(build_id, SYSTEM.name):
                    await self._inventory.look_again()

    async def _take_up(self) -> None:
        with suppress(BinderError):
            for build_id in await self._store.successors():
                self._spawn(self._succeed(build_id))

    # -- nights ---------------------------------------------------------------------------------------

    async def _nights(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_S)
            try:
                await self.night(datetime.now().astimezone())
            except BinderError as error:
                _log.warning("The nightly look for newer commits failed: %s", error)

    async def night(self, now: datetime) -> bool:
        """Make the nightly look, if it is due; whether it was. Raises `StoreError`."""
        updates = fresh(self._settings).updates
        if not is_due(now, updates.nightly_at, (await self._store.notes()).get(_NOTE, "")):
            return False
        await self._store.set_note(_NOTE, now.isoformat())
        await self._inventory.look_again()
        images = self._inventory.images(SYSTEM)
        wanted = {image.id for image in chosen(images, updates.rebuild)}
        for view in await self.look(SYSTEM):
            if view.state == "newer" and view.image_id in wanted:
                self._put(SYSTEM, view.image_id)
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _view(image: ImageView, commit: str, *, fixed: bool = False) -> NewerView:
    return NewerView(
        image_id=image.id,
        title=image.title,
        spec=image.spec,
        ref=image.asked_ref,
        commit=image.commit,
        newer_commit=commit if commit != image.commit else "",
        state="fixed" if fixed else "same" if commit == image.commit else "newer",
    )
