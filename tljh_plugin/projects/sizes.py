"""What people's files occupy: measured in the background, kept with the time of measuring, and judged.

Pages and starts read what was measured last and wait for nothing, except a start that would be refused: for
that one the person's folders are measured again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, Protocol

from ..amounts import shown_bytes
from ..engine.threads import in_thread
from ..errors import ProjectError, StorageFull
from ..settings import Settings, StorageSettings, fresh
from ..store import SizeRow, utc_now
from ..time_limit import within
from .archive import read_deleted
from .child import run_as_owner
from .marker import read_projects
from .people import MY_FILES, people, person_folder

log = logging.getLogger("littlest_binder.projects")

_TIMEOUT_S = 900.0
_LOOK_AGAIN_S = 45.0  # how long a start may wait for fresh figures
_FRESH_S = 30.0
_DAY_S = 86_400.0
_TIMES_AS_LONG = 20  # a folder rests so many times as long as measuring it took


class SizeStore(Protocol):
    """What is asked of the store."""

    async def sizes(self, owner: str = "") -> dict[str, SizeRow]: ...
    async def set_size(self, size: SizeRow) -> None: ...
    async def forget_size(self, path: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder of a person that counts."""

    owner: str
    path: str
    kind: Literal["project", "deleted", "my-files"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a person keeps, against the limit; 0: none. `whole` false: at least so much."""

    used: int
    limit: int
    state: Literal["fine", "warn", "full"]
    whole: bool
    my_files: SizeRow | None = None


def kept_of(owner: str, folder: Path) -> list[Kept]:
    """Everything that counts of one person. Looks at the disk."""
    found = [Kept(owner, row.path, "project") for row in read_projects(folder, owner)]
    found += [Kept(owner, each.row.path, "deleted") for each in read_deleted(folder, owner)]
    mine = folder / MY_FILES
    if mine.is_dir() and not mine.is_symlink():
        found.append(Kept(owner, str(mine), "my-files"))
    return found


def judge(kept: Iterable[Kept], sizes: Mapping[str, SizeRow], storage: StorageSettings) -> Standing:
    """How a person stands; what was not measured yet counts as nothing."""
    used, whole, mine = 0, True, None
    for each in kept:
        size = sizes.get(each.path)
        used += size.bytes if size else 0
        whole = whole and size is not None and size.whole
        if each.kind == "my-files":
            mine = size
    limit = storage.max_bytes_per_person
    state: Literal["fine", "warn", "full"] = "fine"
    if limit and used >= limit:
        state = "full"
    elif limit and used >= limit * storage.warn_fraction:
        state = "warn"
    return Standing(used, limit, state, whole, mine)


def is_due(
    kept: Kept, size: SizeRow | None, *, used_until: str, in_use: bool, every_s: float, now: datetime
) -> bool:
    """Whether a folder is to be measured (again): soon where it changes, else once a day."""
    if size is None:
        return True
    if kept.kind == "deleted":
        return False
    age = (now - datetime.fromisoformat(size.measured)).total_seconds()
    changes = in_use or used_until > size.measured
    return age >= (max(every_s, _TIMES_AS_LONG * size.took) if changes else _DAY_S)


class Sizes:
    """The sizes of all people's folders below the root."""

    def __init__(self, settings: Settings, store: SizeStore) -> None:
        self._settings = settings
        self._store = store
        self._complained: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    async def standing(self, owner: str) -> Standing:
        """How a person stands, by what was measured last."""
        kept, sizes = await self._kept(owner), await self._store.sizes(owner)
        return judge(kept, sizes, fresh(self._settings).storage)

    async def check_room(self, owner: str) -> None:
        """Raises `StorageFull` if a person keeps as much as one person may; measured anew for that answer."""
        if (await self.standing(owner)).state != "full":
            return
        try:
            await within(_LOOK_AGAIN_S, self._measure_anew(owner))
        except (TimeoutError, asyncio.TimeoutError):
            log.warning("measuring the files of %s takes long: judged by older figures", owner)
        standing = await self.standing(owner)
        if standing.state == "full":
            raise StorageFull(
                f"You keep {shown_bytes(standing.used)}, and one person may keep "
                f"{shown_bytes(standing.limit)} here.",
                "Delete a project that you do not need (page `My projects`), clean up in a server that runs, "
                "start without keeping files (storage `ephemeral`), or ask the administrator for more "
                "(`storage.max_bytes_per_person`).",
            )

    async def measure(self, kept: Kept) -> SizeRow | None:
        """Measure one folder and keep the figure; None, and one line in the log, if it cannot be."""
        began = asyncio.get_running_loop().time()
        try:
            said = await run_as_owner(Path(kept.path), "measure.py", _TIMEOUT_S)
        except ProjectError as error:
            if kept.path not in self._complained:
                self._complained.add(kept.path)
                log.warning("%s", error)
            return None
        took = asyncio.get_running_loop().time() - began
        size = SizeRow(kept.path, kept.owner, said["bytes"], said["entries"], said["whole"], took, utc_now())
        await self._store.set_size(size)
        return size

    async def round(self, used_until: Mapping[str, str], in_use: Iterable[str]) -> None:
        """Measure what is due, one folder at a time, and forget what is gone.

        `used_until` tells by path when a project was used last, `in_use` which folders are used now.
        """
        busy = frozenset(in_use)
        known = await self._store.sizes()  # before the look: what comes meanwhile is not taken for gone
        everything = await in_thread(
            lambda: [
                each for name, folder in people(self._settings.storage_root) for each in kept_of(name, folder)
            ]
        )
        for path in set(known) - {each.path for each in everything}:
            await self._store.forget_size(path)
        for each in everything:
            if is_due(
                each,
                known.get(each.path),
                used_until=used_until.get(each.path, ""),
                in_use=each.path in busy,
                every_s=self._settings.storage.measure_every_s,
                now=datetime.now(timezone.utc),
            ):
                async with self._one_at_a_time:
                    await self.measure(each)

    async def _measure_anew(self, owner: str) -> None:
        known = await self._store.sizes(owner)
        for each in await self._kept(owner):
            age = _age(known.get(each.path))
            if age is None or (age > _FRESH_S and each.kind != "deleted"):
                await self.measure(each)

    async def _kept(self, owner: str) -> list[Kept]:
        root = self._settings.storage_root
        return await in_thread(lambda: kept_of(owner, person_folder(root, owner)))


def _age(size: SizeRow | None) -> float | None:
    """Seconds since it was measured."""
    if size is None:
        return None
    return (datetime.now(timezone.utc) - datetime.fromisoformat(size.measured)).total_seconds()
