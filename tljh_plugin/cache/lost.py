"""Records of images that Docker lost: some weeks later they go as well, unless they are pinned.

Until then an image may come back under its old record, from a file or by a build that makes the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from ..engine import Engine
from ..store import ImageRow, Store, utc_now
from .inventory import Inventory

_KEPT = timedelta(days=28)
_NOTE = "lost "


class Lost:
    """`await tidy()` from time to time."""

    def __init__(self, store: Store, engine: Engine, inventory: Inventory) -> None:
        self._store = store
        self._engine = engine
        self._inventory = inventory

    async def tidy(self) -> None:
        """Note which images Docker lost, and forget those of weeks ago. Raises `BinderError`."""
        if not self._inventory.looked or self._inventory.problem is not None:
            return
        snapshot = self._inventory.snapshot
        lost = {row.image_id: row for row in snapshot.recorded if row.image_id not in snapshot.present}
        notes = await self._store.notes()
        noted = {name.removeprefix(_NOTE): since for name, since in notes.items() if name.startswith(_NOTE)}
        for image_id in noted.keys() - lost.keys():
            await self._store.set_note(_NOTE + image_id, "")
        before = (datetime.now(timezone.utc) - _KEPT).isoformat(timespec="milliseconds")
        for image_id, row in lost.items():
            if image_id not in noted:
                await self._store.set_note(_NOTE + image_id, utc_now())
            elif noted[image_id] < before and not row.pin_holds() and await self._is_so_still(row):
                await self._store.forget_image(image_id, row.created)
                await self._store.audit("system", "image.lost", row.name, f"since {noted[image_id]}")
                self._inventory.wake()

    async def _is_so_still(self, row: ImageRow) -> bool:
        """The list may be a minute old."""
        unchanged = await self._store.image(row.image_id) == row
        return unchanged and await self._engine.image(row.image_id) is None
