"""Retention: looks how full the disk is, and lets images go by the policy, by itself or on demand.

Every round notes which images servers run on, so that a restart forgets no use; works out which images it
keeps, for the pages; and carries out a plan if one is due. A run plans again after it has measured, until the
target is reached or nothing is left to take: what the figures promised is not always what the disk gains, and
an image that is refused is left out for an hour.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ..errors import BinderError, EngineUnavailable, StoreError
from ..settings import RetentionSettings, Settings, fresh
from ..store import Store
from ..time_limit import within
from ..wire import Person
from .candidates import Candidates
from .filesystems import Usage
from .inventory import Inventory
from .plan import Plan, plan_retention
from .run import Run
from .sweep import Sweep

log = logging.getLogger("littlest_binder.retention")

# Whose name stands at what retention does by itself.
RETENTION = Person(name="retention", admin=True)
# Rounds of planning in one run; each but the last has taken something.
_MOST_ROUNDS = 10
_REFUSALS = ("kept", "failed")
# For so long retention does not try again by itself what was refused.
_REFUSED = timedelta(hours=1)


@dataclass(frozen=True)
class Verdict:
    """What retention makes of an image: the code of the rule that keeps it (empty: it could be taken), a
    sentence, and whether it goes with the next round."""

    keep: str
    text: str
    goes: bool = False


class Retention:
    """`start()` … `await stop()`. `usage` tells how full Docker's disk is at this moment."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        inventory: Inventory,
        candidates: Candidates,
        sweep: Sweep,
        usage: Callable[[], Awaitable[Usage]],
    ) -> None:
        self._settings = settings
        self._store = store
        self._inventory = inventory
        self._candidates = candidates
        self._sweep = sweep
        self._usage = usage
        self._task: asyncio.Task[None] | None = None
        self._asked: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._running = asyncio.Lock()
        self._under_way: Run | None = None
        self._waiting: list[asyncio.Future[Run | None]] = []  # those who asked and were not told of a run yet
        self._seen: Usage | None = None
        self._verdicts: Mapping[str, Verdict] = {}
        self._keeps: Mapping[str, str] = {}
        self._judged: tuple[object, ...] = (None, None, None, None)
        self._refused: Mapping[str, tuple[datetime, str]] = {}
        self._minute = ""
        self.problem: BinderError | None = None  # why the last round could not do its work

    @property
    def policy(self) -> RetentionSettings:
        """What the settings say now."""
        return fresh(self._settings).retention

    @property
    def enabled(self) -> bool:
        """Whether images go by themselves."""
        return fresh(self._settings).retention_enabled

    def start(self) -> None:
        self._task = asyncio.create_task(self._loop(), name="retention")

    async def stop(self) -> None:
        """End; what is under way is the sweep's to end."""
        tasks = [*self._asked, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Begin the next round now."""
        self._woken.set()

    def verdicts(self) -> Mapping[str, Verdict]:
        """By image id what retention makes of each image of ours that is there.

        From memory: worked out anew when the list of images, the policy or the disk changed, and once a
        minute. It is the same value until then.
        """
        now = datetime.now(timezone.utc)
        policy, minute = self.policy, now.strftime("%H:%M")
        state = (self._inventory.snapshot, policy, self._seen, self._refused)
        # The very same values, not equal ones: comparing takes longer than judging.
        if minute != self._minute or any(
            one is not other for one, other in zip(state, self._judged, strict=True)
        ):
            self._judged, self._minute = state, minute
            known, refused = self._candidates.known(), self._refusals(now)
            self._verdicts = _verdicts(
                plan_retention(known, policy, self._seen, now, refused=refused), self.enabled
            )
            self._keeps = {image_id: verdict.keep for image_id, verdict in self._verdicts.items()}
        return self._verdicts

    def keeps(self) -> Mapping[str, str]:
        """By image id the code of the rule that keeps an image of ours; empty: it could be taken."""
        self.verdicts()
        return self._keeps

    async def usage(self) -> Usage | None:
        """How full Docker's disk is now; None if it cannot be looked at."""
        seen = None
        with suppress(BinderError, OSError):
            seen = await self._usage()
        if seen != self._seen:  # an equal one is no reason to judge anew
            self._seen = seen
        return seen

    # -- plans and runs -------------------------------------------------------------------------------

    async def preview(self, policy: RetentionSettings | None = None) -> Plan:
        """What a run now would take under a policy, by default the present one. Raises `StoreError`.

        As a run that somebody asks for, it takes no heed of earlier refusals.
        """
        return await self._plan(policy or self.policy, {}, begun=True)

    async def run(self, person: Person = RETENTION) -> Run | None:
        """Bring the disk down to the low watermark, and the images into their budget; the run as it ended.

        None if nothing is to go. Raises `StoreError`; a run that is under way is awaited first.
        """
        async with self._running:
            return await self._rounds(person, begun=True)

    async def begin(self, person: Person) -> Run | None:
        """As `run`, in the background: its first run as it begins, or None. Raises `BinderError`.

        Where a run of retention is under way, that one as far as it is, and no other is begun.
        """
        if self._under_way is not None:
            return await self._sweep.run(self._under_way.id)
        first: asyncio.Future[Run | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(first)
        task = asyncio.create_task(self._on_demand(person, first), name="retention on demand")
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return await asyncio.shield(first)

    async def round(self) -> Run | None:
        """What happens every `retention.every_s`: a run if one is due. Raises `BinderError`."""
        await self._sweep.catch_up()
        try:
            await self._candidates.note_uses()
        except StoreError as error:  # on a full disk, making room comes first
            log.warning("Which images are in use was not noted: %s", error)
        if not self.enabled or self._running.locked():
            await self._candidates.all()
            await self.usage()
            return None
        async with self._running:
            return await self._rounds(RETENTION, begun=False)

    async def _on_demand(self, person: Person, first: asyncio.Future[Run | None]) -> None:
        try:
            async with self._running:
                if not first.done():  # another began meanwhile, and they were told of it
                    await self._rounds(person, begun=True)
        except Exception as error:
            ours = not isinstance(error, BinderError)
            log.warning("A run of retention ended before its end: %s", error, exc_info=ours)
            if not first.done():
                first.set_exception(error)
        finally:
            if first in self._waiting:
                self._waiting.remove(first)
            if not first.done():
                first.set_result(None)

    async def _rounds(self, person: Person, *, begun: bool) -> Run | None:
        try:
            return await self._some_rounds(person, begun=begun)
        finally:
            self._under_way = None

    async def _some_rounds(self, person: Person, *, begun: bool) -> Run | None:
        last: Run | None = None
        # Once for all rounds: a run for another limit is no reason to go down to the low watermark.
        if begun:
            self._refused = {}  # somebody asks: all is tried again
        begun = begun or await self._is_high()
        for _ in range(_MOST_ROUNDS):
            plan = await self._plan(self.policy, self._refusals(), begun=begun)
            if not plan.take:
                break
            # Memory may be some seconds old; what goes is looked at again in any case.
            await self._inventory.refresh()
            plan = await self._plan(self.policy, self._refusals(), begun=begun)
            if not plan.take:
                break
            for_the_disk = not await self._reached()
            run = await self._sweep.begin(plan, person, self._reached if for_the_disk else None)
            self._under_way = run
            for first in self._waiting:
                if not first.done():
                    first.set_result(run)
            await self._note(run, person)
            last = await self._sweep.ended(run)
            self._remember(last)
            # What was refused is in no further plan: another may take its place.
            if last.problem is not None or all(each.outcome == "not-done" for each in last.results):
                break
        return last

    def _remember(self, run: Run) -> None:
        """What was refused, unless since Docker was not there."""
        if run.problem is not None and run.problem.code == EngineUnavailable.code:
            return
        now = datetime.now(timezone.utc)
        refused = {each.image_id: (now, each.text) for each in run.results if each.outcome in _REFUSALS}
        if refused:
            self._refused = {**self._refused, **refused}

    def _refusals(self, now: datetime | None = None) -> dict[str, str]:
        """By image id, what was said of those that were refused not long ago."""
        since = (now or datetime.now(timezone.utc)) - _REFUSED
        return {image_id: said for image_id, (when, said) in self._refused.items() if when > since}

    async def _is_high(self) -> bool:
        """Whether the disk is fuller than the high watermark."""
        usage = await self.usage()
        return usage is not None and usage.percent > self.policy.high_watermark_percent

    async def _reached(self) -> bool:
        """Whether the disk is down at the low watermark: it may gain more than the figures promised.

        A budget cannot be measured so; where it is still exceeded, the next round goes on.
        """
        usage = await self.usage()
        return usage is not None and usage.percent <= self.policy.low_watermark_percent

    async def _plan(self, policy: RetentionSettings, refused: Mapping[str, str], *, begun: bool) -> Plan:
        candidates, disk = await self._candidates.all(), await self.usage()
        now = datetime.now(timezone.utc)
        return plan_retention(candidates, policy, disk, now, begun=begun, refused=refused)

    async def _note(self, run: Run, person: Person) -> None:
        wanted = f"{run.plan.wanted_bytes} bytes wanted, " if run.plan.wanted_bytes else ""
        said = f"{wanted}{len(run.plan.take)} images planned"
        await self._sweep.audit(person, "retention.run", run.id, said)

    async def _loop(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self.round()
                self.problem = None
            except BinderError as error:
                if self.problem is None or self.problem.message != error.message:
                    log.warning("The disk was not looked after: %s", error)
                self.problem = error
            except Exception:  # a mistake of ours: the disk fills up if nobody looks any more
                log.exception("The disk was not looked after")
            with suppress(asyncio.TimeoutError, TimeoutError):
                await within(self.policy.every_s, self._woken.wait())


def _verdicts(plan: Plan, enabled: bool) -> dict[str, Verdict]:
    stay = {
        item.image_id: Verdict("" if item.rule == "not-needed" else item.rule, item.text)
        for item in plan.keep
    }
    return stay | {item.image_id: Verdict("", item.text, goes=enabled) for item in plan.take}
