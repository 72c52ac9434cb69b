"""Plans that are carried out: images go, one at a time, and each is looked at again in the moment before.

With `evict` the image goes and Docker's build cache stays, so that it usually comes back in seconds; with
`erase` the cache records that only it used go as well. Builds and their logs, who used what, and the audit
log stay in any case.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone

from ..access import is_admin, may
from ..engine import Engine
from ..errors import (
    BinderError,
    EngineError,
    EngineTimedOut,
    EngineUnavailable,
    Forbidden,
    ImageInUse,
    ImageNotFound,
    NotFound,
    NotOurs,
    RunEnded,
    StoreError,
)
from ..settings import Settings, fresh
from ..store import ImageRow, Store, utc_now
from ..time_limit import within
from ..wire import ErrorView, Person
from .adoption import names_to_take
from .build_cache import BuildCache
from .candidates import LEFTOVER, Candidates, moment
from .inventory import Inventory
from .leases import Leases
from .owed import Owed
from .plan import Candidate, Item, Mode, Plan, Rule, kept, must_stay, plan_of
from .run import Outcome, Result, Run, from_row, results_json, to_row
from .sharing import whom_to_ask

log = logging.getLogger("littlest_binder.sweep")

_DONE: dict[Mode, Outcome] = {"evict": "evicted", "erase": "erased"}
# A Docker that let two calls in a row run into their time limit is left alone.
_MOST_TIMEOUTS = 2
_STOP_S = 20.0
_MAY_GO = "It may have gone, or go yet; that is looked at in the background."
# Rules by which an image goes only as far as it is needed for a target.
_FOR_A_TARGET: frozenset[Rule] = frozenset({"watermark", "budget", "retired-first"})
# Those by which no person chose it.
_BY_POLICY = _FOR_A_TARGET | {"unused-days"}

Enough = Callable[[], Awaitable[bool]]


class Sweep:
    """Plans deletions and carries them out; `recover()` at the start, `await close()` at the end.

    `after` is called when a run has ended, for who measures the disk, and `done` is told how it went. What
    the store cannot take meanwhile is owed to it: a full disk keeps nobody from making room.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engine: Engine,
        inventory: Inventory,
        leases: Leases,
        candidates: Candidates,
        build_cache: BuildCache,
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._inventory = inventory
        self._leases = leases
        self._candidates = candidates
        self._build_cache = build_cache
        self._runs: dict[str, Run] = {}  # those that go on, as far as they are
        self._tasks: dict[str, asyncio.Task[Run]] = {}
        self._stopped: set[str] = set()
        self._unwritten: dict[str, Run] = {}  # those that ended, and the store does not know it yet
        self._owed = Owed()
        self.after: Callable[[], None] = lambda: None
        self.done: Callable[[Run], None] = lambda run: None

    # -- deciding -------------------------------------------------------------------------------------

    async def plan(self, ids: Sequence[str], mode: Mode, person: Person) -> Plan:
        """What deleting these images would do. Docker is not asked.

        Raises `ImageNotFound` for one that there is not or that the person may not see, and `Forbidden` for
        one that the person may not delete; whatever else speaks against it is in the plan.
        """
        known = {each.image_id: each for each in await self._candidates.all()}
        if not set(ids) <= set(known):
            await self._inventory.look_again()  # it may have been built a moment ago
            known = {each.image_id: each for each in self._candidates.known()}
        for image_id in ids:
            await self._refuse(image_id, known.get(image_id), person)
        return plan_of(
            ids,
            known.values(),
            mode,
            min_age_hours=fresh(self._settings).retention.min_age_hours,
            now=datetime.now(timezone.utc),
        )

    async def _refuse(self, image_id: str, found: Candidate | None, person: Person) -> None:
        row = await self._store.image(image_id)
        # What is not ours is known to administrators alone.
        visible = may(person, "see", row) if row is not None else is_admin(person) and found is not None
        if not visible:
            raise ImageNotFound(f"There is no image {image_id[:80]!r}.", "Look at the list of images.")
        if row is not None and not may(person, "delete", row):
            raise _not_allowed(row, person)

    # -- doing ----------------------------------------------------------------------------------------

    async def begin(self, plan: Plan, person: Person, enough: Enough | None = None) -> Run:
        """Carry a plan out in the background; the run as it begins.

        Where a plan takes images to reach a target, `enough` is asked before each of them.
        """
        run = Run(
            id=f"r-{secrets.token_hex(6)}", mode=plan.mode, by=person.name, started=utc_now(), plan=plan
        )
        await self._owed.write(lambda: self._store.put_run(to_row(run)))
        self._runs[run.id] = run
        task = asyncio.create_task(self._carry(run, person, enough), name=f"run {run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(lambda done: self._ended(run.id, done))
        return run

    async def carry_out(self, plan: Plan, person: Person) -> Run:
        """Carry a plan out; the run as it ended. It goes on when the caller is cancelled."""
        return await self.ended(await self.begin(plan, person))

    async def ended(self, run: Run) -> Run:
        """A run when it has ended. Raises `StoreError`."""
        task = self._tasks.get(run.id)
        return await asyncio.shield(task) if task is not None else await self.run(run.id) or run

    async def wait(self, run_id: str, seconds: float) -> Run:
        """A run when it has ended, or as far as it is after some seconds. Raises `NotFound`."""
        task = self._tasks.get(run_id)
        if task is not None:
            with suppress(asyncio.TimeoutError, TimeoutError):
                await within(seconds, asyncio.shield(task))
        run = await self.run(run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id[:40]!r}.", "Look at the list of runs.")
        return run

    def stop(self, run_id: str) -> None:
        """End a run after the image that it is at; one that has ended stays as it is."""
        if run_id in self._runs:
            self._stopped.add(run_id)

    async def run(self, run_id: str) -> Run | None:
        """A run, also while it goes on."""
        found = self._in_memory().get(run_id)
        row = await self._store.run(run_id) if found is None else None
        return found if row is None else from_row(row)

    async def runs(self, limit: int = 50) -> list[Run]:
        """Newest first, also those that go on."""
        rows, memory = {row.id: row for row in await self._store.runs(limit=limit)}, self._in_memory()
        found = [from_row(row) for row in rows.values() if row.id not in memory]
        return sorted([*found, *memory.values()], key=lambda run: (run.started, run.id), reverse=True)[:limit]

    def _in_memory(self) -> dict[str, Run]:
        return self._unwritten | self._runs

    async def recover(self) -> None:
        """End the runs that a crash cut off; asking for the same again does the rest. Raises `StoreError`.

        What the crash left of an image in the build cache is pruned by `BuildCache`.
        """
        for row in await self._store.unfinished_runs():
            run = from_row(row)
            if run.id in self._in_memory():
                continue
            results = list(run.results)
            for item in run.plan.take[len(run.results) :]:
                at_it = len(results) == len(run.results)
                results.append(await self._cut_off(item, run.mode) if at_it else _not_done(item))
            problem = RunEnded("The service ended while this went on.", "Ask for the same again to go on.")
            ended = replace(run, results=tuple(results), finished=utc_now(), problem=_view(problem))
            await self._note_end(ended)

    async def audit(self, person: Person, what: str, thing: str, result: str) -> None:
        """Note it, at the latest when the store's disk has room again."""
        await self._owed.write(lambda: self._store.audit(person.name, what, thing, result))

    async def catch_up(self) -> None:
        """Write what the store could not take before, as far as it takes it now."""
        await self._owed.catch_up()

    async def close(self) -> None:
        """End what goes on after the image that it is at, or in the middle of it if that takes long."""
        self._stopped |= set(self._runs)
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.catch_up()

    def _ended(self, run_id: str, task: asyncio.Task[Run]) -> None:
        self._runs.pop(run_id, None)
        self._tasks.pop(run_id, None)
        self._stopped.discard(run_id)
        if not task.cancelled() and task.exception() is not None:
            log.error("The run %s ended before its end: %s", run_id, task.exception())
        self.after()

    async def _carry(self, run: Run, person: Person, enough: Enough | None) -> Run:
        before = await self._free()
        problem: BinderError | None = None
        timeouts = 0
        for item in run.plan.take:
            if run.id in self._stopped and problem is None:
                problem = RunEnded("It was stopped.", "Ask for the same again to go on.")
            if problem is not None:
                result = _not_done(item)
            elif enough is not None and item.rule in _FOR_A_TARGET and await enough():
                result = _not_done(item, "The target was reached without it.")
            else:
                result, error = await self._delete(item, run, person)
                timeouts = timeouts + 1 if isinstance(error, EngineTimedOut) else 0
                if isinstance(error, EngineUnavailable) or timeouts == _MOST_TIMEOUTS:
                    problem = error
            run = replace(run, results=(*run.results, result))
            self._runs[run.id] = run
            with suppress(StoreError):  # its end is noted with all of them
                await self._store.note_results(run.id, results_json(run))
        await self._inventory.look_again()
        after = await self._free()
        gained = after - before if before is not None and after is not None else 0
        run = replace(run, finished=utc_now(), gained_bytes=gained, problem=_view(problem))
        self.done(run)
        await self._note_end(run)
        said = f"{run.mode}: {len(run.taken)} of {len(run.plan.take)} went, {gained} bytes gained"
        await self.audit(person, "image.sweep", run.id, said)
        return run

    async def _note_end(self, run: Run) -> None:
        self._unwritten[run.id] = run
        self._runs.pop(run.id, None)

        async def note() -> None:
            await self._store.put_run(to_row(run))
            del self._unwritten[run.id]

        await self._owed.write(note)

    async def _delete(self, item: Item, run: Run, person: Person) -> tuple[Result, BinderError | None]:
        """One image, and the error if there was one; both are noted."""
        result, error = Result(item.image_id, item.name, "gone", "It was gone already."), None
        if item.rule == "cache-first":
            return await self._erase_left(item, person)
        try:
            # Nobody can begin a start with it from here on, and whoever has begun one is seen.
            async with self._leases.none_on(item.image_id):
                row = await self._store.image(item.image_id)
                if row is not None:
                    why = await self._why_not(row, person)
                    result = (
                        Result(item.image_id, item.name, "kept", why)
                        if why
                        else await self._remove(row, item, run, person)
                    )
        except (ImageInUse, NotOurs) as refused:
            result = Result(item.image_id, item.name, "kept", refused.message)
        except BinderError as failed:
            log.warning("%s was not deleted: %s", item.name, failed)
            result, error = Result(item.image_id, item.name, "failed", failed.message), failed
        said = error.code if error else f"{result.outcome}: {result.text}".removesuffix(": ")
        await self.audit(person, f"image.{run.mode}", item.name, said)
        return result, error

    async def _why_not(self, row: ImageRow, person: Person) -> str:
        """What speaks against deleting an image at this moment, by Docker and the store; or nothing."""
        if not may(person, "delete", row):
            return _not_allowed(row, person).message
        users = [each for each in await self._engine.containers() if each.image_id == row.image_id]
        now = Candidate(
            image_id=row.image_id,
            name=row.name,
            title=row.title,
            created=moment(row.created),
            users=self._candidates.users_of(users),
            building=await self._store.active_build(row.identity, row.built_by) is not None,
            pinned=row.pin_holds(),
            pin_reason=row.pin_reason,
        )
        age = fresh(self._settings).retention.min_age_hours
        why = must_stay(now, age, datetime.now(timezone.utc))
        return why.text if why else ""

    async def _spared(self, row: ImageRow, item: Item, run: Run) -> str:
        """What speaks for an image that a policy chose, since the plan was made; or nothing."""
        if item.rule not in _BY_POLICY:
            return ""
        now = await self._candidates.one(row)
        if now.last_used is not None and now.last_used >= moment(run.started):
            return "It was used since the plan was made."
        if item.rule == "retired-first" and not now.retired:
            return "It is not retired any more."
        why = kept(now, fresh(self._settings).retention, datetime.now(timezone.utc))
        return why.text if why else ""

    async def _remove(self, row: ImageRow, item: Item, run: Run, person: Person) -> Result:
        outcome, text, gone = _DONE[run.mode], "", False
        try:
            async with self._build_cache.removing(row.image_id, erase=run.mode == "erase"):
                # It may have waited for minutes, until what others erase was pruned.
                now = await self._store.image(row.image_id)
                if now is None:
                    raise ImageInUse("It was deleted meanwhile.", "")
                if why := await self._why_not(now, person) or await self._spared(now, item, run):
                    raise ImageInUse(why, "")
                row = now
                before = await self._engine.free_bytes()
                # It keeps the names that others gave it, whatever they begin with.
                facts = await self._engine.image(row.image_id)
                names = names_to_take(row, facts, self._settings) if facts is not None else []
                try:
                    await self._engine.remove_image(row.image_id, names)
                except ImageNotFound:
                    outcome, text = "gone", "Docker did not have it any more."
                except (EngineTimedOut, EngineUnavailable) as late:
                    if not await self._is_gone(row.image_id):
                        raise type(late)(f"{late.message} {_MAY_GO}", late.next_step) from late
                gone = True
                # Before the cache is pruned: if we are killed in between, no record is left of what is gone.
                await self._forget(row)
        except (EngineError, StoreError) as error:
            if not gone:
                raise
            outcome, text = "evicted", f"What it leaves in the build cache goes later: {error.message}"
        with suppress(EngineError):  # it went, whether or not Docker can still tell
            left = await self._engine.image(row.image_id)
            if left is not None:
                text = f"Docker keeps it under names that are not ours: {', '.join(left.tags)}."
        after = await self._free()
        freed = after - before if after is not None else 0
        return Result(row.image_id, row.name, outcome, text, freed)

    async def _erase_left(self, item: Item, person: Person) -> tuple[Result, BinderError | None]:
        """What evicted images left in the build cache goes all at once, with the first of them."""
        if item.image_id.removeprefix(LEFTOVER) not in self._build_cache.leftovers:
            said = "What could go of it went with that of others."
            return Result(item.image_id, item.name, "gone", said), None
        try:
            before = await self._engine.free_bytes()
            erased = await self._build_cache.erase_leftovers()
            freed = await self._engine.free_bytes() - before
        except BinderError as error:
            return Result(item.image_id, item.name, "failed", error.message), error
        said = f"{erased.records} records, {freed} bytes gained"
        await self.audit(person, "cache.erase", "what evicted images left", said)
        if not erased.records:
            return Result(item.image_id, item.name, "kept", "Other builds' cache stands on it."), None
        return Result(item.image_id, item.name, "erased", "", freed), None

    async def _cut_off(self, item: Item, mode: Mode) -> Result:
        """What is to be said of the image that a run was at when it was cut off; if that is gone, its record
        goes as well."""
        if item.rule == "cache-first":
            return _not_done(item)
        try:
            if await self._engine.image(item.image_id) is not None:
                return _not_done(item)
        except BinderError as error:
            return _not_done(item, f"{error.message} {_MAY_GO}")
        row = await self._store.image(item.image_id)
        if row is not None:
            await self._forget(row)
        outcome, text = _DONE[mode], "The service ended in the middle of it."
        if mode == "erase" and item.image_id in {
            each.image_id for each in await self._store.layers.removals()
        }:
            outcome, text = "evicted", f"{text} What it leaves in the build cache goes later."
        return Result(item.image_id, item.name, outcome, text)

    async def _forget(self, row: ImageRow) -> None:
        await self._owed.write(lambda: self._store.forget_image(row.image_id, row.created))

    async def _is_gone(self, image_id: str) -> bool:
        """Whether Docker says so."""
        with suppress(EngineError):
            return await self._engine.image(image_id) is None
        return False

    async def _free(self) -> int | None:
        with suppress(BinderError):
            return await self._engine.free_bytes()
        return None


def _not_done(item: Item, text: str = "") -> Result:
    return Result(item.image_id, item.name, "not-done", text)


def _view(error: BinderError | None) -> ErrorView | None:
    return ErrorView(**error.to_dict()) if error is not None else None


def _not_allowed(row: ImageRow, person: Person) -> Forbidden:
    return Forbidden(f"{person.name} may not delete the image {row.name}.", whom_to_ask(row))
