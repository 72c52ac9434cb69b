"""What of a deleted image stays in the build cache, and how it goes.

Under BuildKit removing an image frees nothing: its layers are cache records as well. Docker does not tell
which records belong to which image. But it tells which records images share: those that were shared before an
image went and are not any more were the image's alone. Evicting notes them, erasing prunes them, those first
on which no other stands. What another image, another evicted image or a failed build stands on stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from ..engine import CacheRecord, Engine
from ..errors import BinderError, EngineTimedOut, EngineUnavailable, StoreError
from ..store import Store, utc_now
from ..store.layers import LeftoverRow, RemovalRow
from .layers import Layers

_log = logging.getLogger("littlest_binder.build_cache")

_PERIOD_S = 300.0
# Who was off for longer does not know what others have removed since.
_RESUMED = timedelta(hours=1)


@dataclass(frozen=True)
class Erased:
    """What was pruned; `bytes` as the engine counts them, which is less than the disk gains."""

    records: int = 0
    bytes: int = 0


@dataclass
class Removal:
    """A removal that goes on; `erased` is filled in at its end."""

    erased: Erased = field(default_factory=Erased)


def leaf_first(records: Iterable[CacheRecord]) -> list[CacheRecord]:
    """An order in which no record comes before one that stands on it.

    Engines before 23.0 do not tell what stands on what; there the youngest comes first.
    """
    waiting = {each.id: each for each in records}
    young = sorted(waiting.values(), key=lambda each: (each.created, each.id))
    order: list[CacheRecord] = []
    while young:
        below = {parent for each in young for parent in each.parents}
        leaves = [each for each in young if each.id not in below] or young[-1:]
        # Without parents all are leaves at once: the youngest of them first.
        order += reversed(leaves)
        gone = {each.id for each in leaves}
        young = [each for each in young if each.id not in gone]
    return order


class BuildCache:
    """`await start()` … `await stop()`; without them, `await look()` by hand.

    All that deletes images of the list goes through `removing`, one at a time: who removes one behind its
    back makes its records look like those of another that goes meanwhile. What failed builds and imports
    discard does not: they would wait for minutes, and all that it may cost is a longer rebuild.
    """

    def __init__(self, store: Store, engine: Engine, layers: Layers, *, period_s: float = _PERIOD_S) -> None:
        self._store = store
        self._rows = store.layers
        self._engine = engine
        self._layers = layers
        self._period_s = period_s
        self._lock = asyncio.Lock()
        self._records: tuple[CacheRecord, ...] = ()
        self._left: dict[str, LeftoverRow] = {}
        self._going: dict[str, RemovalRow] = {}  # begun and not ended, by image
        self._task: asyncio.Task[None] | None = None
        self.measured = ""

    async def start(self) -> None:
        """Look in the background, and finish what a crash cut off; a Docker that does not answer is no
        error."""
        self._task = asyncio.create_task(self._run(), name="build-cache")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    # -- from memory ----------------------------------------------------------------------------------

    @property
    def records(self) -> tuple[CacheRecord, ...]:
        """Everything in the build cache, as of `measured` (empty: not looked yet)."""
        return self._records

    @property
    def bytes(self) -> int | None:
        """What the cache holds beside images, as the engine counts; `None` if it is not known."""
        return _sum(each.bytes for each in self._records if not each.shared) if self.measured else None

    @property
    def leftovers(self) -> frozenset[str]:
        """Evicted images of which something is left in the cache."""
        return frozenset(each.image_id for each in self._left.values() if each.image_id)

    @property
    def leftover_bytes(self) -> int | None:
        """What `erase_leftovers` would free, as the engine counts."""
        return _sum(each.bytes for each in self._left.values()) if self.measured else None

    # -- removing -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def removing(self, image_id: str, *, erase: bool) -> AsyncIterator[Removal]:
        """Within, the caller removes the image; at the end its cache is pruned (`erase`) or noted.

        Raises `EngineError` before anything was changed if the cache cannot be listed and is to be erased.
        An error of the block goes through, and the cache stays as it is; where it does not tell whether the
        image went, that is found out in the background. An `EngineError` of the end means that the image is
        gone and its cache is not, or not all: it is tried again in the background, also after a crash.
        """
        async with self._lock:
            begun = await self._begin(image_id, erase)
            removal = Removal()
            try:
                yield removal
            except (EngineTimedOut, EngineUnavailable, StoreError):
                raise  # Docker may have done it, or be at it still: `resume` looks
            except BinderError:
                with suppress(StoreError):  # then `resume` sees that the image is there
                    await self._end(image_id)
                self._tell()
                raise
            if begun is not None:
                removal.erased = await self._finish(begun)

    async def erase_leftovers(self) -> Erased:
        """Prune what evicted images left. Raises `EngineError`.

        Of what stays since others stand on it, it is not known any more whose it was: no plan counts on it
        again, and each erasing tries it again.
        """
        async with self._lock:
            await self._look()
            erased, stayed = await self._prune(each for each in self._records if each.id in self._left)
            await self._rows.note_leftovers(
                LeftoverRow(each.id, "", each.bytes) for each in stayed if not each.in_use
            )
            await self._settle()
            return erased

    async def resume(self) -> None:
        """Finish removals that were cut off, or of which it was not known whether the image went; the record
        of one that is gone goes. What one of more than an hour ago left stays in the cache: others may have
        removed images since. Raises `EngineError` and `StoreError`.
        """
        since = (datetime.now(timezone.utc) - _RESUMED).isoformat(timespec="milliseconds")
        async with self._lock:
            await self._load_going()
            for begun in list(self._going.values()):
                row = await self._store.image(begun.image_id)
                if await self._engine.image(begun.image_id) is not None:
                    await self._end(begun.image_id)
                    continue
                if row is not None:
                    await self._store.forget_image(row.image_id, row.created)
                if begun.begun < since:
                    await self._end(begun.image_id)
                else:
                    await self._finish(begun)

    async def look(self) -> None:
        """List the cache now. Raises `EngineError` and `StoreError`; what was known stays."""
        async with self._lock:
            await self._look()

    # -- how ------------------------------------------------------------------------------------------

    async def _begin(self, image_id: str, erase: bool) -> RemovalRow | None:
        try:
            await self._look()
        except BinderError as error:
            if erase:
                raise
            _log.warning("What stays of %s in the build cache is not known: %s", image_id, error)
            return None
        shared = frozenset(each.id for each in self._records if each.shared)
        begun = RemovalRow(image_id, erase, shared, utc_now())
        self._going[image_id] = begun
        try:
            await self._rows.begin_removal(begun)
        except StoreError as error:  # on a full disk, making room comes first
            _log.warning("If the service is killed now, the build cache of %s stays: %s", image_id, error)
        self._tell()
        return begun

    async def _load_going(self) -> None:
        """Know the removals of an earlier process, too, that have not ended."""
        self._going = {each.image_id: each for each in await self._rows.removals()} | self._going

    async def _end(self, image_id: str, left: Iterable[LeftoverRow] = ()) -> None:
        await self._rows.end_removal(image_id, left)
        self._going.pop(image_id, None)

    async def _finish(self, begun: RemovalRow) -> Erased:
        await self._look()
        alone = [
            each
            for each in self._records
            if each.id in begun.shared and not each.shared and each.id not in self._left
        ]
        erased, left = Erased(), [LeftoverRow(each.id, begun.image_id, each.bytes) for each in alone]
        if begun.erase:
            # What could not go before, since the cache of another stood on it, may go now.
            before = [each for each in self._records if self._nobodys(each.id)]
            erased, stayed = await self._prune([*alone, *before])
            left = [LeftoverRow(each.id, "", each.bytes) for each in stayed]
        try:
            await self._end(begun.image_id, left)
        except StoreError as error:  # it goes on in memory, and `resume` ends it
            _log.warning("What stays of %s in the build cache is noted later: %s", begun.image_id, error)
        await self._settle()
        return erased

    def _nobodys(self, record_id: str) -> bool:
        row = self._left.get(record_id)
        return row is not None and not row.image_id

    async def _prune(self, records: Iterable[CacheRecord]) -> tuple[Erased, Sequence[CacheRecord]]:
        """Prune those that can go; what was pruned, and what stays since others stand on it."""
        left = leaf_first(records)
        count = total = 0
        progress = True
        while left and progress:
            progress, stayed = False, list[CacheRecord]()
            for each in left:
                freed = await self._engine.prune_cache_record(each.id)
                if freed is None:
                    stayed.append(each)
                    continue
                progress = True
                count, total = count + 1, total + freed
                self._records = tuple(record for record in self._records if record.id != each.id)
            left = stayed
        return Erased(count, total), left

    async def _look(self) -> None:
        self._records = tuple(await self._engine.cache_records())
        self.measured = utc_now()
        await self._settle()

    async def _settle(self) -> None:
        """Forget leftovers that are gone, or that an image has again."""
        rows = {each.record_id: each for each in await self._rows.leftovers()}
        there = {each.id for each in self._records if not each.shared}
        gone = rows.keys() - there
        if gone:
            with suppress(StoreError):  # tried again at each look
                await self._rows.forget_leftovers(gone)
        self._left = {record: row for record, row in rows.items() if record in there}
        await self._load_going()
        self._tell()

    def _tell(self) -> None:
        # The layers of what is going count until it is known what of them stays.
        self._layers.notice_leftovers(self.leftovers | self._going.keys())

    async def _run(self) -> None:
        while True:
            try:
                await self.resume()
                await self.look()
            except BinderError as error:
                _log.info("The build cache was not looked at: %s", error)
            await asyncio.sleep(self._period_s)


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(size or 0 for size in known)
