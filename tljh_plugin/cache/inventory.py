"""What is there: our recorded images as Docker holds them now, and who uses them.

Pages read it from memory and cost no Docker call. It follows Docker's events, and looks again from time to
time, since some engines emit no event for a finished build.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..access import is_admin, is_open_to, may
from ..build.identity import ImageIdentity
from ..engine import ContainerRow, Engine, EngineEvent
from ..engine import ImageRow as DockerImage
from ..errors import BinderError
from ..labels import KIND_LABEL, PERSON_LABEL, SERVER_LABEL
from ..store import ImageRow, ImageUse, LatestBuild, NewerRow, Store, utc_now
from ..time_limit import within
from ..wire import ImageView, Person
from .listing import Listed, Verdict

_log = logging.getLogger("littlest_binder.inventory")

_PERIOD_S = 60.0
_SETTLE_S = 0.2  # events come in bursts: one look for all of them
_RETRY_S = 5.0
_TELLING = {
    "image": frozenset({"delete", "import", "load", "prune", "pull", "tag", "untag"}),
    "container": frozenset({"create", "destroy", "die", "rename", "start"}),
}


@dataclass(frozen=True)
class Look:
    """What was found for an identity: the image to use, or the ids of those that are none.

    `retired` is an image that would be used if it were not retired, where there is no other.
    """

    hit: ImageRow | None
    considered: frozenset[str] = frozenset()
    retired: ImageRow | None = None


@dataclass(frozen=True)
class Snapshot:
    """What was found at one moment: `present` are all images of the engine, `recorded` those of ours, also
    what Docker lost."""

    recorded: tuple[ImageRow, ...] = ()
    uses: Mapping[str, ImageUse] = field(default_factory=dict)
    present: Mapping[str, DockerImage] = field(default_factory=dict)
    containers: tuple[ContainerRow, ...] = ()
    builds: Mapping[str, LatestBuild] = field(default_factory=dict)  # the newest one by identity
    seconds: Mapping[str, float] = field(default_factory=dict)  # what builds took, by their ids
    newer: Mapping[str, NewerRow] = field(default_factory=dict)

    @cached_property
    def recorded_as(self) -> Mapping[str, ImageRow]:
        """Our images by their ids, those among them that Docker lost."""
        return {row.image_id: row for row in self.recorded}

    @cached_property
    def containers_of(self) -> Mapping[str, list[ContainerRow]]:
        """All containers by the image that they are made of."""
        found: dict[str, list[ContainerRow]] = defaultdict(list)
        for each in self.containers:
            found[each.image_id].append(each)
        return found


class Inventory:
    """`await start()` … `await stop()`; without them, `await refresh()` by hand.

    `recipe` is the one that builds use now, as far as it is known: other images are marked older. What others
    work out of an image is asked of `own_bytes` (bytes that erasing it alone would free), `sizes` (bytes of
    all of its layers on the disk; where they are not known, Docker's own figure is taken), `keeps` (codes of
    the rules by which retention keeps images, by id), `verdicts` (those with words, for the administrator's
    table) and `title_of`; all of them answer from memory. `noticed`
    hears the ids of all images of the engine at each look.
    """

    def __init__(self, store: Store, engine: Engine, *, period_s: float = _PERIOD_S) -> None:
        self._store = store
        self._engine = engine
        self._period_s = period_s
        self._snapshot = Snapshot()
        self._looking = asyncio.Lock()
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.recipe = ""
        self.looked = ""  # when the list was made last, in UTC
        self.problem: BinderError | None = None  # why it could not be made again since
        self.noticed: Callable[[Collection[str]], None] = lambda image_ids: None
        self.own_bytes: Callable[[], Mapping[str, int | None]] = dict
        self.sizes: Callable[[], Mapping[str, int | None]] = dict
        self.keeps: Callable[[], Mapping[str, str]] = dict
        self.verdicts: Callable[[], Mapping[str, Verdict]] = dict
        self.title_of: Callable[[ImageRow], str] = _own_title
        self._listed: tuple[Listed, ...] = ()
        self._listed_of: tuple[object, object, object] = (None, None, None)
        self._listed_at = ("", "")

    async def start(self) -> None:
        """Look once, then go on in the background; a Docker that does not answer yet is no error."""
        await self.look_again()
        self._tasks = [asyncio.create_task(self._follow_docker()), asyncio.create_task(self._keep_fresh())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def refresh(self) -> None:
        """Look at Docker and the store now. Raises `EngineError` and `StoreError`; what was known stays."""
        async with self._looking:
            present = await self._engine.images()
            containers = await self._engine.containers()
            self._snapshot = Snapshot(
                recorded=tuple(await self._store.images()),
                uses=await self._store.uses(),
                present={image.id: image for image in present},
                containers=tuple(containers),
                builds=await self._store.latest_builds(),
                seconds=await self._store.build_seconds(),
                newer=await self._store.newer(),
            )
            self.looked, self.problem = utc_now(), None
            self.noticed(self._snapshot.present.keys())

    # -- from memory ----------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        """What was found last; another value whenever the list was made anew."""
        return self._snapshot

    def servers(self) -> int:
        """How many of our servers ran at that moment."""
        return sum(
            each.state == "running"
            and each.labels.get(KIND_LABEL) == "server"
            and self._engine.is_ours(each.labels)
            for each in self._snapshot.containers
        )

    def images(self, person: Person | None = None) -> list[ImageView]:
        """Our images that are in Docker, newest first; with a person, those that they may see."""
        return [
            self._view(image, person)
            for image in self._snapshot.recorded
            if image.image_id in self._snapshot.present and (person is None or may(person, "see", image))
        ]

    def image(self, image_id: str, person: Person | None = None) -> ImageView | None:
        row = self._snapshot.recorded_as.get(image_id)
        if row is None or image_id not in self._snapshot.present:
            return None
        return self._view(row, person) if person is None or may(person, "see", row) else None

    def listed(self) -> tuple[Listed, ...]:
        """Every image of the engine, ours or not, as the administrator's table knows it.

        It is put together once until something changes; a pin that ends is seen within a minute.
        """
        sources = (self._snapshot, self.own_bytes(), self.verdicts())
        moment = (self.recipe, utc_now()[:16])
        # The very same values, not equal ones: comparing takes longer than putting together.
        same = all(now is before for now, before in zip(sources, self._listed_of, strict=True))
        if not same or moment != self._listed_at:
            self._listed_of, self._listed_at = sources, moment
            _, own, verdicts = sources
            rows = self._snapshot.recorded_as
            self._listed = tuple(
                self._ours(row, image, own, verdicts)
                if (row := rows.get(image.id))
                else self._others(image, own.get(image.id))
                for image in self._snapshot.present.values()
            )
        return self._listed

    def others(self) -> list[DockerImage]:
        """The images of Docker that are not in our list."""
        ours = self._snapshot.recorded_as
        return [image for image in self._snapshot.present.values() if image.id not in ours]

    def wake(self) -> None:
        """Something changed that Docker does not tell of: the list is made anew in a moment."""
        self._told.set()

    def containers_of(self, image_id: str) -> list[ContainerRow]:
        """All containers of an image, ours or not, running or not."""
        return list(self._snapshot.containers_of.get(image_id, ()))

    def _view(self, image: ImageRow, person: Person | None) -> ImageView:
        use = self.use_of(image.image_id)
        build = self._snapshot.builds.get(image.identity)
        all_seen = person is None or is_admin(person)
        name = person.name if person else ""
        told = all_seen or image.owner == name
        return ImageView(
            id=image.image_id,
            name=image.name,
            title=self.title_of(image),
            spec=image.spec,
            repository=image.url,
            commit=image.commit,
            asked_ref=image.asked_ref,
            built_by=image.built_by if told else "",
            created=image.created,
            size=self.size_of(self._snapshot.present[image.image_id]),
            last_used=use.last_used,
            launches=use.launches if told else 0,
            pinned=image.pin_holds(),
            older_recipe=self.is_older(image),
            users=self._users(image, person),
            build_id=image.build_id,
            visibility=image.visibility,
            groups=image.groups,
            description=image.description,
            icon=image.icon,
            profile=image.profile,
            urlpath=image.urlpath,
            pin_reason=image.pin_reason if told and image.pin_holds() else "",
            pinned_until=image.pinned_until if image.pin_holds() else "",
            retired=image.retired,
            adopted=image.adopted,
            build_seconds=self._snapshot.seconds.get(image.build_id),
            last_used_by=use.last_used_by if told or use.last_used_by == name else "",
            own_bytes=self.own_bytes().get(image.image_id),
            building=build is not None and build.active and (build.open or all_seen),
            keep=self.keeps().get(image.image_id, ""),
            newer_commit=self._newer_commit(image),
            newer_looked=newer.looked if (newer := self._snapshot.newer.get(image.image_id)) else "",
            newer_problem=newer.problem if newer and told else "",
            decided=image.decided,
        )

    def _newer_commit(self, image: ImageRow) -> str:
        """Where the asked ref was seen to point, if that is another commit."""
        found = self._snapshot.newer.get(image.image_id)
        return found.commit if found is not None and found.commit != image.commit else ""

    def _ours(
        self,
        row: ImageRow,
        image: DockerImage,
        own: Mapping[str, int | None],
        verdicts: Mapping[str, Verdict],
    ) -> Listed:
        use = self.use_of(row.image_id)
        build = self._snapshot.builds.get(row.identity)
        verdict = verdicts.get(row.image_id)
        pinned = row.pin_holds()
        return Listed(
            id=row.image_id,
            name=row.name,
            title=self.title_of(row),
            repository=row.url,
            commit=row.commit,
            asked_ref=row.asked_ref,
            spec=row.spec,
            icon=row.icon,
            built_by=row.built_by,
            created=row.created,
            launches=use.launches,
            last_used=use.last_used,
            last_used_by=use.last_used_by,
            users=self._users(row, None),
            containers=len(self._snapshot.containers_of.get(row.image_id, ())),
            build_seconds=self._snapshot.seconds.get(row.build_id),
            size=self.size_of(image),
            own_bytes=own.get(row.image_id),
            pinned=pinned,
            pin_reason=row.pin_reason if pinned else "",
            pinned_until=row.pinned_until if pinned else "",
            retired=row.retired,
            adopted=row.adopted,
            older_recipe=self.is_older(row),
            building=build is not None and build.active,
            failed=build is not None and build.state == "failed",
            last_build=build.id if build else row.build_id,
            newer_commit=self._newer_commit(row),
            private=row.visibility != "everyone",
            keep=verdict.keep if verdict else "",
            verdict=verdict.text if verdict else "",
            goes=verdict is not None and verdict.goes,
        )

    def _others(self, image: DockerImage, own: int | None) -> Listed:
        names = image.tags or image.digests
        return Listed(
            id=image.id,
            name=", ".join(names),
            title=names[0] if names else image.id[:19],
            created=image.created,
            containers=len(self._snapshot.containers_of.get(image.id, ())),
            users=tuple(f"container {each.name}" for each in self._snapshot.containers_of.get(image.id, ())),
            size=self.size_of(image),
            own_bytes=own,
            ours=False,
        )

    def size_of(self, image: DockerImage) -> int:
        """Bytes of an image with the layers that it shares."""
        measured = self.sizes().get(image.id)
        return image.size if measured is None else measured

    def use_of(self, image_id: str) -> ImageUse:
        """How often it was launched, and when a server last ran on it, and whose: now, while one does."""
        use = self._snapshot.uses.get(image_id, ImageUse(0, ""))
        running = sorted(
            each.labels.get(PERSON_LABEL, "")
            for each in self._snapshot.containers_of.get(image_id, ())
            if each.state == "running"
            and self._engine.is_ours(each.labels)
            and each.labels.get(KIND_LABEL) == "server"
        )
        if not running:
            return use
        by = use.last_used_by if use.last_used_by in running else running[0]
        return ImageUse(use.launches, utc_now(), by)

    def _users(self, image: ImageRow, person: Person | None) -> tuple[str, ...]:
        """Which servers use an image; what others run is told to administrators and the image's owner."""
        only = "" if person is None or is_admin(person) or image.owner == person.name else person.name
        found = []
        for each in self.containers_of(image.image_id):
            user = each.labels.get(PERSON_LABEL)
            if user is not None and self._engine.is_ours(each.labels) and only in ("", user):
                found.append(f"{user}/{each.labels.get(SERVER_LABEL, '')}")
        return tuple(sorted(found))

    def is_older(self, image: ImageRow) -> bool:
        """Whether the image was made by another recipe than the present one."""
        return bool(self.recipe) and not image.adopted and image.recipe != self.recipe

    # -- hits -----------------------------------------------------------------------------------------

    async def look(self, identity: ImageIdentity, person: Person) -> Look:
        """The best launchable image of an identity that is open to the person.

        It must be recorded under the full identity, and Docker must have the recorded id at this moment: an
        image that somebody removed a second ago is no hit. Raises `EngineError`.
        """
        recorded = await self._store.images_of(identity.key)
        for image in sorted(recorded, key=lambda each: (each.retired, self.is_older(each))):
            if is_open_to(person, image) and await self._engine.image(image.image_id) is not None:
                considered = frozenset(each.image_id for each in recorded)
                return Look(None, considered, image) if image.retired else Look(image)
        return Look(None, frozenset(image.image_id for image in recorded))

    async def hit(self, identity: ImageIdentity, person: Person) -> ImageRow | None:
        """As `look`, for who only wants the image."""
        return (await self.look(identity, person)).hit

    # -- in the background ----------------------------------------------------------------------------

    async def look_again(self) -> bool:
        """As `refresh`, where a failure only means that the list is older; whether it worked."""
        try:
            await self.refresh()
        except BinderError as error:
            self.problem = error
            _log.warning("The list of images was not refreshed: %s", error)
            return False
        return True

    async def _keep_fresh(self) -> None:
        while True:
            try:
                await within(self._period_s, self._told.wait())
                await asyncio.sleep(_SETTLE_S)
            except asyncio.TimeoutError:
                pass
            self._told.clear()
            await self.look_again()

    async def _follow_docker(self) -> None:
        """Events, for ever; after a break the list is made anew, since events were missed."""
        while True:
            try:
                async for event in self._engine.events():
                    if _tells_something(event):
                        self._told.set()
            except BinderError as error:
                _log.info("Docker's events broke off: %s", error)
            self._told.set()  # pages say at once that Docker is gone
            await asyncio.sleep(_RETRY_S)
            self._told.set()


def _own_title(image: ImageRow) -> str:
    return image.title


def _tells_something(event: EngineEvent) -> bool:
    # Exec and health-check events (`exec_start: …`) come by the second and change nothing here.
    return event.action in _TELLING.get(event.type, frozenset())
