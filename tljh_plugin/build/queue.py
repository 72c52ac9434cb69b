"""Who gets which build, and when: hit, join or wait; limits; cancel; and taking up again after a restart.

Every wish is a row in the store before it is anything else. One task a build waits for its turn, builds, and
is concluded by another that nobody cancels, so that every build ends with a final line and leaves nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone

from .. import request_ids
from ..access import is_admin, may, may_build
from ..cache.inventory import Inventory
from ..engine import Engine
from ..errors import (
    BinderError,
    BuildFailed,
    CredentialNeeded,
    Forbidden,
    ImageNotFound,
    ImageRetired,
    NotABuilder,
    NotFound,
    QueueFull,
    ServiceDown,
    UnexpectedFailure,
)
from ..settings import Settings, fresh
from ..source.checkout import Checkouts
from ..source.credentials import Credentials, Login
from ..source.resolve import PinnedRepo, Resolver
from ..source.spec import parse_link
from ..store import BuildRow, ImageRow, Store, utc_now
from ..wire import BuildState, BuildView, ErrorView, LogLine, Person, Phase
from .identity import ImageIdentity, build_named, platform_of
from .log import BuildLog
from .pipeline import Pipeline
from .processes import end_orphan
from .views import build_view, error_view, final_line, hit_view

_log = logging.getLogger("littlest_binder.queue")

# A build during which the service dies again and again may be the cause of it.
MAX_ATTEMPTS = 3

Builds = list[BuildView]


@dataclass(eq=False)
class _Entry:
    """A build that is queued or running in this process. `turn` is set when it may start, `done` when
    nothing of it is left over."""

    row: BuildRow
    log: BuildLog
    login: Login | None = field(default=None, repr=False)
    phase: Phase = "queued"
    progress: int = 0
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    work: asyncio.Task[None] | None = None
    conclusion: asyncio.Task[None] | None = None


class Queue:
    """`await start()` … `await stop()`; `inventory` is started by whoever made it."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engine: Engine,
        resolver: Resolver,
        checkouts: Checkouts,
        inventory: Inventory,
        *,
        credentials: Credentials | None = None,
        pipeline: Pipeline | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._resolver = resolver
        self._inventory = inventory
        self._credentials = credentials or Credentials(settings)
        self._pipeline = pipeline or Pipeline(settings, store, engine, resolver, checkouts, inventory)
        self._entries: dict[str, _Entry] = {}
        self._platform = ""
        self._stopping = False
        self.asked: Callable[[str], None] = lambda outcome: None  # hit, join, miss, refused
        self.ended: Callable[[BuildRow], None] = lambda row: None

    @property
    def stopping(self) -> bool:
        """Whether nothing new is taken."""
        return self._stopping

    @property
    def counts(self) -> tuple[int, int]:
        """How many builds wait, and how many run."""
        running = sum(entry.turn.is_set() for entry in self._entries.values())
        return len(self._entries) - running, running

    # -- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what a service before us left: end its workers, finish what had ended, queue the rest.

        Raises `StoreError`. A Docker that does not answer yet is no error: what is left in it is tidied the
        next time.
        """
        left = await self._store.unsettled_builds()
        for row in left:
            if row.worker_pid and await end_orphan(row.worker_pid, row.worker_start, row.id):
                _log.warning(
                    "The worker %s of build %s was still running; it was ended.", row.worker_pid, row.id
                )
        await self._remove_strays()
        await self._pipeline.know_recipe()
        for row in left:
            await self._take_up(row)

    async def stop(self) -> None:
        """End the workers; their builds go back into the queue for the next start. Can be called again."""
        self._stopping = True
        entries = list(self._entries.values())
        for entry in entries:
            if entry.work is not None:
                entry.work.cancel()
        for entry in entries:
            await entry.done.wait()

    async def tidy(self) -> None:
        """Do what could not be done when Docker, or the store's disk, was gone. Raises `BinderError`."""
        await self._engine.remove_strays("check")
        await self._engine.remove_strays("stub")
        for each in await self._store.unsettled_builds():
            row = await self._row(each.id)
            if row.id in self._entries or row.settled or self._stopping:
                continue
            if row.active:
                _log.warning("The end of build %s was never noted; it is taken up again.", row.id)
            # Of one that has ended the final line may be missing: it was noted, and then the disk was full.
            await self._take_up(row)
        await self._tidy_late_images()

    async def _tidy_late_images(self) -> None:
        """Docker goes on exporting an image after its client was killed, and names it when nobody looks."""
        for image in self._inventory.snapshot.present.values():
            for build_id in filter(None, map(build_named, image.tags)):
                row = await self._store.build(build_id)
                if row is not None and row.settled and build_id not in self._entries:
                    _log.warning("The image of build %s came after its end; it is let go.", build_id)
                    await self._pipeline.tidy(row)

    async def _remove_strays(self) -> None:
        try:
            await self._engine.remove_strays("check")
            await self._engine.remove_strays("stub")
        except BinderError as error:
            _log.warning("Containers that an earlier check may have left were not looked for: %s", error)

    async def _take_up(self, row: BuildRow) -> None:
        log = self._build_log(row.id, live=True)
        if not row.active:
            await log.open()
            await self._end(row, log)
            return
        if row.state == "running":
            await log.open()
            if row.attempts >= MAX_ATTEMPTS:
                await self._give_up(row, log)
                return
            await self._store.requeue_build(row.id)
            log.append("queued", "The service was restarted; the build starts again.", progress=0)
        login = None
        if row.credential:
            # Of groups the store knows nothing: a credential that is for a group must be asked for again.
            login = await self._credentials.find(
                Person(name=row.requested_by), parse_link(row.spec).clone_url
            )
            if login is None:
                await log.open()
                await self._lost_its_login(row, log)
                return
        self._enter(row, log, login)

    async def _lost_its_login(self, row: BuildRow, log: BuildLog) -> None:
        error = CredentialNeeded(
            "The service was restarted, and it keeps no user names, passwords and tokens.",
            "Open the launch link again and give them once more.",
        )
        await self._store.finish_unbuilt(row.id, "failed", error_view(error))
        await self._end(await self._row(row.id), log)

    async def _give_up(self, row: BuildRow, log: BuildLog) -> None:
        error = BuildFailed(
            f"The build was interrupted {row.attempts} times by a restart of the service.",
            "Look into the service's log whether the build was the cause, then start it again.",
            code="build-interrupted",
        )
        await self._store.finish_unbuilt(row.id, "failed", error_view(error))
        await self._end(await self._row(row.id), log)

    # -- asking ---------------------------------------------------------------------------------------

    async def request(
        self,
        person: Person,
        pinned: PinnedRepo,
        rebuild: bool = False,
        *,
        no_cache: bool = False,
        what: str = "build.request",
    ) -> BuildView:
        """See `_request`."""
        try:
            view = await self._request(person, pinned, rebuild, no_cache=no_cache, what=what)
        except BinderError:
            self.asked("refused")
            raise
        self.asked("hit" if view.hit else "join" if view.joined else "miss")
        return view

    async def _request(
        self, person: Person, pinned: PinnedRepo, rebuild: bool, *, no_cache: bool, what: str
    ) -> BuildView:
        """An image for a commit: a hit, an equal build that is queued or running, or a new one.

        With `rebuild` an image that is there is no hit, and with `no_cache` every step is run again;
        `what` is how the audit log calls it. What needs the person's credential becomes theirs
        alone. A retired image is built again for administrators only. Raises `QueueFull`, `DiskLow`,
        `EngineError`, `ImageRetired`, `Forbidden` for somebody who may not build, and where it has to be seen
        whether a credential is needed `SourceError`.
        """
        self._refuse_while_stopping()
        rebuild = rebuild or no_cache
        identity = await self._identity(pinned)
        wish: BuildRow | None = None
        while True:
            considered: frozenset[str] = frozenset()
            if not (rebuild and is_admin(person)):
                look = await self._inventory.look(identity, person)
                if look.retired is not None:
                    raise ImageRetired.of(look.retired.title or look.retired.name)
                if look.hit is not None and not rebuild:
                    return await self._hit(look.hit)
                considered = look.considered
            if pinned.spec.provider == "image":
                raise ImageNotFound(
                    f"The image {pinned.spec.display} is not there any more, and it is not built here.",
                    "Get it from where it came from, and let an administrator adopt it again.",
                )
            if pinned.login is not None and not pinned.proven:
                pinned = await self._resolver.prove(pinned)
            wish = wish or _wish(identity, pinned, person, rebuild, no_cache)
            if await self._store.active_build(identity.key, person.name) is None:
                await self._pipeline.check_disk()
            # Somebody who may not build joins what others have built, which only `enqueue` can tell for sure.
            allowed = may_build(person, fresh(self._settings).policy.builders)
            self._refuse_while_stopping()
            answer = await self._store.enqueue(
                wish,
                per_person=self._settings.build.per_person if allowed else 0,
                considered=considered,
            )
            if answer.look_again:
                continue
            if answer.build is None and not allowed:
                raise NotABuilder(
                    f"{person.name} may start images that are there, but not have new ones built.",
                    "Ask an administrator to build it, or for the role `binder-builder`.",
                )
            if answer.build is None:
                raise QueueFull(
                    f"{person.name} has {answer.full} builds queued or running already.",
                    "Wait until one of them has ended, or cancel one.",
                )
            if answer.joined:
                _log.info("Joined build %s of request %s", answer.build.id, answer.build.request or "-")
                return self._view(answer.build, joined=True)
            if not self._stopping:  # else nobody would end it: the next start takes it up
                self._enter(answer.build, self._build_log(wish.id, live=True), pinned.login)
            await self._store.audit(person.name, what, wish.spec, wish.id)
            return self._view(answer.build)

    def _refuse_while_stopping(self) -> None:
        if self._stopping:
            raise ServiceDown("The service is stopping.", "Try again in a few seconds.")

    async def state_of(self, person: Person, pinned: PinnedRepo) -> BuildView | None:
        """The hit or the active build for a commit, or None; starts nothing. Raises `EngineError`, and
        `ImageRetired` where no start would get the image that is there."""
        identity = await self._identity(pinned)
        look = await self._inventory.look(identity, person)
        if look.hit is not None:
            return await self._hit(look.hit)
        if look.retired is not None:
            raise ImageRetired.of(look.retired.title or look.retired.name)
        active = await self._store.active_build(identity.key, person.name)
        return None if active is None else self._view(active)

    async def get(self, build_id: str, person: Person | None = None) -> BuildView:
        """Raises `NotFound`, also for a build that `person` may not see."""
        return self._view(await self._row(build_id, person))

    async def list(
        self,
        person: Person | None = None,
        *,
        states: Iterable[BuildState] = (),
        asked_by: str = "",
        limit: int = 200,
        before: str = "",
    ) -> Builds:
        """Newest first, those that `person` may see; `before` is a build's id, for the next page.

        `asked_by`: only builds that this person asked for or joined.
        """
        rows = await self._store.builds(states=states, asked_by=asked_by, limit=limit, before=before)
        return [self._view(row) for row in rows if person is None or may(person, "see", row)]

    async def finished(self, build_id: str) -> BuildView:
        """Wait until the build has ended and nothing of it is left over. Raises `NotFound`."""
        entry = self._entries.get(build_id)
        if entry is not None:
            await entry.done.wait()
        return await self.get(build_id)

    async def follow(
        self, build_id: str, after: int = 0, person: Person | None = None
    ) -> AsyncIterator[LogLine]:
        """The log after line `after`, live, to the final line. Raises `NotFound`.

        It ends without a final line only if the service stops: resume with the number of the last line.
        """
        await self._row(build_id, person)
        entry = self._entries.get(build_id)
        log = entry.log if entry is not None else self._build_log(build_id)
        last = after
        async for line in log.follow(after):
            last = line.n
            yield line
        if log.complete or self._stopping:  # with the service the store closes
            return
        row = await self._row(build_id)
        if not row.active:
            # The log could not be written to its end, or is gone; the store still knows how it ended.
            yield final_line(row, last + 1)

    async def cancel(self, build_id: str, person: Person) -> BuildView:
        """Cancel for `person`; when it is over for all, wait until nothing of it is left.

        Several people may wait for one build. One of them only withdraws, the last one out cancels it, and
        an administrator cancels it for all. A build that has ended is left as it is. Raises `NotFound`, and
        `Forbidden` for somebody who did not ask for it.
        """
        row = await self._row(build_id, person)
        if not row.active:
            return self._view(row)
        error = ErrorView(
            code="build-cancelled",
            message=f"The build was cancelled by {person.name}.",
            next="Start it again if you need the image.",
        )
        if is_admin(person):
            await self._store.finish_unbuilt(build_id, "cancelled", error)
        elif person.name in await self._store.requesters(build_id):
            left = await self._store.withdraw(build_id, person.name, error)
            if left:
                return await self._withdrawn(build_id, len(left))
        else:
            raise Forbidden(
                f"{person.name} did not ask for the build {build_id}.", "Ask its owner or an administrator."
            )
        # It may have ended by itself in this moment: then it stays so, and is not cut short.
        cancelled = (await self._row(build_id)).state == "cancelled"
        if cancelled:
            await self._store.audit(person.name, "build.cancel", row.spec, build_id)
        entry = self._entries.get(build_id)
        if entry is not None:
            if cancelled and entry.work is not None:
                entry.work.cancel()
            await entry.done.wait()
        return await self.get(build_id)

    async def _withdrawn(self, build_id: str, others: int) -> BuildView:
        entry = self._entries.get(build_id)
        if entry is not None:
            entry.log.append(entry.phase, f"Somebody withdrew; the build goes on, {others} wait for it.")
        return await self.get(build_id)

    # -- one build ------------------------------------------------------------------------------------

    def _enter(self, row: BuildRow, log: BuildLog, login: Login | None) -> None:
        entry = _Entry(row, log, login)
        self._entries[row.id] = entry
        self._admit()
        with request_ids.belonging(row.request):  # also where it was taken up after a restart
            entry.work = asyncio.create_task(self._work(entry), name=f"build {row.id}")
            entry.conclusion = asyncio.create_task(self._conclude(entry, entry.work))
        self._inventory.wake()  # Docker has nothing to tell of yet

    def _admit(self) -> None:
        """Let as many start as may, first come, first served: `_entries` is in the order of coming."""
        running = sum(entry.turn.is_set() for entry in self._entries.values())
        for entry in self._entries.values():
            if running < self._settings.build.concurrent and not entry.turn.is_set():
                entry.turn.set()
                running += 1

    async def _work(self, entry: _Entry) -> None:
        await entry.log.open()
        if not entry.turn.is_set():
            entry.log.append("queued", "Waiting: other builds are running.", progress=0)
            await entry.turn.wait()
        if await self._store.start_build(entry.row.id):
            entry.row = await self._row(entry.row.id)
            _log.info("Build %s of %s begins", entry.row.id, entry.row.spec)
            await self._pipeline.build(entry.row, _Report(entry, self._store), entry.login)

    async def _conclude(self, entry: _Entry, work: asyncio.Task[None]) -> None:
        await asyncio.wait({work})
        try:
            await self._decide(entry, work)
        except Exception:
            # Whatever it is, it must not leave people waiting. The row stays unsettled, and the next start
            # of the service comes back to it.
            _log.exception("The end of build %s could not be noted.", entry.row.id)
            with suppress(BinderError, OSError):
                await entry.log.close()
        finally:
            if entry.login is not None:
                self._credentials.forget(entry.login)
                entry.login = None
            del self._entries[entry.row.id]
            self._inventory.wake()
            self._admit()
            entry.done.set()

    async def _decide(self, entry: _Entry, work: asyncio.Task[None]) -> None:
        row = await self._row(entry.row.id)
        if row.active and self._stopping and work.cancelled():
            await self._store.requeue_build(row.id, count_attempt=False)
            entry.log.append(
                "queued", "The service stops; the build is taken up again when it starts.", progress=0
            )
            await entry.log.close()
            return
        if row.active:
            await self._store.finish_unbuilt(row.id, "failed", error_view(_cause(row, work)))
            row = await self._row(row.id)
        self.ended(row)
        _log.info("Build %s ended: %s %s", row.id, row.state, row.error_code)
        await self._store.audit(row.requested_by, "build.end", row.spec, f"{row.id} {row.state}")
        await self._end(row, entry.log)

    async def _end(self, row: BuildRow, log: BuildLog) -> None:
        """Tidy up after a build that has ended, write the final line, and settle it."""
        tidy = True
        try:
            await self._pipeline.tidy(row)
        except BinderError as error:
            tidy = False
            _log.warning("What build %s may have left in Docker was not removed yet: %s", row.id, error)
        final = final_line(row, 0)
        log.append(
            final.phase, final.text, progress=final.progress, error=final.error, image_id=final.image_id
        )
        await log.close()
        if tidy:
            await self._store.settle_build(row.id)

    # -- values ---------------------------------------------------------------------------------------

    async def _identity(self, pinned: PinnedRepo) -> ImageIdentity:
        if not self._platform:
            self._platform = platform_of((await self._engine.info()).architecture)
        return ImageIdentity(pinned.url, pinned.commit, pinned.spec.subdir, self._platform)

    async def _row(self, build_id: str, person: Person | None = None) -> BuildRow:
        row = await self._store.build(build_id)
        if row is None or not (person is None or may(person, "see", row)):
            raise NotFound(f"There is no build {build_id!r:.60}.", "Look at the list of builds.")
        return row

    def _build_log(self, build_id: str, *, live: bool = False) -> BuildLog:
        return BuildLog(
            self._settings.log_dir / f"{build_id}.jsonl",
            limit_bytes=self._settings.build.log_bytes,
            live=live,
        )

    async def _hit(self, image: ImageRow) -> BuildView:
        return hit_view(image, await self._store.build(image.build_id) if image.build_id else None)

    def _view(self, row: BuildRow, *, joined: bool = False) -> BuildView:
        entry = self._entries.get(row.id)
        if entry is not None and row.state == "running":
            return build_view(row, phase=entry.phase, progress=entry.progress, joined=joined)
        waiting = [each.row.id for each in self._entries.values() if not each.turn.is_set()]
        position = waiting.index(row.id) + 1 if row.state == "queued" and row.id in waiting else 0
        return build_view(row, phase=row.phase, progress=row.progress, position=position, joined=joined)


