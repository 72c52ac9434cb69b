"""Notes in the audit log which settings were changed in their file, also while the service did not run.

The file says who may do what, so a change of it is to be found where all others are. Who changed it nobody
tells us, and the values stay in the file: the keys are noted.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from ..errors import BinderError
from ..installation import secret
from ..settings import Settings, fresh
from ..store import Store

log = logging.getLogger("littlest_binder.service")

PERIOD_S = 15.0
_NOTE = "settings"
_WHO = "the settings' file"
_MOST = 40  # keys in one entry


class ChangedSettings:
    """`start`, later `await stop`; `await look()` by hand."""

    def __init__(self, settings: Settings, store: Store, *, period_s: float = PERIOD_S) -> None:
        self._settings = settings
        self._store = store
        self._period_s = period_s
        self._seen: Settings | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="changed-settings")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> list[str]:
        """The keys that have another value than at the last look, and note them. Raises `StoreError`."""
        now = await asyncio.to_thread(fresh, self._settings)
        if now is self._seen:
            return []
        marks = await asyncio.to_thread(self._marks, now)
        known = (await self._store.notes()).get(_NOTE)
        before: dict[str, str] = json.loads(known) if known else marks
        changed = sorted(key for key in {*marks, *before} if marks.get(key) != before.get(key))
        if changed:
            more = f" and {len(changed) - _MOST} more" if len(changed) > _MOST else ""
            await self._store.audit(_WHO, "settings.change", ", ".join(changed[:_MOST]) + more, "in force")
        if changed or not known:
            await self._store.set_note(_NOTE, json.dumps(marks))
        self._seen = now
        return changed

    def _marks(self, settings: Settings) -> dict[str, str]:
        """Of each key a mark of its value that tells nothing of it."""
        own = secret(settings)
        return {
            key: hmac.digest(own, f"{key}={value}".encode(), "sha256").hex()[:16]
            for key, value in _flat(settings.model_dump(mode="json", exclude_unset=True))
        }

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except (BinderError, OSError) as error:
                log.info("Whether settings were changed is looked at again later: %s", error)
            await asyncio.sleep(self._period_s)


def _flat(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    """`section.key` and its value as text; what is in a list is one value."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", json.dumps(value, sort_keys=True)