class _Report:
    """Puts what a build tells into its log, into memory for the pages, and phases into the store."""

    def __init__(self, entry: _Entry, store: Store) -> None:
        self._entry = entry
        self._store = store

    def say(self, text: str) -> None:
        self._entry.log.append(self._entry.phase, text)

    async def reach(self, phase: Phase, progress: int, text: str = "") -> None:
        entry = self._entry
        further = phase != entry.phase or progress > entry.progress
        if further:
            new_phase = phase != entry.phase
            entry.phase, entry.progress = phase, progress
            entry.log.append(phase, text, progress=progress)
            if new_phase:
                await self._store.set_phase(entry.row.id, phase, progress)
        elif text:
            entry.log.append(phase, text)

    async def drain(self) -> None:
        await self._entry.log.drain()


def new_build_id() -> str:
    """Sorts by day, and cannot be guessed; who may see a build is asked all the same."""
    return f"b-{datetime.now(timezone.utc):%Y%m%d}-{secrets.token_hex(5)}"


def _wish(
    identity: ImageIdentity, pinned: PinnedRepo, person: Person, rebuild: bool, no_cache: bool
) -> BuildRow:
    """The row of a new build; of a private repository it is the person's alone."""
    return BuildRow(
        id=new_build_id(),
        identity=identity.key,
        url=identity.url,
        commit=identity.commit,
        subdir=identity.subdir,
        platform=identity.platform,
        spec=pinned.spec.path,
        asked_ref=pinned.spec.ref,
        requested_by=person.name,
        created=utc_now(),
        visibility="private" if pinned.login else "everyone",
        rebuild=rebuild,
        no_cache=no_cache,
        credential=pinned.login.kind if pinned.login else "",
        asked_groups=person.groups,
        request=request_ids.current(),
    )


def _cause(row: BuildRow, work: asyncio.Task[None]) -> BinderError:
    """Why a build that should have ended otherwise failed."""
    error = None if work.cancelled() else work.exception()
    if isinstance(error, BinderError):
        return error
    number = row.request or request_ids.new()
    _log.error("Build %s failed unexpectedly (%s).", row.id, number, exc_info=error)
    return UnexpectedFailure(
        f"The build failed by a mistake of The Littlest Binder ({number}).",
        "Tell an administrator this number: the service's log says more under it.",
    )
